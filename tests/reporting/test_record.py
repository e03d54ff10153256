"""Records: results with weights that anybody finds again, take by name, and sees in README."""

import hashlib
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from emorl.commands import use
from emorl.commands.main import app
from emorl.pipeline import config, runs, steps
from emorl.pipeline.in_progress import IN_PROGRESS, keep
from emorl.pipeline.plan import make_plan
from emorl.pipeline.portable import read_checkpoint
from emorl.pipeline.records import Artifact
from emorl.reporting.claims import load_bound
from emorl.reporting.current import made_by, paper_of
from emorl.reporting.figures.artifacts import make_artifact
from emorl.reporting.page.provenance import cells_of, renamed
from emorl.reporting.page.report import write_report
from emorl.reporting.sharing import record as recording
from emorl.reporting.sharing import recorded
from emorl.reporting.sharing.front_page import with_results
from emorl.reporting.sharing.recheck import recheck
from emorl.reporting.sharing.record import write_record
from emorl.reporting.sharing.recorded import (
    RECORDED,
    RecordedModels,
    path_of,
    recorded_models,
    recorded_scales,
    scored_cells,
)
from emorl.runtime.errors import UserError
from emorl.runtime.files import ROOT, read_json, write_text
from emorl.training import engine
from emorl.training.checkpoints import read_plain_data, save_checkpoint
from emorl.use.trained import load

README = "Before.\n<!-- recorded: test -->\nan old table\n<!-- end of recorded -->\nAfter.\n"


@pytest.fixture(scope="module")
def project(prepared, tmp_path_factory):
    """Table 1 of EfficientMORL (two seeds) on Tetrominoes, recorded. Not to be changed."""
    root = tmp_path_factory.mktemp("project")
    chosen = runs.select_runs(config.load_scale("test"), ["emorl"], ["tetrominoes"], "base")
    (root / chosen[0].data.path).parent.mkdir(parents=True)
    shutil.copy(prepared, root / chosen[0].data.path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "ROOT", root)
        for run in chosen:
            engine.train(steps.training_job(run), lambda progress: None)
            steps.evaluate_run(run, "decomposition")
    plan = make_plan("test", {"models": "emorl", "datasets": "tetrominoes"})
    for name in ("table1", "decompositions_tetrominoes"):
        shown = plan.artifacts[name]
        make_artifact(name, shown, root, paper_of(name, shown), made_by(name, shown), load_bound())
    write_report("test", root, [], {})
    (root / "README.md").write_text(README)
    write_record("test", root)
    return root


@pytest.fixture
def own(project, tmp_path):
    """A copy to do with as one likes."""
    return shutil.copytree(project, tmp_path / "project")


@pytest.fixture
def named(project, monkeypatch):
    """A checkout that comes with the record."""
    for module in (recorded, use):
        monkeypatch.setattr(module, "ROOT", project)
    return project


def the_model(root):
    (model,) = recorded_models(root)
    return model


def mismatches(folder):
    return [sentence for check in recheck(folder) for sentence in check.mismatches]


def hash_anew(folder):
    """As one would who wants a changed record to pass."""
    names = [line.partition("  ")[2] for line in (folder / "SHA256SUMS").read_text().splitlines()]
    sums = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (folder / "SHA256SUMS").write_text("".join(sums))


# ---- What is recorded ----


def test_a_record_has_results_weights_and_where_they_come_from(project):
    folder = project / RECORDED / "test"
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {
        "index.html", "table1.csv", "table1.png", "decompositions_tetrominoes.png", "claims.csv", "README.md",
        "SHA256SUMS", "weights/emorl-tetrominoes.pt", "weights/models.json", "code/params/test.yaml",
    } <= there  # fmt: skip
    for name in ("manifest.json", "metrics.jsonl"):
        assert sum(file.endswith(f"/{name}") for file in there) == 2
    assert not any(name.endswith(("checkpoint.pt", ".npz")) for name in there)
    text = (folder / "README.md").read_text()
    assert "| EfficientMORL on Tetrominoes (replica) | 2/2/0 | 0 |" in text  # of which none has bound
    assert "| [Table 1](table1.png) | Adjusted Rand index without background (x 100) |" in text
    assert re.search(r"\d [a-z ]+ of the claims in `params/claims.yaml`", text)
    assert "`emorl-tetrominoes`" in text
    assert not list((project / RECORDED).glob(".*"))


