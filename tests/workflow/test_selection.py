"""`--config`: what it selects, and how mistakes are answered."""

import pytest

ONE_MORE = {"train": 1, "evaluate": 1, "draw_table1": 1, "draw_decompositions_tetrominoes": 1, "page": 1}


@pytest.mark.parametrize("config", ["seeds=3", "datasets=tetrominoes models=emorl seeds=[1,2]"])
def test_a_selection_trains_what_is_missing(workspace, config):
    assert workspace.planned(config=config) == ONE_MORE


@pytest.mark.parametrize(("config", "sentence"), [
    ("sclae=test", "--config sclae: not a known option; known are scale, datasets, models, seeds"),
    ("scale=big", "there is no scale 'big': known are demo, paper, test (files in params/)"),
    ("datasets=clevr", "datasets=clevr is not to be had here: allowed are tetrominoes, "
     "multi_dsprites, multi_dsprites_textured, clevr6, clevr10"),
    ("seeds=0", "seeds=0 must be a number of seeds, at least 1, or a list such as [0,5]"),
])  # fmt: skip
def test_a_mistake_is_answered_in_one_sentence(clone, config, sentence):
    lines = clone.snakemake("-n", config=config, status=1).splitlines()
    assert lines == [f"error: {sentence}"]
