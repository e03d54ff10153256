"""What a training process makes of memory that it frees."""

import os
import platform
import subprocess
import sys

import pytest

PAGES = """
import resource, sys, psutil, torch
from emorl.runtime import cpu

if sys.argv[1] == "kept":
    cpu.use(1)
torch.ones(2**25)  # 128 MB, freed at once
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(2**24)
fresh = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
held = psutil.Process().memory_info().rss
cpu.release_free_memory()
print(fresh, held - psutil.Process().memory_info().rss, torch.get_num_threads())
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators are left as they are")
def test_freed_memory_is_used_again_until_it_is_released():
    kept, returned = (
        [int(number) for number in subprocess.check_output([sys.executable, "-c", PAGES, how], text=True).split()]
        for how in ("kept", "returned")
    )
    assert kept[2] == 1
    assert kept[0] < returned[0] / 4
    assert kept[1] > 100e6 > returned[1]


@pytest.mark.parametrize(("chosen", "expected"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")])
def test_openmp_is_told_to_wait_asleep_before_it_is_loaded(chosen, expected):
    others = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    program = "import sys, os, emorl; print('torch' in sys.modules, os.environ['OMP_WAIT_POLICY'])"
    said = subprocess.run(
        [sys.executable, "-c", program], env=others | chosen, capture_output=True, text=True, check=True
    )
    assert said.stdout.split() == ["False", expected]
