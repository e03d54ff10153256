"""What is made again after a change: exactly what the change can alter, with and without Snakemake's records."""

import shutil

import pytest

REPORT = {"draw_table1": 1, "draw_decompositions_tetrominoes": 1, "page": 1}
EVALUATE = {"evaluate": 2} | REPORT
RETRAIN = {"train": 2} | EVALUATE
PREPARE = {"fetch": 1, "prepare": 1} | RETRAIN


def code(text):
    return text + "\nEDITED = True\n"


def learning_rate(text):
    return text.replace("learning_rate: 1.0e-3", "learning_rate: 2.0e-3")


CHANGES = {
    "model": ("emorl/models/emorl.py", code, RETRAIN),
    "training": ("emorl/training/geco.py", code, RETRAIN),
    "parameter": ("params/test.yaml", learning_rate, RETRAIN),
    "evaluation": ("emorl/evaluation/segmentation.py", code, EVALUATE),
    "reporting": ("emorl/reporting/style.py", code, REPORT),
    "preparation": ("emorl/data/prepare.py", code, PREPARE),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_reruns_what_it_can_alter(workspace, change):
    name, edit, expected = CHANGES[change]
    workspace.edit(name, edit)
    assert workspace.planned() == expected


@pytest.mark.parametrize("change", ["model", "parameter"])
def test_so_it_does_without_records(workspace, change):
    name, edit, expected = CHANGES[change]
    workspace.forget().edit(name, edit)
    assert workspace.planned() == expected


def test_what_changes_no_result_reruns_nothing(workspace):
    workspace.edit("emorl/models/emorl.py", lambda text: '"""Said otherwise."""\n' + text + "\n# A remark.\n")
    workspace.edit("emorl/tracking/follow.py", code)
    workspace.edit("params/demo.yaml", learning_rate)
    assert not workspace.planned()


def test_nothing_is_done_twice(workspace):
    assert "Nothing to be done" in workspace.snakemake("reproduce_table1")
    assert not workspace.forget().planned()


def test_a_change_taken_back_leaves_nothing_to_do(workspace):
    original = (workspace.root / "params/test.yaml").read_text()
    workspace.edit("params/test.yaml", learning_rate)
    workspace.planned()
    workspace.edit("params/test.yaml", lambda text: original)
    assert not workspace.planned()


def test_scales_share_data_that_they_prepare_alike(workspace):
    shutil.copy(workspace.root / "params/test.yaml", workspace.root / "params/other.yaml")
    assert workspace.planned(config="scale=other") == RETRAIN


def test_a_step_made_again_leaves_no_later_one_out(workspace):
    """Snakemake's treatment of `ancient` files would; see DONE in common.smk."""
    expected = {"prepare": 1, "train": 1, "evaluate": 1} | REPORT
    assert workspace.planned("reproduce_table1", "--forcerun", "prepare", config="seeds=3") == expected


def test_a_table_made_for_another_selection_is_made_again(workspace, finished, tmp_path):
    """Even one that comes from storage and is newer than everything, and whatever Snakemake remembers."""
    other = finished.copy(tmp_path / "other")
    other.snakemake("draw_table1", config="seeds=1")
    shutil.copytree(
        other.root / "reports/test", tmp_path / "stored", ignore=shutil.ignore_patterns("plan.json", ".page*")
    )

    report = workspace.root / "reports/test"
    for path in report.glob("*table1*"):
        path.unlink()
    shutil.copytree(tmp_path / "stored", report, dirs_exist_ok=True, copy_function=shutil.copyfile)
    assert workspace.json("reports/test/table1.json")["rows"][0]["started"] == 1
    assert workspace.planned() == {"draw_table1": 1, "page": 1}
    workspace.forget().snakemake("draw_table1")
    assert workspace.json("reports/test/table1.json")["rows"][0]["started"] == 2
