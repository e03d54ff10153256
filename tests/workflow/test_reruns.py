"""What is made again after a change: exactly what the change can alter, with and without Snakemake's records."""

import os
import re
import shutil

import pytest

REPORT = {"draw_table1": 1, "draw_decompositions_tetrominoes": 1, "page": 1}
EVALUATE = {"evaluate": 2} | REPORT
RETRAIN = {"train": 2} | EVALUATE
PREPARE = {"fetch": 1, "prepare": 1} | RETRAIN

LEARNING_RATE = ("params/test.yaml", "learning_rate: 1.0e-3", "learning_rate: 2.0e-3")
CHANGES = {
    "model": (("emorl/models/emorl.py", "self.settings.D**-0.5", "self.settings.D**-0.4"), RETRAIN),
    "training": (("emorl/training/schedules.py", "step / settings.warmup", "(step + 1) / settings.warmup"), RETRAIN),
    "parameter": (LEARNING_RATE, RETRAIN),
    "evaluation": (("emorl/evaluation/parts/segmentation.py", "counted = t > 0", "counted = t >= 0"), EVALUATE),
    "preparation": (("emorl/data/prepare.py", "resize(scene.image,", "resize(scene.image[::-1],"), PREPARE),
    "reporting": (("emorl/reporting/figures/style.py", '"font.size": 8', '"font.size": 9'), REPORT),
}
"""An edit that changes numbers, or pictures (file, old text, new text), and what is made again."""


def edit(workspace, change):
    name, old, new = change
    workspace.edit(name, lambda text: text.replace(old, new))


def modified(workspace):
    """When each file of data and runs was written last."""
    files = [path for folder in ("data", "runs") for path in (workspace.root / folder).rglob("*") if path.is_file()]
    return {path: path.stat().st_mtime_ns for path in files}


LESS_OFTEN = [pytest.param(change, marks=pytest.mark.drill) for change in ("model", "evaluation")]


@pytest.mark.parametrize("change", [*sorted(CHANGES.keys() - {"model", "evaluation"}), *LESS_OFTEN])
def test_a_change_reruns_what_it_can_alter(workspace, change):
    how, expected = CHANGES[change]
    edit(workspace, how)
    assert workspace.planned() == expected


@pytest.mark.drill
def test_so_it_does_without_records(workspace):
    how, expected = CHANGES["model"]
    edit(workspace.forget(), how)
    assert workspace.planned() == expected


def test_what_changes_no_result_reruns_nothing(workspace):
    workspace.edit("emorl/models/emorl.py", lambda text: '"""Said otherwise."""\n' + text + "\n# A remark.\n")
    workspace.edit("emorl/tracking/watch.py", lambda text: text + "\nEDITED = True\n")
    edit(workspace, ("params/demo.yaml", *LEARNING_RATE[1:]))
    assert not workspace.planned()


def test_nothing_is_done_twice(workspace):
    assert "Nothing to be done" in workspace.snakemake("reproduce_table1")
    assert not workspace.forget().planned()


@pytest.mark.drill
def test_a_change_taken_back_leaves_nothing_to_do(workspace):
    original = (workspace.root / "params/test.yaml").read_text()
    edit(workspace, LEARNING_RATE)
    workspace.planned()
    workspace.edit("params/test.yaml", lambda text: original)
    assert not workspace.planned()


def test_scales_share_data_and_runs_that_they_make_alike(workspace):
    shutil.copy(workspace.root / "params/test.yaml", workspace.root / "params/other.yaml")
    assert workspace.planned(config="scale=other") == REPORT


def test_snakemakes_own_triggers_have_no_say(workspace):
    """A word in a rule, a time stamp, a lost record of Snakemake's: the next version of the project may bring any."""
    for rules in ("data", "runs", "report"):
        workspace.edit(f"workflow/rules/{rules}.smk", lambda text: text.replace("-m emorl", "-W default -m emorl"))
    for path in modified(workspace):
        os.utime(path)
    assert not workspace.planned()
    assert workspace.planned("prepare_data") == {"prepare_data": 1}  # the target alone
    assert not workspace.forget().planned()


