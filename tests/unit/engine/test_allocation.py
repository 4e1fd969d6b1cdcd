"""Freed memory is kept for the next array: no page has to be asked for again."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import numpy as np
from vitreous.engine.allocation import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    arrays = [np.ones(1 << 20, dtype=np.float32) for _ in range(4)]
    del arrays
before = faults()
for _ in range(20):
    arrays = [np.ones(1 << 20, dtype=np.float32) for _ in range(4)]
    del arrays
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to keep memory")
def test_memory_that_was_freed_is_used_again():
    kept, left = (
        int(subprocess.run([sys.executable, "-c", FAULTS, word], capture_output=True, text=True, check=True).stdout)
        for word in ("keep", "leave")
    )
    # Twenty times four arrays of 4 MB are 80,000 pages of 4 kB, or 160 of 2 MB where the kernel gives such.
    assert kept < 0.1 * left or left < 1000
