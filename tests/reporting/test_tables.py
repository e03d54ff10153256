"""Tables from hand-made evaluations, through the verb that makes an artifact: numbers, failures, forms."""

import json

import pandas as pd
import pytest
from PIL import Image

from emorl.errors import UserError
from emorl.reporting import measures, tables
from emorl.reporting.artifacts import _scores, _shown, make_artifact

ARIS = {0: 0.98, 1: 0.96, 2: None}
PAPER = {("tetrominoes", "emorl", "base", "ari"): {"mean": 98.2, "std": 1.8, "n": 5}}
ARI = {"ari": {"title": "ARI x 100", "factor": 100.0, "digits": 1}}
MSE = {"mse": {"title": "MSE x 10000", "factor": 1e4, "digits": 1}}


@pytest.fixture
def plan(tmp_path):
    """A plan of a table of one row with three seeds, one of them failed; its evaluations lie in tmp_path."""
    runs = []
    for seed, ari in ARIS.items():
        path = f"runs/seed{seed}/evaluation.json"
        evaluation = {
            "summary": {"ari": ari, "mse": 0.01},
            "images_scored": 320,
            "origin": {"data": {"scenes": {"train": 49_123, "test": 320, "validation": 320}}},
            "controls": {"true_masks": {"ari": 1.0}, "one_slot": {"ari": 0.0}, "random_slots": {"ari": -0.0001}}
            | {"untrained": {"ari": 0.03}},
        }
        if ari is None:
            evaluation = {"failed": "diverged at step 7: loss is nan"}
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text(json.dumps(evaluation))
        runs.append(
            {"seed": seed, "folder": f"runs/seed{seed}", "file": path, "arrays": f"runs/seed{seed}/evaluation.npz"}
        )
    series = {
        "model": "emorl",
        "model_title": "EfficientMORL",
        "label": "EfficientMORL",
        "dataset": "tetrominoes",
        "dataset_title": "Tetrominoes",
        "source": "replica",
        "variant": "base",
        "evaluation": "decomposition",
        "split": "test",
        "at": None,
        "runs": runs,
    }
    artifact = {"title": "Table 1", "caption": "ARI", "draw": "table", "metrics": ARI, "images": None}
    artifact |= {"scale": "demo", "purpose": "demonstration", "needs_runs": True, "series": [series]}
    (tmp_path / "reports").mkdir()
    return {"scale": "demo", "purpose": "demonstration", "artifacts": {"table1": artifact}}


def built(plan, root):
    artifact = plan["artifacts"]["table1"]
    return tables.build(artifact, measures.gather(artifact, root), PAPER)


def test_failed_seeds_are_counted_and_left_out_of_the_mean(plan, tmp_path):
    (row,) = built(plan, tmp_path)["rows"]
    (cell,) = row["cells"]
    assert cell["mean"] == pytest.approx(97.0)
    assert cell["std"] == pytest.approx(2**0.5)
    assert cell["high"] - cell["mean"] == pytest.approx(12.706 * 2**0.5 / 2**0.5, rel=1e-3)
    assert (row["started"], row["finished"], row["failed"]) == (3, 2, [2])
    assert cell["seeds"] == {0: pytest.approx(98), 1: pytest.approx(96)}


def test_every_form_says_what_it_is(plan, tmp_path):
    folder = tmp_path / "reports"
    make_artifact("table1", plan, folder, tmp_path, PAPER, None)
    for ending in ("txt", "md"):
        text = (folder / f"table1.{ending}").read_text()
        for needed in ("DEMONSTRATION, not a reproduction", "97.0 ± 1.4", "98.2 ± 1.8", "3/2/1", "replica", "49123"):
            assert needed in text
        assert "seed 2 (diverged)" in " ".join(text.split())
    assert max(map(len, (folder / "table1.txt").read_text().splitlines())) <= 80
    Image.open(folder / "table1.png").verify()
    assert (folder / "table1.pdf").read_bytes().startswith(b"%PDF")
    frame = pd.read_csv(folder / "table1.csv")
    assert list(frame.columns) == list(measures.COLUMNS)
    assert measures.of_seeds(frame, "ari") == {0: 0.98, 1: 0.96}
    assert measures.of_seeds(frame, "failed") == {2: 1.0}


def test_with_several_metrics_the_papers_numbers_are_a_line_of_their_own(plan, tmp_path):
    plan["artifacts"]["table1"]["metrics"] = ARI | MSE
    table = built(plan, tmp_path)
    ours, paper = tables.lines(table, table["rows"][0])
    assert ours == ["EfficientMORL", "97.0 ± 1.4", "100.0 ± 0.0", "3/2/1"]
    assert paper == ["  paper", "98.2 ± 1.8", "-", ""]
    assert "  paper" in tables.as_text(table)


def test_a_row_whose_seeds_all_failed_still_stands(plan, tmp_path):
    series = plan["artifacts"]["table1"]["series"][0]
    series["runs"] = series["runs"][2:]
    assert "1/0/1" in tables.as_text(built(plan, tmp_path))
    assert list(_shown(plan["artifacts"]["table1"], tmp_path)) == []


def test_a_picture_shows_the_median_seed(plan, tmp_path, monkeypatch):
    monkeypatch.setattr("emorl.reporting.artifacts.np.load", lambda path: {})
    ((title, _),) = _shown(plan["artifacts"]["table1"], tmp_path)
    assert title == "EfficientMORL on Tetrominoes (replica), seed 1, ARI 96.0"


def test_an_artifact_without_runs_is_an_error(plan, tmp_path):
    plan["artifacts"]["table1"]["series"] = []
    with pytest.raises(UserError, match=r"params/demo\.yaml trains none of the chosen models .* Table 1 shows"):
        make_artifact("table1", plan, tmp_path / "reports", tmp_path, PAPER, None)


def test_measures_hold_what_is_varied(plan, tmp_path):
    artifact = plan["artifacts"]["table1"]
    path = tmp_path / "runs/seed0/evaluation.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"summary": {"ari": {"0": 0.5, "1": 0.75}}, "controls": {}}))
    frame = measures.gather(artifact, tmp_path)
    found = frame[(frame.seed == 0) & (frame.metric == "ari")]
    assert list(zip(found["at"], found.value, strict=True)) == [(0.0, 0.5), (1.0, 0.75)]
    artifact["series"][0]["at"] = 3.0
    assert set(measures.gather(artifact, tmp_path)["at"]) == {3.0}


def test_the_small_print_has_means_over_seeds_by_label():
    values = [("A", 0, 0.5), ("A", 1, 0.7), ("B", 0, 0.1)]
    frame = pd.DataFrame(values, columns=["label", "seed", "value"]).assign(metric="changed_outside")
    assert _scores(frame) == ["mean share of pixels outside of the moved slot that change: A 0.60; B 0.10"]
    assert _scores(frame.assign(metric="ari")) == []
