"""DVC: results are saved, pushed, pulled into another clone, verified, and compared there."""

import json

import pytest

DRAWN = {"draw_table1", "draw_decompositions_tetrominoes", "page"}
SELECTION = ("scale=test", "models=emorl", "datasets=tetrominoes")
PULL = ("workflow/scripts/pull.sh", "test", "reproduce_table1", *SELECTION[1:])
NOT_PUSHED = "outs:\n- {md5: 00000000000000000000000000000000.dir, size: 7, nfiles: 2, hash: md5, path: paper}\n"
"""Another scale's results, which the store lacks."""


@pytest.fixture
def pushed(workspace, tmp_path):
    """A workspace whose results are saved, committed and pushed to the folder `store`."""
    workspace.edit("dvc.yaml", lambda text: text.replace("/demo", "/test"))
    workspace.run("python", "workflow/scripts/save.py", "data/prepared", "runs", "reports/test")
    workspace.run("git", "add", "--all")
    workspace.run("git", "commit", "--quiet", "--message=Results")
    assert workspace.run("git", "status", "--porcelain") == ""
    add_store(workspace, tmp_path / "store")
    workspace.run("dvc", "push", "--quiet")
    assert not workspace.planned()
    return workspace


@pytest.fixture
def other(pushed, tmp_path):
    """A fresh clone of `pushed`, nothing pulled."""
    pushed.run("git", "clone", "--quiet", str(pushed.root), str(tmp_path / "other"))
    other = type(pushed)(tmp_path / "other")
    add_store(other, tmp_path / "store")
    return other


def add_store(workspace, folder):
    workspace.run("dvc", "remote", "add", "--local", "--default", "--quiet", "store", str(folder))


def test_one_command_pulls_and_verifies(other):
    (other.root / "reports/paper.dvc").write_text(NOT_PUSHED)
    output = other.run(*PULL)
    assert "Nothing to be done" in output
    assert "reports/test: every number matches its runs, data and code" in output
    assert not other.planned()
    (other.root / "reports/paper.dvc").unlink()
    assert "up to date" in other.run("dvc", "status")
    assert "error: reports/paper.dvc is not there" in other.run(PULL[0], "paper", *PULL[2:], status=1)


@pytest.mark.drill
def test_a_pull_takes_nothing_of_another_configuration_for_up_to_date(other):
    other.edit("params/test.yaml", lambda text: text.replace("learning_rate: 1.0e-3", "learning_rate: 2.0e-3", 1))
    output = other.run(*PULL, status=1)
    assert "rule train:" in output
    assert "rule draw_table1:" in output
    assert "code or params/ have changed since; they now ask for another run" in output


@pytest.mark.drill
def test_saved_pushed_and_pulled_results_are_used_and_compared(other):
    other.run("dvc", "pull", "--quiet")
    assert "up to date" in other.run("dvc", "status")
    assert not other.planned()
    other.edit("params/test.yaml", lambda text: text.replace("learning_rate: 1.0e-3", "learning_rate: 2.0e-3", 1))
    jobs = other.planned()
    assert jobs["train"] == jobs["evaluate"] == 2
    assert set(jobs) <= {"train", "evaluate"} | DRAWN
    changed = json.loads(other.run("dvc", "params", "diff", "--json"))["params/test.yaml"]
    assert changed["models.emorl.tetrominoes.training.learning_rate"] == {"old": 0.001, "new": 0.002, "diff": 0.001}

    # Results of another configuration stand for a run of it: what follows looks at numbers alone.
    fg_ari = other.json("reports/test/table1.metrics.json")["tetrominoes"]["emorl"]["fg_ari"]
    other.edit("reports/test/table1.metrics.json", lambda text: text.replace(str(fg_ari), "0.75"))
    (shown,) = json.loads(other.run("dvc", "metrics", "diff", "--json"))["reports/test/table1.metrics.json"].items()
    assert shown[0] == "tetrominoes.emorl.fg_ari"
    assert (shown[1]["old"], shown[1]["new"]) == (fg_ari, 0.75)
    assert "reports/test" in other.run("dvc", "status")
    other.run("dvc", "commit", "--force", "--quiet")
    other.run("dvc", "exp", "save", "--quiet", "--name", "faster")
    assert "faster" in other.run("dvc", "exp", "list")
    assert "0.75" in other.run("dvc", "exp", "show", "--csv")


def test_plots_show_the_table(workspace):
    def made_here(text):
        lines = text.replace("/demo", "/test").splitlines(keepends=True)
        return "".join(line for line in lines if "clevr6" not in line and "multi_dsprites" not in line)

    workspace.edit("dvc.yaml", made_here)
    plots = json.loads(workspace.run("dvc", "plots", "show", "--json"))["data"]
    assert plots["reports/test/table1.png"][0]["type"] == "image"
    assert plots["reports/test/decompositions_tetrominoes.png"][0]["type"] == "image"


def test_a_clone_without_results_can_be_asked(clone):
    for command in ("status", "data status", "params diff", "metrics show", "metrics diff", "plots show", "plots diff"):
        output = clone.run("dvc", *command.split())
        assert "ERROR" not in output, output
    assert clone.run("git", "status", "--porcelain") == ""
