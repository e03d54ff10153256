"""Looking writes nothing, and what was made is told by its own records, whatever has been looked at or made since."""

import os
import signal
import time

import pytest

SLOWER = "def update(self, progress: Progress) -> None:\n        time.sleep(1)"
LOOKS = {
    ("-n",): "datasets=clevr6 seeds=[7]",
    ("--lint",): "",
    ("--summary",): "models=slot_attention",
    ("--dag",): "seeds=1",
    ("-n", "--forceall"): "",
    ("--unlock",): "",
}
"""Ways to look, each at a selection."""
CELL = ("why", "table1 tetrominoes emorl", "--scale", "test")


def emorl(workspace, *arguments, status=0):
    return workspace.run("python", "-m", "emorl", *arguments, status=status)


def test_planning_writes_nothing(workspace):
    before = workspace.contents()
    for look, config in LOOKS.items():
        workspace.snakemake("reproduce_all", *look, config=config)
    assert workspace.contents() == before


@pytest.mark.drill
def test_asking_writes_nothing(workspace):
    before = workspace.contents()
    for question in (CELL, ("plan", "table1", "--scale", "test", "--models", "emorl"), ("verify", "--scale", "test")):
        emorl(workspace, *question)
    assert workspace.contents() == before


@pytest.mark.drill
def test_what_is_looked_at_beside_a_running_workflow_is_not_what_it_makes(workspace):
    """Nor what another workflow asks for that is turned away."""
    for path in (workspace.root / "reports/test").glob("table1.*"):
        path.unlink()
    workspace.edit(
        "emorl/reporting/figures/artifacts.py",
        lambda text: text.replace("    chosen = list(", "    import time; time.sleep(5)\n    chosen = list("),
    )
    command = ["snakemake", "--cores", "2", "--config", "scale=test", "models=emorl", "datasets=tetrominoes"]
    running = workspace.start(*command, start_new_session=True)
    log = workspace.root / "logs/draw/test/table1.log"
    written = log.stat().st_mtime_ns
    while log.exists() and log.stat().st_mtime_ns == written:
        assert running.poll() is None, running.stdout.read()
        time.sleep(0.1)
    os.killpg(running.pid, signal.SIGSTOP)  # until they have their answers
    assert workspace.planned(config="seeds=1")["draw_table1"] == 1
    assert "Directory cannot be locked" in workspace.snakemake(config="seeds=1", status=1)
    os.killpg(running.pid, signal.SIGCONT)
    output, _ = running.communicate()
    assert running.returncode == 0, output
    assert len(workspace.runs()) == 2
    assert not workspace.planned()


@pytest.mark.drill
def test_another_selection_changes_nothing_of_what_is_told_of_a_table(workspace):
    before = emorl(workspace, *CELL)
    workspace.snakemake("-n", config="seeds=1")
    workspace.snakemake("draw_fig18", config="seeds=[1]")
    assert emorl(workspace, *CELL) == before
    assert "every number matches" in emorl(workspace, "verify", "--scale", "test")


@pytest.mark.drill
def test_more_seeds_than_the_scale_has_are_runs_like_others(workspace):
    workspace.snakemake(config="seeds=3")
    assert [run["seed"] for run in workspace.runs()] == [0, 1, 2]
    assert "every number matches" in emorl(workspace, "verify", "--scale", "test")
    emorl(workspace, "archive", "--scale", "test", "--out", "results.zip")


@pytest.mark.drill
def test_a_picture_that_later_selections_leave_out_stays_what_it_is(workspace):
    """Table 1 of another system, which makes no decompositions of EfficientMORL."""
    workspace.snakemake("draw_table1", config="models=slot_attention")
    (run,) = workspace.runs()
    assert "/slot_attention/" in run["folder"]
    assert "/slot_attention/" in emorl(workspace, "why", "table1 tetrominoes slot_attention", "--scale", "test")
    told = emorl(workspace, *CELL, status=1)
    assert (
        told == "error: table1 at scale test has no cell 'tetrominoes emorl': it has tetrominoes slot_attention base\n"
    )
    emorl(workspace, "report", "--scale", "test")
    page = (workspace.root / "reports/test/index.html").read_text()
    assert "Decompositions, Tetrominoes" in page
    assert run["folder"] in page
    assert "every number matches" in emorl(workspace, "verify", "--scale", "test")
    emorl(workspace, "archive", "--scale", "test", "--out", "results.zip")


def test_a_drawing_is_refused_that_is_not_the_one_planned(finished):
    before = finished.contents()
    selection = ("--scale", "test", "--models", "emorl", "--datasets", "tetrominoes")
    told = emorl(finished, "draw", "table1", *selection, "--expect", "0123456789", status=1)
    assert told == "error: table1 was planned otherwise: code or params/ have changed since; start the workflow again\n"
    told = emorl(finished, "draw", "table9", *selection, status=1)
    assert told.startswith("error: there is no table or figure 'table9': there are table1, table2,")
    assert finished.contents() == before


def test_the_cause_of_a_failed_drawing_is_on_the_terminal(workspace):
    (workspace.root / "reports/test/table1.json").unlink()
    workspace.edit(
        "emorl/reporting/figures/artifacts.py",
        lambda text: text.replace("    chosen = list(", '    raise RuntimeError("the cause")\n    chosen = list('),
    )
    assert "RuntimeError: the cause" in workspace.snakemake("draw_table1", status=1)
