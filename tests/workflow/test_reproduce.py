"""The full run at scale test: what it writes, and what it says."""

import re

from PIL import Image


def test_every_artifact_is_written(finished):
    report = finished.root / "reports/test"
    names = {path.name for path in report.iterdir()}
    tables = {f"table1.{ending}" for ending in ("csv", "md", "pdf", "png", "json", "txt")}
    assert tables | {"decompositions_tetrominoes.png", "claims.csv", "index.html", "page.json"} <= names
    for name in ("table1.png", "decompositions_tetrominoes.png"):
        Image.open(report / name).verify()
    assert "reports/test/index.html" in (finished.root.parent / "run.log").read_text()


def test_the_page_tells_where_a_number_comes_from(finished):
    page = (finished.root / "reports/test/index.html").read_text()
    run = finished.runs()[0]["folder"]
    assert run in page
    assert "98.2 ± 1.8" in page
    told = finished.run("python", "-m", "emorl", "why", "table1 tetrominoes emorl", "--scale", "test")
    assert run in told
    assert "emorl train --scale test --dataset tetrominoes --model emorl --variant base --seed 0" in told
    assert "every number matches" in finished.run("python", "-m", "emorl", "verify", "--scale", "test")


def test_what_no_longer_matches_is_named(workspace):
    path = workspace.root / "reports/test/table1.csv"
    path.write_text(path.read_text().replace(",fg_ari,0.", ",fg_ari,0.9", 1))
    workspace.edit("params/test.yaml", lambda text: text.replace("learning_rate: 1.0e-3", "learning_rate: 3.0e-3"))
    told = workspace.run("python", "-m", "emorl", "verify", "--scale", "test", status=1)
    assert "table1: table1.csv does not hold what its runs' evaluations say" in told
    assert "code or params/ have changed since" in told


def test_the_table_says_what_it_is(finished):
    text = (finished.root / "reports/test/table1.txt").read_text()
    assert max(map(len, text.splitlines())) <= 80
    assert text.startswith("Table 1, TEST of the pipeline, not a reproduction (scale: test)")
    assert "Tetrominoes (replica)" in text
    table = finished.json("reports/test/table1.json")["table"]
    (row,) = table["rows"]
    assert (row["source"], row["started"], row["finished"], row["failed"]) == ("replica", 2, 2, [])
    assert text.strip() in (finished.root.parent / "run.log").read_text()  # shown at the end of the run


def test_progress_tells_step_rate_and_time_left(finished):
    log = (finished.root.parent / "run.log").read_text()
    line = r"^\[tetrominoes/emorl/base seed {}\] step \d+/12 [\d.e+]+/s \S+s left nll \S+ kl \S+$"
    for seed in (0, 1):
        assert re.search(line.format(seed), log, re.MULTILINE), log


def test_git_sees_no_results(finished):
    assert finished.run("git", "status", "--porcelain") == ""
