"""DVC: results are saved, pushed, pulled into another clone, and compared there."""

import json

DRAWN = {"draw_table1", "draw_decompositions_tetrominoes", "page"}


def test_saved_pushed_and_pulled_results_are_used_and_compared(workspace, tmp_path):
    other = type(workspace)(tmp_path / "other")
    workspace.edit("dvc.yaml", lambda text: text.replace("/demo", "/test"))
    workspace.run("dvc", "add", "--quiet", "data/prepared", "runs", "reports/test")
    workspace.run("git", "add", "--all")
    workspace.run("git", "commit", "--quiet", "--message=Results")
    assert workspace.run("git", "status", "--porcelain") == ""
    workspace.run("dvc", "remote", "add", "--local", "--default", "--quiet", "store", str(tmp_path / "store"))
    workspace.run("dvc", "push", "--quiet")
    assert not workspace.planned()

    workspace.run("git", "clone", "--quiet", str(workspace.root), str(other.root))
    other.run("dvc", "remote", "add", "--local", "--default", "--quiet", "store", str(tmp_path / "store"))
    other.run("dvc", "pull", "--quiet")
    assert "up to date" in other.run("dvc", "status")
    assert set(other.planned()) <= DRAWN
    other.edit("params/test.yaml", lambda text: text.replace("learning_rate: 1.0e-3", "learning_rate: 2.0e-3", 1))
    jobs = other.planned()
    assert jobs["train"] == jobs["evaluate"] == 2
    assert set(jobs) <= {"train", "evaluate"} | DRAWN
    changed = json.loads(other.run("dvc", "params", "diff", "--json"))["params/test.yaml"]
    assert changed["models.emorl.tetrominoes.training.learning_rate"] == {"old": 0.001, "new": 0.002, "diff": 0.001}

    # Results of another configuration stand for a run of it: what follows looks at numbers alone.
    ari = other.json("reports/test/table1.metrics.json")["tetrominoes"]["emorl"]["ari"]
    other.edit("reports/test/table1.metrics.json", lambda text: text.replace(str(ari), "0.75"))
    (shown,) = json.loads(other.run("dvc", "metrics", "diff", "--json"))["reports/test/table1.metrics.json"].items()
    assert shown[0] == "tetrominoes.emorl.ari"
    assert (shown[1]["old"], shown[1]["new"]) == (ari, 0.75)
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
