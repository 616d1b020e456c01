"""Memory that is kept for the next step instead of being given back to the system after each tensor."""

import ctypes
import logging
import os
import sys

log = logging.getLogger(__name__)

_TRIM_THRESHOLD = -1  # as in malloc.h
_TOP_PAD = -2
_MMAP_THRESHOLD = -3
_ARENA_MAX = -8
_LARGEST = (1 << 31) - 1
_BIGGEST_BLOCK = 1 << 30
_SPARE = 1 << 26


def keep_freed_memory(one_arena: bool = False) -> bool:
    """Let the C library (glibc) reuse large blocks; True if it could be told.

    By default glibc asks the system for every block over 32 MiB anew and returns it when it is freed. A
    gradient of a word table or the activations of a large batch are such blocks, in every step; the system
    then has to hand out and clear each page again, which on virtual machines can take longer than computing
    on it. From here on freed memory up to 1 GiB a block stays with the process: it holds on to its peak.
    `one_arena`: threads share one heap too, because the heaps of other threads give memory back whatever
    they are told. Does nothing on other systems, or where MALLOC_MMAP_THRESHOLD_ is set or another allocator
    is preloaded.
    """
    if (
        not sys.platform.startswith("linux")
        or "MALLOC_MMAP_THRESHOLD_" in os.environ
        or "LD_PRELOAD" in os.environ
    ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return False
    done = bool(mallopt(_MMAP_THRESHOLD, _BIGGEST_BLOCK)) and bool(mallopt(_TRIM_THRESHOLD, _LARGEST))
    if one_arena:
        done = bool(mallopt(_ARENA_MAX, 1)) and bool(mallopt(_TOP_PAD, _SPARE)) and done
    if not done:
        log.debug("the C library refused to keep freed memory")
    return done
