"""glibc keeps large freed blocks."""

import os
import subprocess
import sys

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


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_keep_freed_memory() -> None:
    plain = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith("MALLOC_") and key != "LD_PRELOAD"
    }
    for environment, expected in (
        (plain, "True 1 0"),
        ({**plain, "MALLOC_MMAP_THRESHOLD_": "100000"}, "False 1 1"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == expected
