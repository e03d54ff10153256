"""Progress lines: readable, rare, and within 80 columns at paper scale."""

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
