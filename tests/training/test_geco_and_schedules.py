"""GECO and the schedules against hand-computed values."""

import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from emorl.models.emorl import refinement_steps
from emorl.models.parts.geco import Geco, GecoSettings
from emorl.training.schedules import learning_rate

SETTINGS = dict(target=-2.0, step_size=0.01, alpha=0.9, floor=0.55, warm_start=2, speedup=1.0)


def test_geco_follows_the_released_updates():
    geco = Geco(GecoSettings(**SETTINGS), values=10)  # target -20 nats per image
    for step in (0, 1):
        geco.update(torch.tensor(-5.0), step)
        assert geco.weight(step) == 1
    assert (geco.ema, geco.zeta) == (0, pytest.approx(0.55))
    geco.update(torch.tensor(-5.0), 2)
    assert geco.ema == -15  # initialised at the warm start's end: target - NLL
    geco.update(torch.tensor(-10.0), 3)
    ema = 0.9 * -15 + 0.1 * -10
    assert geco.ema.item() == pytest.approx(ema)
    assert geco.zeta.item() == pytest.approx(0.55 - 0.01 * ema)
    assert geco.weight(4).item() == pytest.approx(math.log1p(math.exp(0.55 - 0.01 * ema)))
    assert geco.weight_after_training() == geco.weight(4)
    nll, kl = torch.tensor(-10.0, requires_grad=True), torch.tensor(3.0, requires_grad=True)
    loss = geco.loss(nll, kl, 4)
    assert loss.item() == pytest.approx(3 - geco.weight(4).item() * ema)
    assert torch.autograd.grad(loss, (nll, kl)) == (geco.weight(4), 1)


def test_geco_never_falls_below_its_floor_and_speeds_up_once_met():
    geco = Geco(GecoSettings(**SETTINGS | {"speedup": 5.0}), values=10)
    with torch.no_grad():
        geco.zeta.fill_(9.0)
    geco.update(torch.tensor(-30.0), 2)
    geco.update(torch.tensor(-30.0), 3)
    assert geco.zeta.item() == pytest.approx(9 - 5 * 0.01 * 10)
    for step in range(4, 60):
        geco.update(torch.tensor(-30.0), step)
    assert geco.zeta.item() == pytest.approx(0.55)


def test_without_geco_the_weight_is_one_and_the_loss_the_negative_elbo():
    geco = Geco(None, values=10)
    geco.update(torch.tensor(-5.0), 5000)
    assert geco.weight(5000) == 1
    assert geco.weight_after_training() == 1
    assert geco.loss(torch.tensor(-5.0), torch.tensor(3.0), 5000) == -2


def schedule(**changed):
    values = dict(learning_rate=4e-4, warmup_steps=10_000, decay_rate=0.5, decay_steps=100_000, decay_from="warmup")
    return SimpleNamespace(**(values | changed))


def test_learning_rate_counts_its_decay_from_the_end_of_the_warm_up():
    assert learning_rate(0, schedule()) == 0
    assert learning_rate(5_000, schedule()) == pytest.approx(2e-4)
    assert learning_rate(10_000, schedule()) == pytest.approx(4e-4)
    assert learning_rate(110_000, schedule()) == pytest.approx(2e-4)
    assert learning_rate(60_000, schedule()) == pytest.approx(4e-4 * 0.5**0.5)


def test_learning_rate_may_decay_from_the_first_step_on():
    assert learning_rate(5_000, schedule(decay_from="start")) == pytest.approx(2e-4 * 0.5**0.05)
    assert learning_rate(100_000, schedule(decay_from="start")) == pytest.approx(2e-4)


def test_without_warm_up_the_first_step_has_the_full_rate():
    assert learning_rate(0, schedule(warmup_steps=0)) == pytest.approx(4e-4)


@given(st.dictionaries(st.integers(1, 50), st.integers(0, 5)), st.integers(0, 60))
def test_curriculum_takes_the_last_entry_that_has_begun(later, step):
    curriculum = {0: 3} | dict(sorted(later.items()))
    expected = 3
    for start, value in curriculum.items():
        if start <= step:
            expected = value
    assert refinement_steps(step, curriculum) == expected
