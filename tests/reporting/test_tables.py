"""Tables from hand-made evaluations, through the verb that makes an artifact: numbers, failures, forms."""

import re

import pandas as pd
import pytest
from PIL import Image

from emorl.evaluation.interface import EvaluatedRun, Evaluation
from emorl.pipeline.records import Artifact, PlannedArtifact, Printed, Series, ShownRun
from emorl.reporting import claims, metrics
from emorl.reporting.figures import tables
from emorl.reporting.figures.artifacts import _chosen, _picture, _scores, make_artifact
from emorl.runtime.errors import UserError
from emorl.training.manifest import DataOrigin, Manifest

FG_ARIS = {0: 0.98, 1: 0.96, 2: None}
PAPER = {("tetrominoes", "emorl", "base", "fg_ari"): [Printed(mean=98.2, std=1.8, n=5)]}
CONTROLS = {
    "true_masks": {"fg_ari": 1.0},
    "one_slot": {"fg_ari": 0.0},
    "random_slots": {"fg_ari": -0.0001},
    "untrained": {"fg_ari": 0.03},
}


def evaluation(seed: int, fg_ari: float | dict[str, float] | None) -> Evaluation:
    scenes = {"train": 49_123, "test": 320, "validation": 320}
    data = DataOrigin(name="tetrominoes", source="replica", sha256="d", train_sha256="t", scenes=scenes)
    origin = EvaluatedRun(run=f"runs/seed{seed}", digest="0", seed=seed, data=data)
    if fg_ari is None:
        return Evaluation(origin=origin, split="test", failed="diverged at step 7: loss is nan")
    summary = {"fg_ari": fg_ari, "mse": 0.01}
    return Evaluation(origin=origin, split="test", images_scored=320, summary=summary, controls=CONTROLS)


@pytest.fixture
def artifact(tmp_path) -> PlannedArtifact:
    """A table of one row with three seeds, one of them failed; its evaluations lie in tmp_path."""
    runs = []
    for seed, fg_ari in FG_ARIS.items():
        stem = f"runs/seed{seed}/evaluation"
        evaluation(seed, fg_ari).write(tmp_path / f"{stem}.json")
        runs.append(
            ShownRun(
                seed=seed, folder=f"runs/seed{seed}", file=f"{stem}.json", arrays=f"{stem}.npz", score=f"{stem}.json"
            )
        )
    series = Series(
        model="emorl",
        model_title="EfficientMORL",
        label="EfficientMORL",
        dataset="tetrominoes",
        dataset_title="Tetrominoes",
        source="replica",
        variant="base",
        evaluation="decomposition",
        split="test",
        at=None,
        runs=runs,
    )
    return PlannedArtifact(
        title="Table 1",
        caption="FG-ARI",
        draw="table",
        metrics=["fg_ari"],
        images=None,
        scale="demo",
        purpose="demonstration",
        needs_runs=True,
        series=[series],
        benchmark=None,
    )


def with_series(artifact: PlannedArtifact, **changes) -> PlannedArtifact:
    return artifact.model_copy(update={"series": [artifact.series[0].model_copy(update=changes)]})


def built(artifact, root):
    return tables.build(artifact, metrics.gather(artifact, root), PAPER)


def test_failed_seeds_are_counted_and_left_out_of_the_mean(artifact, tmp_path):
    (row,) = built(artifact, tmp_path).rows
    (cell,) = row.cells
    assert cell.mean == pytest.approx(97.0)
    assert cell.std == pytest.approx(2**0.5)
    assert (cell.low, cell.high) == (None, None)
    assert (row.started, row.finished, row.failed) == (3, 2, [2])
    assert cell.seeds == {0: pytest.approx(98), 1: pytest.approx(96)}


