"""Metrics against scikit-learn, brute force and predictions whose worth is known."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from sklearn.metrics import adjusted_rand_score

from emorl.evaluation.parts.segmentation import (
    adjusted_rand_index,
    background_share,
    contingency,
    mean_best_overlap,
    mean_iou,
    segment,
)

label_maps = arrays(np.uint8, (2, 4, 5), elements=st.integers(0, 3))


@settings(max_examples=300, deadline=None)
@given(label_maps, label_maps)
def test_ari_equals_scikit_learn(truth, prediction):
    found = adjusted_rand_index(truth, prediction, foreground_only=False)
    expected = [adjusted_rand_score(t.ravel(), p.ravel()) for t, p in zip(truth, prediction, strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-12)


@settings(max_examples=300, deadline=None)
@given(label_maps, label_maps)
def test_foreground_ari_drops_true_background_pixels_and_nothing_else(truth, prediction):
    found = adjusted_rand_index(truth, prediction, foreground_only=True)
    for score, t, p in zip(found, truth, prediction, strict=True):
        kept = t > 0
        assert score == pytest.approx(adjusted_rand_score(t[kept], p[kept]) if kept.any() else 0.0)


def test_ari_ignores_the_names_of_slots():
    rng = np.random.default_rng(0)
    truth, prediction = rng.integers(0, 4, (2, 1, 8, 8))
    renamed = np.array([3, 0, 2, 1])[prediction]
    assert adjusted_rand_index(truth, prediction, True) == adjusted_rand_index(truth, renamed, True)


def test_large_images_do_not_overflow():
    truth = np.zeros((1, 1200, 1200), np.uint8)
    truth[:, :600] = 1
    assert adjusted_rand_index(truth, truth, foreground_only=False) == [1.0]


@settings(max_examples=100, deadline=None)
@given(label_maps, label_maps)
def test_mean_best_overlap_against_brute_force(truth, prediction):
    for found, t, p in zip(mean_best_overlap(truth, prediction), truth, prediction, strict=True):
        best = [
            max(
                ((t == o) & (p == s)).sum() / ((t == o) | (p == s)).sum()
                for s in range(4)
                if ((t == o) | (p == s)).any()
            )
            for o in range(1, 4)
            if (t == o).any()
        ]
        assert found == pytest.approx(np.mean(best) if best else 0.0)


@settings(max_examples=100, deadline=None)
@given(label_maps, label_maps)
def test_mean_iou_against_all_matchings(truth, prediction):
    for found, t, p in zip(mean_iou(truth, prediction), truth, prediction, strict=True):
        objects = [o for o in range(1, 4) if (t == o).any()]
        totals = [
            sum(
                ((t == o) & (p == s)).sum() / max(((t == o) | (p == s)).sum(), 1)
                for o, s in zip(objects, slots, strict=True)
            )
            for slots in permutations(range(4), len(objects))
        ]
        assert found == pytest.approx(max(totals) / len(objects) if objects else 0.0)


def test_the_background_is_whole_in_one_segment_or_split():
    truth = np.array([[0, 0, 0, 0, 1, 1]] * 3)
    prediction = np.array([[2, 2, 2, 2, 2, 0], [0, 1, 2, 2, 2, 2], [0, 1, 2, 3, 3, 3]])
    np.testing.assert_allclose(background_share(truth, prediction), [1, 1 / 2, 1 / 4])


def test_contingency_counts():
    table = contingency(np.array([0, 1, 1, 3]), np.array([2, 0, 2, 2]))
    assert table.tolist() == [[0, 0, 1], [1, 0, 1], [0, 0, 0], [0, 0, 1]]


def test_soft_masks_are_resized_before_the_arg_max():
    """Two slots of 2x2 pixels: bicubic interpolation decides the pixels between them, as Pillow does it."""
    masks = np.array([[[[0.9, 0.4], [0.9, 0.4]], [[0.1, 0.6], [0.1, 0.6]]]], np.float32)
    expected = np.stack([np.asarray(Image.fromarray(m).resize((8, 8), Image.Resampling.BICUBIC)) for m in masks[0]])
    found = segment(masks, 8, 8)
    assert (found[0] == expected.argmax(0)).all()
    assert found.shape == (1, 8, 8)
    nearest = masks[0].argmax(0).repeat(4, 0).repeat(4, 1)
    assert (found[0] != nearest).any()
