"""glibc keeps large freed blocks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import ctypes
from mmpt.utils.allocator import keep_freed_memory
libc = ctypes.CDLL(None)
class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in
                "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]
libc.mallinfo2.restype = Info
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
mapped = []
done = []
for keep in (False, True):
    done.append(keep_freed_memory() if keep else None)
    before = libc.mallinfo2().hblks
    libc.malloc(100 << 20)
    mapped.append(libc.mallinfo2().hblks - before)
print(done[1], *mapped)
"""


HEAP = """
import sys
from mmpt.utils.allocator import keep_freed_memory
kept = [keep_freed_memory(), keep_freed_memory()]
advised, total, name = 0, 0, ""
for line in open("/proc/self/smaps"):
    first, *rest = line.split()
    if not first.endswith(":"):
        name = line.split()[-1]
    elif name == "[heap]" and first == "Size:":
        total += (size := int(rest[0]))
    elif name == "[heap]" and first == "VmFlags:" and "hg" in rest:
        advised += size
print(kept, advised // 1024, total // 1024 < 900)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_keep_freed_memory() -> None:
    plain = usual_environment()
    for environment, expected in (
        (plain, "True 1 0"),
        ({**plain, "MALLOC_MMAP_THRESHOLD_": "100000"}, "False 1 1"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == expected


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
@pytest.mark.skipif(not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="no huge pages here")
@pytest.mark.parametrize(("limit", "advised"), [("unlimited", 768), ("500000", 0)])
def test_the_heap_is_in_huge_pages_once(limit: str, advised: int) -> None:
    """Of a process that may not have that much memory: without them."""
    done = subprocess.run(
        ["sh", "-c", f'ulimit -v {limit} && exec "$0" -c "$1"', sys.executable, HEAP],
        env=usual_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == f"[True, True] {advised} True"


def usual_environment() -> dict[str, str]:
    """The environment, without settings of the allocator."""
    return {
        key: value
        for key, value in os.environ.items()
        if not key.startswith("MALLOC_") and key != "LD_PRELOAD"
    }