def test_every_form_says_what_it_is(artifact, tmp_path):
    folder = tmp_path / "reports" / "demo"
    make_artifact("table1", artifact, tmp_path, PAPER, made_by="")
    for ending in ("txt", "md"):
        text = (folder / f"table1.{ending}").read_text()
        for needed in ("DEMONSTRATION, not a reproduction", "97.0 ± 1.4", "98.2 ± 1.8", "3/2/1", "replica", "49,123"):
            assert needed in text
        text = " ".join(text.split())
        assert "seed 2 (diverged)" in text
        assert "true masks 100.0, one slot 0.0, random slots 0.0." in text  # no minus zero
    assert max(map(len, (folder / "table1.txt").read_text().splitlines())) <= 80
    Image.open(folder / "table1.png").verify()
    assert (folder / "table1.pdf").read_bytes().startswith(b"%PDF")
    frame = pd.read_csv(folder / "table1.csv")
    assert list(frame.columns) == list(metrics.COLUMNS)
    assert metrics.of_seeds(frame, "fg_ari") == {0: 0.98, 1: 0.96}
    assert metrics.of_seeds(frame, "failed") == {2: 1.0}
    assert Artifact.read(folder / "table1.json").table == tables.build(artifact, frame, PAPER)


def test_texts_of_a_picture_do_not_overlap(artifact, tmp_path):
    wide = with_series(artifact, dataset_title="Tetrominoes in place of CLEVR6", label="without DualGRU")
    table = built(wide.model_copy(update={"metrics": ["fg_ari", "mse", "kl"]}), tmp_path)
    figure = tables.draw(table)
    (drawn,) = figure.axes[0].tables
    figure.draw_without_rendering()
    texts = {place: cell.get_text() for place, cell in drawn.get_celld().items() if cell.get_text().get_text()}
    cells = {place: text.get_window_extent() for place, text in texts.items()}
    beside = [(cells[row, column], cells[row, column + 1]) for row, column in cells if (row, column + 1) in cells]
    assert [(left.x1, right.x0) for left, right in beside if left.x1 >= right.x0] == []


def test_runs_that_have_not_bound_are_named(artifact, tmp_path):
    frame = metrics.gather(artifact, tmp_path)
    bound, other = (tables.build(artifact, frame, PAPER, bound=bound).notes for bound in (97.0, 90.0))
    assert "Not bound (FG-ARI x 100 below 97): EfficientMORL on Tetrominoes, seed 1 of 3." in bound
    assert not any("Not bound" in note for note in other)


def test_evaluations_that_are_not_there_are_a_sentence(artifact, tmp_path):
    (tmp_path / artifact.series[0].runs[0].file).unlink()
    with pytest.raises(UserError, match=r"seed0/evaluation.json is not there \(1 in all\): 'snakemake --cores all"):
        make_artifact("table1", artifact, tmp_path, PAPER, "")


def test_the_size_of_images_stands_below_the_table(artifact, tmp_path):
    table = built(with_series(artifact, image_size=35), tmp_path)
    assert any("images of 35 x 35 pixels" in note for note in table.notes)


def test_the_untrained_network_has_a_column_of_its_own(artifact, tmp_path):
    table = built(artifact, tmp_path)
    assert table.rows[0].untrained == pytest.approx(3.0)
    ((line),) = tables.lines(table, table.rows[0])
    assert dict(zip(tables.headers(table), line, strict=True))["Untrained"] == "3.0"


def test_an_interval_takes_three_seeds(artifact, tmp_path):
    """Of two both are shown."""

    def interval(fg_aris: list[float]) -> tuple[str, str]:
        for seed, fg_ari in enumerate(fg_aris):
            evaluation(seed, fg_ari).write(tmp_path / f"runs/seed{seed}/evaluation.json")
        table = built(with_series(artifact, runs=artifact.series[0].runs[: len(fg_aris)]), tmp_path)
        assert ("both values" in table.notes[0]) == (len(fg_aris) == 2)
        return tables.headers(table)[2], tables.lines(table, table.rows[0])[0][2]

    assert interval([0.98]) == ("Both seeds", "-")
    assert interval([0.98, 0.96]) == ("Both seeds", "98.0 and 96.0")
    assert interval([0.98, 0.96, 0.97]) == ("95 % t interval", "[94.5, 99.5]")


def test_with_several_metrics_the_papers_numbers_are_a_line_of_their_own(artifact, tmp_path):
    table = built(artifact.model_copy(update={"metrics": ["fg_ari", "mse"]}), tmp_path)
    ours, paper = tables.lines(table, table.rows[0])
    assert ours == ["EfficientMORL", "97.0 ± 1.4", "100.0 ± 0.0", "3/2/1"]
    assert paper == ["  paper", "98.2 ± 1.8", "-", ""]
    assert "  paper" in tables.as_text(table)


