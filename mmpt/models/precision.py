"""Autocast (mixed precision), only with hardware support."""

import contextlib
import functools
import logging
from collections.abc import Iterator
from pathlib import Path

import torch

log = logging.getLogger(__name__)

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
CPU_FLAGS = {
    "bf16": {"amx_bf16", "avx512_bf16", "bf16"},  # x86, x86, ARM
    "fp16": {"amx_fp16", "avx512_fp16", "fphp"},
}


@functools.cache
def autocast_dtype(wanted: str | None, device: str) -> torch.dtype | None:
    """The dtype for torch.autocast on a device type ("cpu", "cuda", ...), None for float32.

    wanted: "bf16", "fp16" or None. Returns None, with a warning, if the hardware would emulate it, which is
    much slower than float32.
    """
    if wanted is None:
        return None
    assert wanted in DTYPES, wanted
    if computes_in(wanted, device):
        log.info("computing in %s (autocast) on %s", wanted, device)
        return DTYPES[wanted]
    log.warning("model.autocast is %s, but this %s would only emulate it: computing in fp32", wanted, device)
    return None


def computes_in(kind: str, device: str) -> bool:
    """Whether a device type has instructions for "bf16" or "fp16"."""
    if device == "cuda":
        return kind == "fp16" or torch.cuda.is_bf16_supported(including_emulation=False)
    if device == "cpu":
        return bool(CPU_FLAGS[kind] & cpu_flags())
    return False


@contextlib.contextmanager
def matmul_precision(wanted: str) -> Iterator[None]:
    """Compute float32 matrix products in "highest" or "high" precision (model.matmul_precision)."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(wanted)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@functools.cache
def cpu_flags() -> frozenset[str]:
    """CPU flags from /proc/cpuinfo; empty where there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()