def test_weights_are_those_of_the_seed_with_the_median_score(project):
    model = the_model(project)
    assert set(model.scores) == {0, 1}
    assert model.scores[model.seed] == min(model.scores.values())  # the lower of two
    checkpoint = read_checkpoint(project / RECORDED / "test" / model.file)
    assert checkpoint.origin.seed == model.seed
    trained = read_plain_data(project / model.run / "checkpoint.pt")["model"]
    assert all(torch.equal(checkpoint.weights[name], value) for name, value in trained.items())


def test_a_cell_of_several_tables_is_shown_beside_the_papers():
    shown = {name: Artifact.read(ROOT / f"reports/recorded/small/{name}.json") for name in ("spread", "table1")}
    assert all(cell.paper for _, _, cell in scored_cells(shown))


@pytest.mark.parametrize(("limit", "reason"), [("LARGEST", "kept up to 0.001 MB each"), ("TOGETHER", "MB in all")])
def test_weights_that_are_too_large_are_left_out_and_named(limit, reason, own, monkeypatch):
    monkeypatch.setattr(recording, limit, 1000)
    folder = write_record("test", own)
    found = RecordedModels.read(folder / RecordedModels.FILE)
    assert found.models == []
    assert reason in found.left_out["emorl-tetrominoes"]
    assert "Left out: `emorl-tetrominoes` (0." in (folder / "README.md").read_text()
    assert not (folder / "weights" / "emorl-tetrominoes.pt").exists()
    assert mismatches(folder) == []


def change_an_evaluation(root):
    path = root / the_model(root).evaluation
    path.write_text(path.read_text().replace("0.", "0.1", 1))
    return "is not the file that it was made from"


def take_over_foreign_runs(root):
    path = root / the_model(root).run / "manifest.json"
    path.write_text(path.read_text().replace('"steps": 12', '"steps": 120'))
    return "configuration is not the one it was hashed from"


def change_a_number(root):
    path = root / "reports" / "test" / "table1.csv"
    path.write_text(path.read_text().replace(",fg_ari,0.", ",fg_ari,0.9", 1))
    return "table1.csv does not hold what its runs' evaluations say"


def leave_an_old_page(root):
    path = root / "reports" / "test" / "page.json"
    path.write_text(path.read_text().replace('"made_by": "', '"made_by": "0', 1))
    return "index.html does not show what is there now"


def leave_the_table_away(root):
    for path in (root / "reports" / "test").glob("table1.*"):
        path.unlink()
    return "reports/test has no table1, which README shows: run 'snakemake"


@pytest.mark.parametrize(
    "change",
    [change_an_evaluation, take_over_foreign_runs, change_a_number, leave_an_old_page, leave_the_table_away],
)
def test_results_that_do_not_match_are_refused_and_the_record_stays(change, own):
    sentence, before = change(own), (own / RECORDED / "test" / "SHA256SUMS").read_text()
    with pytest.raises(UserError, match=sentence) as error:
        write_record("test", own)
    assert len(str(error.value).splitlines()) == 1
    assert (own / RECORDED / "test" / "SHA256SUMS").read_text() == before
    assert mismatches(own / RECORDED / "test") == []


def test_a_figure_of_a_benchmark_is_recorded_with_what_was_measured(own):
    shown = make_plan("test", {}).artifacts["fig10"]
    row = {"system": "IODINE", "model": "iodine", "dataset": "clevr6", "image_size": 64, "parameters": 1}
    row |= {"gpu": None, "cpu": "EPYC", "threads": 1}
    timed = {f"{mode}_{what}": [1.5] for mode in ("forward", "training") for what in ("s", "largest_batch")}
    pd.DataFrame(row | timed).to_csv(own / shown.benchmark.file, index=False)
    make_artifact("fig10", shown, own, paper_of("fig10", shown), made_by("fig10", shown), load_bound())
    write_report("test", own, [], {})
    folder = write_record("test", own)
    assert (folder / shown.benchmark.file).exists()
    assert mismatches(folder) == []


