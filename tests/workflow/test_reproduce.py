"""The full run at scale test: what it writes, and what it says."""

import re

from PIL import Image


def test_every_artifact_is_written(finished):
    report = finished.root / "reports/test"
    names = {path.name for path in report.iterdir()}
    tables = {f"table1.{ending}" for ending in ("csv", "md", "html", "png", "json", "txt")}
    assert tables | {"decompositions-tetrominoes.png", "metrics.json", "plan.json", ".tracked"} <= names
    for name in ("table1.png", "decompositions-tetrominoes.png"):
        Image.open(report / name).verify()
    assert finished.json("reports/test/metrics.json")["tetrominoes"]["emorl"]["seeds"] == 2


def test_the_table_says_what_it_is(finished):
    text = (finished.root / "reports/test/table1.txt").read_text()
    assert max(map(len, text.splitlines())) <= 80
    assert text.startswith("Table 1, TEST of the pipeline, not a reproduction (scale: test)")
    assert "Tetrominoes (replica)" in text
    table = finished.json("reports/test/table1.json")
    (row,) = table["rows"]
    assert (row["source"], row["started"], row["finished"], row["failed"]) == ("replica", 2, 2, 0)
    assert text.strip() in (finished.root.parent / "run.log").read_text()  # shown at the end of the run


def test_progress_tells_run_step_rate_and_time_left(finished):
    log = (finished.root.parent / "run.log").read_text()
    line = r"^\[run {}/2 tetrominoes/emorl/base seed {}\] step \d+/12 [\d.e+]+/s \S+s left nll \S+ kl \S+$"
    for seed in (0, 1):
        assert re.search(line.format(seed + 1, seed), log, re.MULTILINE), log


def test_git_sees_no_results(finished):
    assert finished.run("git", "status", "--porcelain") == ""
