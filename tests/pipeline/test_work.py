"""What a step does, counted without computing it, and how long that takes on a device."""

import numpy as np
import pytest
import torch

from emorl.models import model_names
from emorl.pipeline import config, work
from emorl.pipeline.work import DEVICES, Device, StepCounter, Work


def counter(model, dataset="tetrominoes", scale="test", batch=2):
    settings = config.load_scale(scale)
    block = config.block(settings, model, dataset, "base")
    return StepCounter(model, block.model, settings.datasets[dataset].image_size, batch, torch.float32)


@pytest.mark.parametrize("name", model_names())
def test_every_model_is_counted_and_stays_as_it_was(name):
    counted = counter(name)
    before = [weight.clone() for weight in counted.model.parameters()]
    work = counted.work(0)
    assert (work.bytes >= 0).all()
    assert 0 < work.flops.sum() < counter(name, batch=4).work(0).flops.sum()
    assert all(torch.equal(a, b) for a, b in zip(before, counted.model.parameters(), strict=True))


def test_what_was_counted_is_kept_for_the_same_code_settings_and_step(tmp_path, monkeypatch):
    monkeypatch.setattr(work, "CACHE", tmp_path)
    first = counter("slot_mlp").kept_work(0)
    monkeypatch.setattr(StepCounter, "work", lambda *_: Work(np.zeros(1), np.zeros(1)))
    again = counter("slot_mlp").kept_work(0)
    assert np.array_equal(first.flops, again.flops)
    assert np.array_equal(first.bytes, again.bytes)
    for other in (counter("slot_mlp", batch=3).kept_work(0), counter("slot_mlp").kept_work(1)):
        assert len(other.flops) == 1
    monkeypatch.setattr(work, "code_digest", lambda _: "edited")
    assert len(counter("slot_mlp").kept_work(0).flops) == 1


def test_products_are_those_that_are_computed():
    """Of the same step, by PyTorch's own counter."""
    from torch.utils.flop_counter import FlopCounterMode

    counted = counter("slot_attention")
    with FlopCounterMode(display=False) as truth:
        counted.model.accumulate_gradients(torch.rand(2, 3, 12, 12), 0, torch.Generator())
    assert counted.work(0).flops.sum() == truth.get_total_flops()


def test_phases_follow_the_curriculum():
    """Scale test: I = 2 until step 6, then 1; the warm start ends with step 3, which is alone in its phase."""
    assert counter("emorl").phases(16) == [(0, 3), (3, 1), (4, 2), (6, 10)]
    assert counter("slot_mlp").phases(16) == [(0, 16)]


def test_a_kernel_takes_as_long_as_what_is_longest_of_it():
    device = Device("a device", torch.float32, tflops=1, gb_per_s=1, microseconds=1, reached=(0.25, 0.5), slower=3)
    work = Work(flops=np.array([1e12, 0, 0]), bytes=np.array([1.0, 2e9, 0]))
    assert device.seconds(work) == pytest.approx((2 + 2 + 1e-6, 4 + 6 + 3e-6))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dataset", "kernels", "tflop", "milliseconds"), [("tetrominoes", 1600, 0.29, 5), ("clevr6", 1100, 3.6, 25)]
)
def test_one_step_on_an_h100_is_what_its_roofline_says(dataset, kernels, tflop, milliseconds):
    """benchmarks/gpu/README.md has the roofline."""
    settings = config.load_scale("paper")
    block = config.block(settings, "emorl", dataset, "base")
    size = settings.datasets[dataset].image_size
    counted = StepCounter("emorl", block.model, size, block.training.batch_size, torch.bfloat16)
    start, _ = counted.phases(block.training.steps)[-1]
    work = counted.work(start)
    low, high = DEVICES["h100"].seconds(work)
    assert len(work.flops) == pytest.approx(kernels, rel=0.1)
    assert work.flops.sum() / 1e12 == pytest.approx(tflop, rel=0.02)
    assert low < milliseconds / 1e3 < high