def test_a_wide_table_fits_a_terminal_of_80_columns(artifact, tmp_path):
    """Table 3, whose gaps are narrower."""
    four = ["disentanglement", "completeness", "informativeness", "informativeness_correct"]
    runs = []
    for seed in range(10):
        summary = {metric: 0.2 + 0.1 * (seed % 2) for metric in four}
        evaluation(seed, 0.9).model_copy(update={"summary": summary}).write(
            tmp_path / f"runs/seed{seed}/evaluation.json"
        )
        run = artifact.series[0].runs[0]
        runs.append(run.model_copy(update={"seed": seed, "file": run.file.replace("seed0", f"seed{seed}")}))
    ten = with_series(artifact, label="Slot Attention", runs=runs).model_copy(update={"metrics": four})
    text = tables.as_text(built(ten, tmp_path))
    assert " Slot Attention 0.25 ± 0.05" in text
    assert "10/10/0" in text
    assert max(map(len, text.splitlines())) <= 80


def test_the_papers_replication_stands_below_its_number(artifact, tmp_path):
    """Table 1's (**) row of Slot Attention on CLEVR6."""
    papers = {key: [*numbers, Printed(mean=93.3, std=11.1, n=5)] for key, numbers in PAPER.items()}
    table = tables.build(artifact, metrics.gather(artifact, tmp_path), papers)
    ours, replicated = tables.lines(table, table.rows[0])
    column = tables.headers(table).index("Paper")
    assert (ours[column], replicated[0], replicated[column]) == ("98.2 ± 1.8", "  (**)", "93.3 ± 11.1")
    assert len(ours) == len(replicated) == len(tables.headers(table))
    assert "(**): as the paper's authors replicated it." in table.notes[0]
    assert "(**)" not in built(artifact, tmp_path).notes[0]


def test_the_papers_table_has_both_numbers_of_slot_attention():
    numbers = claims.paper_values(claims.load_claims(), "table1")["clevr6", "slot_attention", "base", "fg_ari"]
    assert [(number.mean, number.std) for number in numbers] == [(98.8, 0.3), (93.3, 11.1)]


def test_a_row_whose_seeds_all_failed_still_stands(artifact, tmp_path):
    artifact = with_series(artifact, runs=artifact.series[0].runs[2:])
    assert "1/0/1" in tables.as_text(built(artifact, tmp_path))
    assert list(_chosen(artifact, tmp_path)) == []


def test_a_picture_shows_the_median_seed(artifact, tmp_path, monkeypatch):
    monkeypatch.setattr("emorl.reporting.figures.artifacts.np.load", lambda path: {})
    ((title, _),) = [_picture(artifact, chosen, tmp_path) for chosen in _chosen(artifact, tmp_path)]
    assert title == "EfficientMORL on Tetrominoes (replica), seed 1, FG-ARI\N{NO-BREAK SPACE}96.0"


def test_the_seed_of_another_evaluation_is_chosen_by_the_same_score(artifact, tmp_path):
    runs = [run.model_copy(update={"file": f"{run.folder}/layers.json"}) for run in artifact.series[0].runs]
    for run in runs:
        evaluation(run.seed, {"0": 0.5} if run.seed < 2 else None).write(tmp_path / run.file)
    layers = with_series(artifact, evaluation="layers", runs=runs)
    assert [(run.seed, score) for _, run, score in _chosen(layers, tmp_path)] == [(1, 0.96)]
    found = metrics.gather(layers, tmp_path)
    assert metrics.of_seeds(found, metrics.BINDING) == {0: 0.98, 1: 0.96}
    assert {shown for run in runs for shown in run.files} == set(layers.files)
    (tmp_path / runs[0].score).unlink()
    with pytest.raises(UserError, match=r"seed0/evaluation.json is not there"):
        make_artifact("layers", layers, tmp_path, {}, "")


def test_how_long_systems_of_one_data_set_were_trained_stands_below(artifact, tmp_path):
    short = artifact.series[0].model_copy(update={"label": "MONet", "model": "monet", "training": "100 steps"})
    long = artifact.series[0].model_copy(update={"training": "8,000 steps, I = 3, then 1"})
    both = built(artifact.model_copy(update={"series": [short, long]}), tmp_path).notes
    assert any("images for 100 steps (MONet); 8,000 steps, I = 3, then 1 (EfficientMORL); scored" in n for n in both)
    (alone,) = [
        note for note in built(with_series(artifact, training="100 steps"), tmp_path).notes if "scored on" in note
    ]
    assert "49,123 images for 100 steps; scored on 320 test images" in alone


