"""Progress lines: readable, rare, and within 80 columns at paper scale."""

from types import SimpleNamespace

import pytest

from emorl.training import progress
from emorl.training.engine import Progress


def test_lines_come_at_intervals_and_at_the_end(capsys, monkeypatch):
    clock = iter([100.0, 101.0, 116.0, 117.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    line = progress.ProgressLine("tetrominoes/emorl/base seed 0")
    for step in (1000, 1100, 2000, 200_000):
        line.update(Progress(step, 200_000, 9.76, {"nll": -4021.3, "kl": 98.52, "loss": 1.0}))
    printed = capsys.readouterr().out.splitlines()
    assert [text.split("step ")[1].split("/")[0] for text in printed] == ["1000", "2000", "200000"]
    assert printed[1].startswith("[tetrominoes/emorl/base seed 0] step 2000/200000 9.76/s 5h38m left")
    assert max(map(len, printed)) <= 100


@pytest.mark.parametrize(("seconds", "text"), [(0, "0s"), (59.6, "1m00s"), (695, "11m35s"), (61_500, "17h05m")])
def test_duration(seconds, text):
    assert progress.duration(seconds) == text


def test_lines_say_whether_slots_bind(capsys, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0)
    line = progress.ProgressLine("run")
    scored = {100: 0.04, 600: 0.12, 700: 0.53, 800: 0.7}
    for step in (50, 100, 200, 600, 700, 800, 850):
        line.update(Progress(step, 1000, 10, {"validation_fg_ari": scored[step]} if step in scored else {}))
    ends = [text.partition(" left")[2].strip() for text in capsys.readouterr().out.splitlines()]
    plateau = "FG-ARI 12, slots do not bind yet: docs/demo.md tells of this plateau"
    bound = "slots have begun to bind at step 700"
    assert ends == ["", "FG-ARI 4", "FG-ARI 4", plateau, f"FG-ARI 53, {bound}", *[f"FG-ARI 70, {bound}"] * 2]


def test_a_run_that_goes_on_bound_or_falls_back_says_so(capsys, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0)
    line = progress.ProgressLine("run")
    for step, score in {100: 0.6, 200: 0.1, 300: 0.7}.items():
        line.update(Progress(step, 1000, 10, {"validation_fg_ari": score}))
    ends = [text.partition(" left")[2].strip() for text in capsys.readouterr().out.splitlines()]
    assert ends == [
        "FG-ARI 60, slots have begun to bind",
        "FG-ARI 10",
        "FG-ARI 70, slots have begun to bind at step 300",
    ]


def test_a_line_is_written_in_one_piece(monkeypatch):
    """Two trainings beside each other write to one log, perhaps without a buffer."""
    pieces = []
    monkeypatch.setattr("sys.stdout", SimpleNamespace(write=pieces.append, flush=lambda: None))
    line = progress.ProgressLine("run")
    line.update(Progress(10, 1000, 10, {"nll": -1.0}))
    line.finish("finished")
    assert pieces == ["[run] step 10/1000 10/s 1m39s left nll -1\n", "[run] finished\n"]
