"""Freed memory is found again: a large block costs fresh pages once, not every time."""

import gc
import subprocess
import sys

import pytest

from reticket.experiment import memory

COUNT = """
import resource, runpy, sys
memory = runpy.run_path(sys.argv[1])
if sys.argv[2] == "keep":
    assert memory["keep_freed_memory"]()
for _ in range(2):
    bytearray(b"x") * (100 * 2**20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    bytearray(b"x") * (100 * 2**20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(way: str) -> int:
    command = [sys.executable, "-c", COUNT, memory.__file__, way]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc keeps memory when it is told to")
def test_a_block_of_100_mb_costs_its_pages_once() -> None:
    assert faults("keep") < 200
    assert faults("return") > 2000


def test_the_collector_waits_and_goes_on_as_it_was() -> None:
    with memory.without_collecting():
        assert not gc.isenabled()
        with memory.without_collecting():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ValueError, match="odd"), memory.without_collecting():
        raise ValueError("odd")
    assert gc.isenabled()
