"""The CPU computes where there is no GPU or where it is asked for, and never in place of a GPU without a word."""

import pytest
import torch

from emorl.runtime import gpus
from emorl.runtime.device import device
from emorl.runtime.errors import UserError


@pytest.fixture
def gpu(monkeypatch):
    """A GPU that the driver lists and PyTorch cannot use."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-aa01")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")


def test_without_a_gpu_the_cpu_computes(gpu, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert device() == torch.device("cpu")


def test_a_driver_that_is_too_old_stops_with_what_to_do(gpu):
    with pytest.raises(UserError, match=r"GPU-aa01.* built for CUDA 13\.0, so update the driver.* --device cpu"):
        device()


def test_a_build_for_cpus_stops_with_what_to_do(gpu, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(UserError, match=r"a build for CPUs, so install .* CUDA_VISIBLE_DEVICES to nothing"):
        device()


def test_the_cpu_computes_on_purpose(gpu):
    gpus.show([])
    assert device() == torch.device("cpu")


@pytest.mark.parametrize(("capability", "usable"), [((6, 1), False), ((7, 5), True), ((9, 0), True)])
def test_a_gpu_older_than_what_pytorch_is_built_for_stops(gpu, monkeypatch, capability, usable):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_100", "sm_120", "compute_120"])
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA GeForce GTX 1080 Ti")
    if usable:
        assert device() == torch.device("cuda")
    else:
        with pytest.raises(UserError, match=r"GTX 1080 Ti has compute capability 6\.1, and PyTorch .* needs 7\.5"):
            device()