def test_runs_in_progress_are_kept_until_all_of_the_scale_are_recorded(own, monkeypatch):
    (own / "README.md").unlink()
    (run,) = [run for run in make_plan("test", {}).artifacts["table1"].runs if run.folder == the_model(own).run]
    kept = keep(Path(run.folder), own)
    write_record("test", own)
    assert kept.exists()
    table1 = Artifact.read(own / "reports" / "test" / "table1.json").shows
    monkeypatch.setattr(recording, "make_plan", lambda *_: SimpleNamespace(artifacts={"table1": table1}))
    write_record("test", own)
    assert not (own / IN_PROGRESS).exists()


# ---- Found again ----


def test_a_clone_finds_every_number_and_the_scores_of_the_weights_again(project, tmp_path):
    folder = shutil.copytree(project / RECORDED / "test", tmp_path / "record")  # and nothing beside it
    result = CliRunner().invoke(app, ["recheck", str(folder)])
    assert result.exit_code == 0
    model = the_model(project)
    assert f"{model.file} gives the FG-ARI of {model.scores[model.seed]:.1f} of its seed {model.seed} again" in (
        result.output
    )
    assert "every number was found again" in result.output


def put_another_seeds_weights(folder, model, root):
    (run,) = [path for path in (root / model.run).parent.iterdir() if path.name != f"seed{model.seed}"]
    content = read_plain_data(folder / model.file)
    save_checkpoint(folder / model.file, content | {"weights": read_plain_data(run / "checkpoint.pt")["model"]})
    return f"{model.file}: fg_ari is "


def put_another_run(folder, model, root):
    content = read_plain_data(folder / model.file)
    save_checkpoint(folder / model.file, content | {"origin": content["origin"] | {"seed": 7}})
    return f"{model.file} holds other weights than those that {model.run} ended with"


def change_a_score(folder, model, root):
    path = folder / "table1.csv"
    path.write_text(path.read_text().replace(",fg_ari,0.", ",fg_ari,0.9", 1))
    return "table1.csv, line 2: value of fg_ari"


def change_the_score_of_weights(folder, model, root):
    scores = {seed: score + 1 for seed, score in model.scores.items()}
    RecordedModels(models=[model.model_copy(update={"scores": scores})], left_out={}).write(
        folder / RecordedModels.FILE
    )
    return f"weights/models.json: {model.name} has other scores than the tables"


def take_another_seed(folder, model, root):
    (other,) = model.scores.keys() - {model.seed}
    RecordedModels(models=[model.model_copy(update={"seed": other})], left_out={}).write(folder / RecordedModels.FILE)
    return f"weights/models.json: {model.name} is of seed {other}, but seed {model.seed} has the median score"


def change_an_error(folder, model, root):
    """Errors are near 0 in any case."""
    evaluation = read_json(folder / model.evaluation)
    evaluation["kept"]["images"]["mse"] = [1.2 * value for value in evaluation["kept"]["images"]["mse"]]
    write_text(folder / model.evaluation, json.dumps(evaluation))
    return f"{model.file}: mse is "


@pytest.mark.parametrize(
    "change",
    [
        put_another_seeds_weights,
        put_another_run,
        change_a_score,
        change_the_score_of_weights,
        take_another_seed,
        change_an_error,
    ],
)
def test_what_is_not_found_again_is_named(change, own):
    folder = own / RECORDED / "test"
    sentence = change(folder, the_model(own), own)
    hash_anew(folder)
    found = mismatches(folder)
    assert any(sentence in mismatch for mismatch in found), found


def test_a_clone_is_told_how_to_make_a_table_and_where_the_recorded_one_is(project, tmp_path):
    shutil.copytree(project / RECORDED, tmp_path / RECORDED)
    with pytest.raises(UserError) as error:
        cells_of("table1 tetrominoes emorl", "test", tmp_path)
    assert "'snakemake --cores all reproduce_table1 --config scale=test'" in str(error.value)
    assert str(error.value).endswith(f"; {RECORDED}/test has the recorded results")
    with pytest.raises(UserError, match="there is no table or figure 'table9': there are table1, table2"):
        cells_of("table9 tetrominoes emorl", "test", tmp_path)