@pytest.mark.drill
def test_force_makes_no_data_and_no_run_again(workspace):
    before = modified(workspace)
    assert workspace.planned("--forceall", "reproduce_table1") == REPORT
    assert workspace.planned("prepare_data", "--forceall") == {"prepare_data": 1}  # the target alone
    assert not workspace.planned("reproduce_table1", "--forcerun", "fetch", "prepare", "train", "evaluate")
    rest = {"train": 1, "evaluate": 1} | REPORT
    assert workspace.planned("reproduce_table1", "--forcerun", "prepare", config="seeds=3") == rest
    workspace.snakemake("--forceall", "reproduce_table1")
    assert modified(workspace) == before


@pytest.mark.drill
def test_a_run_that_is_trained_again_by_its_name_is_the_same_run(workspace):
    """The engine has no step left to take, so the run keeps the origin of those it took."""
    run = workspace.runs()[0]["folder"]
    before = (workspace.root / run / "manifest.json").read_bytes()
    workspace.edit("README.md", lambda text: text + "\n")
    workspace.run("git", "commit", "--quiet", "--all", "--message=Another commit")
    workspace.snakemake(f"{run}/manifest.json", "--forcerun", "train")
    assert (workspace.root / run / "manifest.json").read_bytes() == before
    assert not workspace.planned()


@pytest.mark.drill
def test_a_file_that_is_fetched_again_by_force_is_there_until_the_new_one_is(workspace):
    """The new one may never come: here, as the published file cannot be reached."""
    workspace.edit("params/test.yaml", lambda text: text.replace("source: replica", "source: published", 1))
    output = workspace.snakemake("-n", "prepare_data")
    raw = workspace.root / re.search(r"output: (data/raw/\S+)", output)[1]
    raw.parent.mkdir(parents=True, exist_ok=True)
    raw.write_bytes(b"the user's own file, damaged as it may be")
    workspace.snakemake(str(raw.relative_to(workspace.root)), "--forcerun", "fetch", status=1)
    assert raw.read_bytes() == b"the user's own file, damaged as it may be"


@pytest.mark.drill
def test_an_evaluation_with_other_numbers_is_drawn_anew(workspace):
    file = workspace.runs()[0]["file"]
    workspace.edit(file, lambda text: re.sub(r'("summary": \{\s+"fg_ari": )[\d.e-]+', r"\g<1>0.5", text))
    os.utime(workspace.root / file, (0, 0))  # it is not newer, it is another
    assert workspace.planned() == REPORT
    assert "is not the file that it was made from" in workspace.snakemake("-n")
    told = workspace.run("python", "-m", "emorl", "verify", "--scale", "test", status=1)
    assert f"table1: {file} is not the file that it was made from" in told
    workspace.run("python", "-m", "emorl", "report", "--scale", "test")
    page = (workspace.root / "reports/test/index.html").read_text()
    assert f"<li>table1: {file} is not the file that it was made from</li>" in page
    assert 'id="table1"' not in page
    workspace.snakemake()
    assert 'id="table1"' in (workspace.root / "reports/test/index.html").read_text()
    assert not workspace.planned()


@pytest.mark.drill
def test_a_table_made_for_another_selection_is_made_again(workspace, finished, tmp_path):
    """Even one that comes from storage and is newer than everything, and whatever Snakemake remembers."""
    other = finished.copy(tmp_path / "other")
    other.snakemake("draw_table1", config="seeds=1")
    report = workspace.root / "reports/test"
    for path in (other.root / "reports/test").glob("table1.*"):
        shutil.copyfile(path, report / path.name)
    assert len(workspace.runs()) == 1
    assert workspace.planned() == {"draw_table1": 1, "page": 1}
    assert workspace.planned("reports/test/table1.png") == {"draw_table1": 1}
    workspace.forget().snakemake("draw_table1")
    assert len(workspace.runs()) == 2


def test_a_picture_that_was_deleted_is_made_again(workspace):
    (workspace.root / "reports/test/table1.png").unlink()
    assert workspace.planned()["draw_table1"] == 1


@pytest.mark.drill
def test_the_record_of_an_older_version_is_a_reason_to_draw_anew(workspace):
    (workspace.root / "reports/test/table1.json").write_text('{"rows": []}')
    assert workspace.planned() == {"draw_table1": 1, "page": 1}
    workspace.snakemake()
    assert len(workspace.runs()) == 2
