"""Scores and examples of the bottom-up layers."""

import numpy as np
import pytest
from performing import performed
from test_refinement import job_of

from emorl.evaluation import layers
from emorl.runtime.errors import UserError


def test_layers_are_scored_and_shown(prepared, tmp_path):
    job = job_of("emorl", prepared, tmp_path, examples=3)
    result = performed("layers", job)
    L, K = job.build().settings.L, job.build().settings.K
    numbers = [str(layer + 1) for layer in range(L)]
    assert all(list(row) == numbers for row in result.summary.values())
    assert result.summary.keys() == {"fg_ari_layer", "mse_layer", "kl_from_initial"}
    assert min(result.summary["kl_from_initial"].values()) > 0

    arrays = np.load(job.arrays_path)
    assert arrays["reconstruction"].shape == (3, L + 1, 3, 12, 12)
    assert arrays["masks"].shape == (3, L + 1, K, 12, 12)
    assert arrays["attention"].shape == (3, L, K, 12, 12)
    np.testing.assert_allclose(arrays["attention"].sum(2), 1, rtol=1e-5)


def test_a_model_without_layers_is_named(prepared, tmp_path):
    with pytest.raises(UserError, match="Slot Attention has no layers"):
        layers.evaluate(job_of("slot_attention", prepared, tmp_path))
