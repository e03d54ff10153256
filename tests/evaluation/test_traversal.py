"""Activeness, traversals and leak of models whose every pixel is known."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from performing import performed
from test_refinement import job_of

from emorl.data.store import load_split
from emorl.evaluation import leak, traversal
from emorl.evaluation.interface import Evaluation, EvaluationJob
from emorl.models.interface import Decomposition, Model

SIZE, K, D = 12, 2, 3
HALVES = torch.zeros(K, SIZE, SIZE)
HALVES[0, :, : SIZE // 2] = 1
HALVES[1, :, SIZE // 2 :] = 1


class TwoHalves(Model):
    """Slot 0 is the left half, slot 1 the right one; latent 0 is a slot's red, the others do nothing.

    Where it leaks, slot 0 is the red of both halves.
    """

    def __init__(self, leaks: bool = False):
        torch.nn.Module.__init__(self)
        self.device_marker = torch.nn.Parameter(torch.zeros(()))
        self.leaks = leaks

    def decompose(self, images, inference, generator):
        latents = torch.rand(len(images), K, D, generator=generator)
        reconstructions, masks = self.decode(latents)
        return Decomposition(masks, reconstructions, latents, (masks[:, :, None] * reconstructions).sum(1))

    def decode(self, latents):
        reconstructions = torch.zeros(len(latents), K, 3, SIZE, SIZE)
        red = latents[:, :1, 0] if self.leaks else latents[:, :, 0]
        reconstructions[:, :, 0] = red[:, :, None, None]
        return reconstructions, HALVES.expand(len(latents), -1, -1, -1)

    accumulate_gradients = None


TwoHalves.__abstractmethods__ = frozenset()


def run(evaluation: str, model: Model, prepared, folder) -> tuple[Evaluation, dict[str, np.ndarray]]:
    job = job_of("emorl", prepared, folder)
    job = EvaluationJob(**(vars(job) | {"build": lambda: model}))
    return performed(evaluation, job), dict(np.load(job.arrays_path))


def test_activeness_is_the_variance_of_the_pixels(prepared, tmp_path):
    result, arrays = run("traversal", TwoHalves(), prepared, tmp_path)
    low, high = result.kept["range"]["low"][0], result.kept["range"]["high"][0]
    assert 0 <= low < high <= 1
    values = np.linspace(low, high, 3)
    expected = values.var(ddof=1) / 2 / 3  # half of the pixels, one of three channels
    assert result.summary["activeness"] == {"0": pytest.approx(expected, rel=1e-4), "1": 0, "2": 0}
    assert result.summary["active_share"] == pytest.approx(1 / 3)
    assert arrays["dimensions"][0, 0] == 0


def test_example_traversals_move_one_slot_and_nothing_else(prepared, tmp_path):
    result, arrays = run("traversal", TwoHalves(), prepared, tmp_path)
    n, S, V = 2, 2, 3
    assert arrays["scenes"].shape == (n, S, D, V, 3, SIZE, SIZE)
    values = np.linspace(result.kept["range"]["low"][0], result.kept["range"]["high"][0], V)
    for image in range(n):
        for number, slot in enumerate(arrays["slots"][image]):
            half = HALVES[slot].numpy() == 1
            np.testing.assert_array_equal(arrays["objects"][image, number], half)
            for value, scene in zip(values, arrays["scenes"][image, number, 0], strict=True):
                np.testing.assert_allclose(scene[0, half], 255 * value, atol=0.51)
                np.testing.assert_array_equal(scene[:, ~half], arrays["reconstruction"][image][:, ~half])


def test_independent_slots_do_not_leak(prepared, tmp_path):
    result, arrays = run("leak", TwoHalves(), prepared, tmp_path)
    summary = result.summary
    assert result.kept["dimension"] == 0
    assert summary["changed_inside"] > 0.5
    assert summary["changed_outside"] == summary["changed_objects"] == summary["changed_outside_first"] == 0
    for image, slots in enumerate(arrays["slots"]):
        assert list(slots) == [0, 1]
        assert not (arrays["changed"][image] & ~arrays["objects"][image]).any()


def test_a_slot_that_rules_the_scene_leaks_through_its_whole_outside(prepared, tmp_path):
    summary = run("leak", TwoHalves(leaks=True), prepared, tmp_path)[0].summary
    assert summary["changed_outside_first"] == summary["changed_objects_first"] == summary["changed_inside_first"] > 0.5
    assert summary["changed_outside"] == pytest.approx(summary["changed_outside_first"] / 2)  # slot 1 does nothing


class CutsAnew(TwoHalves):
    """Has its two slots side by side in every other image that it is given, else on top of each other."""

    given = 0

    def decompose(self, images, inference, generator):
        result = super().decompose(images, inference, generator)
        self.given += 1
        masks = HALVES if self.given % 2 else HALVES.mT
        return Decomposition(
            masks.expand_as(result.masks),
            *[getattr(result, n) for n in ("reconstructions", "latents")],
            result.reconstruction,
        )


def test_two_inferences_agree_or_do_not(prepared, tmp_path):
    """Among objects' pixels, whatever the background is cut into."""
    assert run("leak", TwoHalves(), prepared, tmp_path)[0].summary["ari_of_two_inferences"] == 1
    assert run("leak", CutsAnew(), prepared, tmp_path)[0].summary["ari_of_two_inferences"] < 0.7


@pytest.mark.parametrize("model", ["slot_attention", "genesis", "genesis_s", "monet"])
def test_every_kind_of_model_can_be_traversed(model, prepared, tmp_path):
    job = job_of(model, prepared, tmp_path)
    assert max(performed("traversal", job).summary["activeness"].values()) > 0
    assert 0 <= performed("leak", job).summary["changed_inside"] <= 1


@given(st.integers(0, 2**32 - 1))
def test_changed_shares_are_those_counted_pixel_by_pixel(seed):
    rng = np.random.default_rng(seed)
    N, slots, ends, side = 2, 3, 2, 3
    changed = rng.random((N, slots, ends, side, side)) < 0.5
    owners = rng.integers(0, slots - rng.integers(2), (N, side, side))  # at times a slot owns nothing
    foreground = rng.random((N, 2 * side, 2 * side)) < 0.5
    shares = leak.changed_shares(changed, owners, foreground)
    for n, k in np.ndindex(N, slots):
        counted = {name: [] for name in shares}
        for y, x in np.ndindex(side, side):
            share = changed[n, k, :, y, x].mean()
            inside = owners[n, y, x] == k
            counted["changed_inside" if inside else "changed_outside"].append(share)
            if not inside and foreground[n, 2 * y, 2 * x]:
                counted["changed_objects"].append(share)
        for name, values in counted.items():
            defined = values and (owners[n] == k).any()
            assert shares[name][n, k] == pytest.approx(np.mean(values) if defined else np.nan, nan_ok=True)


def test_slots_are_ordered_by_their_foreground(prepared):
    truth = load_split(prepared, "test").labels[:4]
    masks = np.random.default_rng(0).random((4, 5, *truth.shape[1:]))
    for n, slots in enumerate(traversal.slots_by_foreground(masks, truth)):
        counts = [((masks[n].argmax(0) == slot) & (truth[n] > 0)).sum() for slot in slots]
        assert sorted(slots) == list(range(5))
        assert counts == sorted(counts, reverse=True)