# ---- Names of models ----


def test_a_recorded_model_is_taken_by_name(named):
    model = the_model(named)
    for name in ("emorl-tetrominoes", "test/emorl-tetrominoes"):
        assert load(name).checkpoint.origin.seed == model.seed
    _, line = CliRunner().invoke(app, ["models"]).output.splitlines()
    scores = [f"[{score:.1f}]" if seed == model.seed else f"{score:.1f}" for seed, score in model.scores.items()]
    assert line.split() == ["emorl-tetrominoes", *scores, "test,", "replica", "not", "bound"]
    (listed,) = json.loads(CliRunner().invoke(app, ["models", "--json"]).output)
    assert listed["name"] == "emorl-tetrominoes"


def test_a_name_that_is_not_there_gets_those_that_are(named):
    with pytest.raises(UserError, match=r"no recorded model of this name: there are emorl-tetrominoes$"):
        load("emorl-clevr6")


def test_a_name_at_two_scales_must_say_which(own, monkeypatch):
    monkeypatch.setattr(recorded, "ROOT", own)
    shutil.copytree(own / RECORDED / "test", own / RECORDED / "other")
    models = own / RECORDED / "other" / RecordedModels.FILE
    models.write_text(models.read_text().replace('"scale": "test"', '"scale": "other"'))
    with pytest.raises(UserError, match="take other/emorl-tetrominoes or test/emorl-tetrominoes"):
        path_of("emorl-tetrominoes")
    assert path_of("other/emorl-tetrominoes") == own / RECORDED / "other" / "weights" / "emorl-tetrominoes.pt"


# ---- What is shown, and whether it still is what the code asks for ----


def test_readme_shows_the_record(project):
    text = (project / "README.md").read_text()
    assert text.startswith("Before.\n<!-- recorded: test -->\n**Table 1, TEST of the pipeline")
    assert (project / RECORDED / "test" / "table1.md").read_text() in text
    assert "[Decompositions, Tetrominoes](reports/recorded/test/decompositions_tetrominoes.png)." in text
    assert "![Figure 5" not in text  # where it was not drawn
    assert text.endswith("<!-- end of recorded -->\nAfter.\n")
    assert "an old table" not in text
    assert with_results(text, project) == text
    assert with_results(text.replace("EfficientMORL", "Another"), project) == text  # a difference would show
    assert with_results(README.replace("test", "small"), project) == README.replace("test", "small")


def test_readme_shows_figure_5_where_it_is_recorded(own):
    (own / RECORDED / "test" / "fig5.png").touch()
    text = with_results(README, own)
    assert "![Figure 5: decompositions by EfficientMORL](reports/recorded/test/fig5.png)" in text
    assert "[Figure 5]" not in text  # once is enough


def test_readme_of_this_checkout_shows_its_record():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert recorded_scales(ROOT)
    assert with_results(text, ROOT) == text


@pytest.mark.parametrize("scale", recorded_scales(ROOT))
def test_records_of_this_checkout_say_what_the_code_of_today_says(scale, monkeypatch):
    """All but what the weights score, which takes minutes."""
    monkeypatch.setattr("emorl.reporting.sharing.recheck._check_weights", lambda bundle: [])
    assert mismatches(ROOT / RECORDED / scale) == []


def renamings(folder, scale):
    artifacts = [Artifact.read(path) for path in folder.glob("*.json") if path.name != "page.json" and "metrics" not in
                 path.name]  # fmt: skip
    found = [(series, run) for artifact in artifacts for series in artifact.shows.series for run in series.runs]
    assert found
    return [sentence for series, run in found if (sentence := renamed(series, run, scale))]


def test_names_of_the_record_are_those_of_the_code(project, monkeypatch):
    folder = project / RECORDED / "test"
    assert renamings(folder, "test") == []
    monkeypatch.setattr(runs, "short", lambda value: "0123456789")
    assert "code or params/ have changed since" in renamings(folder, "test")[0]


@pytest.mark.parametrize("scale", recorded_scales(ROOT))
def test_names_of_recorded_runs_are_those_of_the_code_of_today(scale):
    assert renamings(ROOT / RECORDED / scale, scale) == []
