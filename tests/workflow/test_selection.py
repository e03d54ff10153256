"""`--config`: what it selects, and how mistakes are answered."""

import pytest

from emorl.pipeline.plan import make_plan
from emorl.runtime.errors import UserError

ONE_MORE = {"train": 1, "evaluate": 1, "draw_table1": 1, "draw_decompositions_tetrominoes": 1, "page": 1}


@pytest.mark.parametrize("config", ["seeds=3", "datasets=tetrominoes models=emorl seeds=[1,2]"])
def test_a_selection_trains_what_is_missing(workspace, config):
    assert workspace.planned(config=config) == ONE_MORE


@pytest.mark.parametrize(("config", "sentence"), [
    ("sclae=test", "--config sclae: not a known option; known are scale, datasets, models, seeds, runs_per_gpu"),
    ("runs_per_gpu=0", "--config runs_per_gpu=0: a whole number from 1 is needed"),
    ("datasets=clevr", "datasets=clevr is not to be had here: allowed are tetrominoes, "
     "multi_dsprites, multi_dsprites_textured, clevr6, clevr10"),
])  # fmt: skip
def test_a_mistake_is_answered_in_one_sentence(clone, config, sentence):
    profile, *lines = clone.snakemake("-n", config=config, status=1).splitlines()
    assert profile == "Using workflow specific profile profiles/default for setting default command line arguments."
    assert lines == [f"error: {sentence}"]


def test_an_artifact_that_a_scale_leaves_out_is_answered_in_one_sentence(clone):
    said = clone.snakemake("-n", "reproduce_fig3", config="scale=demo", status=1).splitlines()
    assert (
        said[-1] == "error: params/demo.yaml trains none of the chosen runs that fig3 shows; scale small may have them"
    )


def test_a_target_that_is_not_there_is_answered_with_those_that_are(clone):
    said = clone.snakemake("-n", "reproduce_table9", status=1).splitlines()[-1]
    assert said.startswith("error: there is no target reproduce_table9; there are reproduce_table1, ")


@pytest.mark.parametrize(("scale", "selection", "sentence"), [
    ("big", {}, r"there is no scale 'big': known are beyond, demo, paper, .*test \(files in params/\)"),
    ("test", {"seeds": 0}, r"seeds=0 must be a number of seeds, from 1 to 1000, or a list such as 0,5 or 7,"),
])  # fmt: skip
def test_so_are_others(scale, selection, sentence):
    with pytest.raises(UserError, match=f"^{sentence}$"):
        make_plan(scale, selection)