def test_a_system_that_failed_hides_nothing_of_the_data(artifact, tmp_path):
    (series,) = artifact.series
    failed = series.model_copy(update={"label": "MONet", "model": "monet", "runs": series.runs[2:]})
    notes = built(artifact.model_copy(update={"series": [failed, series]}), tmp_path).notes
    assert "Tetrominoes: trained on 49,123 images; scored on 320 test images, background pixels left out." in notes


def test_what_no_column_shows_is_not_explained(artifact, tmp_path):
    notes = " ".join(built(artifact.model_copy(update={"metrics": ["mse"]}), tmp_path).notes)
    assert "controls" not in notes
    assert "background" not in notes


def test_an_artifact_without_runs_is_an_error(artifact, tmp_path):
    artifact = artifact.model_copy(update={"series": []})
    with pytest.raises(UserError, match=r"params/demo\.yaml trains none of the chosen models .* Table 1 shows"):
        make_artifact("table1", artifact, tmp_path, PAPER, made_by="")


def test_a_row_that_is_left_to_another_scale_says_to_which(artifact, tmp_path):
    evaluation(0, {"0": 0.5}).write(tmp_path / "runs/seed0/evaluation.json")
    left = artifact.series[0].model_copy(update={"model": "monet", "label": "MONet", "runs": []})
    table = built(artifact.model_copy(update={"elsewhere": [left], "left_to": "small"}), tmp_path)
    assert [row.label for row in table.rows] == ["EfficientMORL"]
    assert re.search(r"MONet +- +- .*\(small\)$", tables.as_text(table), re.MULTILINE)
    assert "Rows without numbers are left to scale (small), params/small.yaml." in table.notes


def test_metrics_hold_what_is_varied(artifact, tmp_path):
    evaluation(0, {"0": 0.5, "1": 0.75}).write(tmp_path / "runs/seed0/evaluation.json")
    frame = metrics.gather(artifact, tmp_path)
    found = frame[(frame.seed == 0) & (frame.metric == "fg_ari")]
    assert list(zip(found["at"], found.value, strict=True)) == [(0.0, 0.5), (1.0, 0.75)]
    assert set(metrics.gather(with_series(artifact, at=3.0), tmp_path)["at"]) == {3.0}


def test_metrics_of_the_training_stand_at_their_steps(artifact, tmp_path):
    """Those that figures show; a failed run has what it logged before, and is marked."""
    origin = evaluation(0, None).origin
    config = {"scale": "demo", "config": {}, "config_sha256": "", "data_digest": "", "computes": ""}
    run = {"dataset": "tetrominoes", "model": "emorl", "variant": "base", "seed": 0, "digest": "0", "data": origin.data}
    took = {"steps": 20, "started": 0.0, "ended": 1.0, "wall_seconds": 1.0, "starts": []}
    how = {"status": "failed", "error": "diverged", "precision": "float32", "compiled": False, "parameters": 1}
    Manifest(**config, **run, **took, **how).write(tmp_path / "runs/seed0/manifest.json")
    lines = ['{"step": 10, "loss": 3.0, "learning_rate": 0.1}', '{"step": 20, "loss": 2.0, "update_norm_1": 0.5}']
    (tmp_path / "runs/seed0/metrics.jsonl").write_text("\n".join(lines) + "\n")
    trained = ShownRun(seed=0, folder="runs/seed0", file="runs/seed0/manifest.json", arrays=None)
    frame = metrics.gather(with_series(artifact, evaluation="training", runs=[trained]), tmp_path)
    found = list(zip(frame["at"], frame.metric, frame.value, strict=True))
    assert found[0][1:] == ("failed", 1.0)
    assert found[1:] == [(10, "loss", 3.0), (20, "loss", 2.0), (20, "update_norm_1", 0.5)]


def test_the_small_print_has_means_over_seeds_by_label():
    values = [("A", 0, 0.5), ("A", 1, 0.7), ("B", 0, 0.1)]
    frame = pd.DataFrame(values, columns=["label", "seed", "value"]).assign(metric="changed_outside")
    assert _scores(frame) == ["mean share of pixels outside of the moved slot that change: A 0.60; B 0.10"]
    assert _scores(frame.assign(metric="fg_ari")) == []
