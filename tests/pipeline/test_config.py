"""Configuration: what is refused, in one sentence that names file, key and what is allowed."""

import re

import pytest
import yaml

from emorl.commands.values import check
from emorl.models.emorl import refinement_steps
from emorl.pipeline import config, runs
from emorl.pipeline.plan import make_plan
from emorl.runtime.errors import UserError
from emorl.runtime.yaml_files import parse_yaml


@pytest.fixture
def params(tmp_path, monkeypatch):
    """A copy of params/ that a test may edit: params(lambda scale: ...) changes test.yaml."""
    for source in config.PARAMS.glob("*.yaml"):
        (tmp_path / source.name).write_text(source.read_text())
    monkeypatch.setattr(config, "PARAMS", tmp_path)
    monkeypatch.setattr(config, "EXPERIMENTS", tmp_path / "experiments.yaml")
    monkeypatch.setattr(config, "_shown", lambda path: f"params/{path.name}")

    def edit(change):
        path = tmp_path / "test.yaml"
        content = unshared(yaml.safe_load(path.read_text()))
        change(content)
        path.write_text(yaml.safe_dump(content, sort_keys=False))

    return edit


def unshared(value):
    """A copy in which what the file's anchors share is separate."""
    if isinstance(value, dict):
        return {key: unshared(item) for key, item in value.items()}
    return [unshared(item) for item in value] if isinstance(value, list) else value


OF_OTHER_MODELS = {"iodine_port": "iodine", "slot_attention_section_4": "slot_attention"}


def block(content):
    return content["models"]["emorl"]["tetrominoes"]


MISTAKES = {
    "unknown key": (
        lambda c: block(c)["model"].update(slots=4),
        r"models\.emorl\.tetrominoes\.model\.slots is not a known key",
    ),
    "missing key": (lambda c: block(c)["model"].pop("K"), r"models\.emorl\.tetrominoes\.model\.K is missing"),
    "wrong type": (
        lambda c: block(c)["training"].update(steps="many"),
        r"training\.steps is 'many'; must be a valid int",
    ),
    "K < 1": (lambda c: block(c)["model"].update(K=0), r"model\.K is 0; must be greater than or equal to 1"),
    "fraction": (lambda c: block(c)["model"].update(K=2.5), r"model\.K is 2\.5; must be a valid integer"),
    "curriculum": (
        lambda c: block(c)["model"].update(refinement={0: 3, 9: 2, 5: 1}),
        r"model\.refinement.*must start at 0 and increase",
    ),
    "choice": (
        lambda c: block(c)["model"].update(prior="top"),
        r"prior is 'top'; must be 'reversed\+\+', 'reversed' or",
    ),
    "no block": (lambda c: c["datasets"].clear(), r"has no block datasets\.tetrominoes"),
    "unknown data set": (
        lambda c: c["datasets"].update(clevr9=c["datasets"]["tetrominoes"]),
        r"datasets.*must be a data set: .*tetrominoes",
    ),
    "unknown model": (lambda c: c["models"].update(monet2={}), r"models\.monet2 is not a known key"),
    "batch": (lambda c: block(c)["training"].update(batch_size=65), r"batch_size is 65; must not exceed .*train, 64"),
    "decoder": (lambda c: block(c)["model"].update(decoder="deconvolutional"), r"divisible by 16, not 12"),
    "seeds": (lambda c: c.update(seeds=0), r"seeds"),
    "left to": (lambda c: c.update(left_to="big"), r"left_to is 'big'; must be a scale: beyond, demo, paper, small,"),
    "moves": (lambda c: c.update(moves={"fig1": {}}), r"moves: there is no artifact 'fig1' in params/exp"),
    "not a mapping": (lambda c: c.update(evaluation=3), r"evaluation is 3; must be a mapping"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_refused_in_one_sentence(mistake, params):
    change, sentence = MISTAKES[mistake]
    params(change)
    with pytest.raises(UserError) as caught:
        config.load_scale("test")
    text = str(caught.value)
    assert text.startswith("params/test.yaml")
    assert re.search(sentence, text), text
    assert "\n" not in text
    assert len(text) < 200


def test_broken_yaml_names_the_line(params, tmp_path):
    (tmp_path / "test.yaml").write_text("seeds: 2\nseeds: 3\n")
    with pytest.raises(UserError, match=r"params/test\.yaml, line 2: key 'seeds' is given twice"):
        config.load_scale("test")
    (tmp_path / "test.yaml").write_text("seeds: [1\npurpose: x\n")
    with pytest.raises(UserError, match=r"params/test\.yaml, line 2"):
        config.load_scale("test")


def test_numbers_may_be_written_as_1e_3(tmp_path):
    (tmp_path / "x.yaml").write_text("[1e-3, 1E5, 2.5e-4, -1e3, 12, 1e]")
    assert config.load_yaml(tmp_path / "x.yaml") == [1e-3, 1e5, 2.5e-4, -1e3, 12, "1e"]


def test_unknown_scale_lists_the_known_ones():
    with pytest.raises(UserError, match=r"no scale 'big': known are beyond, demo, paper, small, test"):
        config.load_scale("big")


@pytest.mark.parametrize("scale", ["demo", "paper", "small", "test"])
def test_scales_are_valid_and_differ_only_in_values(scale):
    settings = config.load_scale(scale)
    assert type(settings) is type(config.load_scale("paper"))
    for variant in config.load_experiments().variants:
        model = OF_OTHER_MODELS.get(variant, "emorl")
        if "tetrominoes" in settings.blocks(model):
            assert config.block(settings, model, "tetrominoes", variant)


def test_the_papers_unreachable_geco_target_is_a_warning():
    (warning,) = config.warnings(config.load_scale("paper"))
    assert warning.startswith("params/paper.yaml: models.emorl.tetrominoes.model: geco.target")
    assert "ln σ = -1.2040" in warning


def test_every_value_of_the_paper_scale_has_its_source():
    for line in (config.PARAMS / "paper.yaml").read_text().splitlines():
        if re.match(r"\s*[\w]+:\s*[^\s#]", line):
            assert re.search(r"#\s*(paper|code|data|ours)\b", line), line


def test_variants_change_what_they_say():
    def digest(variant):
        return runs.select_runs(config.load_scale("paper"), ["emorl"], ["tetrominoes"], variant, [0])[0]

    base, single = digest("base"), digest("short_single_gru")
    assert single.settings.model == base.settings.model.model_copy(update={"gru": "single"})
    assert single.settings.training == base.settings.training.model_copy(update={"steps": 50_000})
    assert single.settings.seeds == list(range(10))
    assert digest("no_geco").settings.model.geco is None
    variants = [name for name in config.load_experiments().variants if name not in OF_OTHER_MODELS]
    assert len({digest(name).digest for name in variants}) == len(variants)


def test_a_scale_says_how_it_trains_a_variant_and_the_variant_has_the_last_word(params):
    params(lambda c: c.update(variants={"layers_1": {"model": {"L": 9, "D": 6}, "training": {"steps": 3}}}))
    settings = config.block(config.load_scale("test"), "emorl", "tetrominoes", "layers_1")
    assert (settings.model.L, settings.model.D, settings.training.steps) == (1, 6, 3)


def test_unknown_variants_are_refused(params, tmp_path):
    params(lambda c: c.update(variants={"short_": {}}))
    with pytest.raises(UserError, match=r"params/test\.yaml: variants: there is no variant 'short_': known are base,"):
        config.load_scale("test")
    params(lambda c: c.update(variants={}, leaves_out=["short_"]))
    with pytest.raises(UserError, match=r"params/test\.yaml: leaves_out: there is no variant 'short_'"):
        config.load_scale("test")
    path = tmp_path / "experiments.yaml"
    path.write_text(path.read_text().replace("variants: [bottom_up_prior], label", "variants: [bottom], label"))
    with pytest.raises(UserError, match=r"params/experiments\.yaml: artifacts\.table2: there is no variant 'bottom'"):
        config.load_experiments()


def test_a_variant_that_asks_for_nonsense_is_refused(params, tmp_path):
    path = tmp_path / "experiments.yaml"
    path.write_text(path.read_text().replace("gru: single", "gru: triple"))
    with pytest.raises(UserError, match=r"experiments\.yaml: variants\.short_single_gru\.model\.gru is 'triple'"):
        config.block(config.load_scale("test"), "emorl", "tetrominoes", "short_single_gru")


def test_paper_scale_is_the_papers_setting():
    settings = config.load_scale("paper")
    assert settings.seeds == [0, 1, 2, 3, 4]
    model = settings.models.emorl["tetrominoes"].model
    assert model.geco.target * 3 * 35 * 35 == pytest.approx(-4500)


@pytest.mark.parametrize(("selection", "seeds"), [
    ({}, [0, 1]), ({"seeds": 3}, [0, 1, 2]), ({"seeds": [4, 7]}, [4, 7]),
    ({"datasets": "tetrominoes", "models": ["emorl"]}, [0, 1]),
])  # fmt: skip
def test_selection(selection, seeds):
    plan = make_plan("test", {"models": "emorl", "datasets": "tetrominoes"} | selection)
    (series,) = plan.artifacts["table1"].series
    assert [run.seed for run in series.runs] == seeds
    assert len({run.folder.rpartition("/")[0] for run in series.runs}) == 1


def test_a_run_that_several_artifacts_need_is_planned_once():
    plan = make_plan("test", {})
    folders = [run.folder for run in plan.runs]
    needed = [run.folder for artifact in plan.artifacts.values() for run in artifact.runs]
    assert len(folders) == len(set(folders)) < len(needed)
    assert set(folders) == set(needed)


def test_what_a_scale_leaves_out_is_named_in_tables_and_nowhere_trained(params):
    def change(content):
        content.update(leaves_out=["short"], left_to="paper")
        del content["models"]["monet"]["multi_dsprites"]

    params(change)
    plan = make_plan("test", {})
    assert "short" not in {run.variant for run in plan.runs}
    elsewhere = {
        name: [(series.dataset, series.model, series.variant) for series in artifact.elsewhere]
        for name, artifact in plan.artifacts.items()
        if artifact.elsewhere
    }
    assert elsewhere["table1"] == [("multi_dsprites", "monet", "base")]  # and not on Tetrominoes: nor does scale paper
    assert elsewhere["table2"] == [("clevr6", "emorl", "short")]
    assert {plan.artifacts[name].draw for name in elsewhere} == {"table"}
    assert not make_plan("test", {"models": "emorl"}).artifacts["table2"].elsewhere  # the user left out more


def test_an_artifact_can_move_to_a_cheaper_data_set(params):
    params(lambda content: content.update(moves={"fig8": {"clevr6": "tetrominoes"}}))
    figures = make_plan("test", {}).artifacts
    assert {series.dataset for series in figures["fig8"].series} == {"tetrominoes"}
    assert figures["fig8"].caption.endswith("; at this scale on Tetrominoes in place of CLEVR6")
    assert {series.dataset_title for series in figures["fig8"].series} == {"Tetrominoes in place of CLEVR6"}
    assert {series.dataset for series in figures["fig3"].series} == {"clevr6"}


@pytest.mark.parametrize("scale", ["demo", "paper", "small"])
def test_refinement_at_test_time_is_that_of_the_end_of_training(scale):
    """Of the runs of 50K steps, too, whose I is not reduced yet; without layers refinement is all the inference."""
    settings = config.load_scale(scale)
    every = config.load_experiments().artifacts.items()
    cells = {cell for name, artifact in every for series in artifact.series for cell in settings.cells(name, series)}
    for dataset, model, variant, trained, _ in cells:
        if model == "emorl" and trained:
            run = config.block(settings, "emorl", dataset, variant)
            last = refinement_steps(run.training.steps - 1, run.model.refinement)
            assert run.inference.refinement_steps == last, (dataset, variant)


def test_figure_8_shows_five_seeds_of_each_number_of_layers():
    """Of the ten that Table 2 has at L = 3."""
    figure = make_plan("paper", {"models": "emorl", "datasets": "clevr6"}).artifacts["fig8"]
    assert {series.at: [run.seed for run in series.runs] for series in figure.series} == {
        L: [*range(5)] for L in range(5)
    }


def test_slot_attention_can_be_trained_as_section_4_says():
    settings = config.load_scale("paper")
    ours, papers = (
        config.block(settings, "slot_attention", "clevr6", name).training
        for name in ("base", "slot_attention_section_4")
    )
    assert (ours.batch_size, ours.clip_norm) == (64, None)  # the port's
    assert papers == ours.model_copy(update={"batch_size": 32, "clip_norm": 5.0})


def test_table_2_scores_tetrominoes_on_validation_images():
    """As App. D says; Table 1 scores the same run on test images."""
    plan = make_plan("test", {"models": "emorl", "datasets": "tetrominoes"})
    files = {name: [run.file for run in plan.artifacts[name].runs] for name in ("table1", "table2")}
    assert all("/decomposition-test-" in file for file in files["table1"])
    assert all("/decomposition-validation-" in file for file in files["table2"])
    (base,) = [run for run in plan.runs if run.variant == "base" and run.seed == 0]
    assert {files["table1"][0], *files["table2"]} & base.evaluations.keys() >= {files["table1"][0]}
    assert len([file for file in base.evaluations if "/decomposition-" in file]) == 2


@pytest.mark.parametrize(
    ("own", "asked", "seeds"), [(None, None, [0]), ([5], None, [5]), (1, None, [0]), ([5], 3, [0, 1, 2])]
)
def test_a_cells_own_seeds_stand_until_others_are_asked_for(params, own, asked, seeds):
    params(lambda content: block(content).update(seeds=own))
    plan = make_plan("test", {"models": "emorl,monet", "datasets": "tetrominoes", "seeds": asked})
    chosen = {s.model: [run.seed for run in s.runs] for s in plan.artifacts["table1"].series}
    assert chosen == {"emorl": seeds, "monet": [0] if asked is None else seeds}


@pytest.mark.parametrize(("selection", "sentence"), [
    ({"seeds": 0}, "seeds=0 must be a number"), ({"seeds": "x"}, "seeds=x"), ({"seeds": [-1]}, "seeds"),
    ({"datasets": "clevr"}, "datasets=clevr .* allowed are tetrominoes"), ({"models": "a,b"}, "models=a"),
])  # fmt: skip
def test_bad_selections_are_refused(selection, sentence):
    with pytest.raises(UserError, match=sentence):
        make_plan("test", selection)


@pytest.mark.parametrize(("text", "value"), [
    ("yes", "yes"), ("off", "off"), ("0014", 14), ("0o14", 12), ("1:30", "1:30"), ("1_000", "1_000"), ("true", True),
    ("2024-01-01", "2024-01-01"), (".inf", float("inf")), ("-.5", -0.5), ("~", None), ("'0014'", "0014"),
])  # fmt: skip
def test_yaml_is_read_as_its_writer_meant_it(text, value):
    assert parse_yaml(f"[{text}]", "x.yaml") == [value]


@pytest.mark.parametrize(("content", "sentence"), [
    (b"", "params/x.yaml is empty"),
    (b"# nothing\n", "params/x.yaml is empty"),
    (b"a: 1\nb: \xff\n", "params/x.yaml, line 2: must be UTF-8"),
    ("a: 1\n".encode("utf-16"), "params/x.yaml, line 1: must be UTF-8"),
    (b"a: 1\nb: \x00\n",
     "params/x.yaml, line 2: holds a character that YAML does not allow, control characters are not allowed"),
    (b"a: 1\nb: {c: 1,\n c: 2}\n", "params/x.yaml, line 3: key 'c' is given twice"),
])  # fmt: skip
def test_what_is_no_yaml_is_a_sentence(params, tmp_path, content, sentence):
    (tmp_path / "x.yaml").write_bytes(content)
    with pytest.raises(UserError, match=f"^{re.escape(sentence)}$"):
        config.load_yaml(tmp_path / "x.yaml")


@pytest.mark.parametrize(("edit", "sentence"), [
    (lambda scale: scale.update(seeds="yes"), "params/test.yaml: seeds is 'yes'; must be a valid list"),
    (lambda scale: scale.update(seeds=True), "params/test.yaml: seeds is True; must be a valid list"),
    (lambda scale: scale.update(seeds=10**20),
     "params/test.yaml: seeds is 100000000000000000000; must be at most 1000"),
    (lambda scale: scale["datasets"].pop("clevr10"),
     "params/test.yaml has no block datasets.clevr10, whose images generalisation takes"),
    (lambda scale: scale["datasets"]["tetrominoes"].update(validation=0),
     "params/test.yaml: datasets.tetrominoes.validation is 0, but decomposition of emorl on tetrominoes is scored"),
    (lambda scale: scale["variants"]["no_geco"].update(model={"sigmaa": 1}),
     "params/test.yaml: variants.no_geco.model.sigmaa is not a known key"),
    (lambda scale: scale["variants"]["no_geco"].update(training={"batch_size": 4000}),
     "params/test.yaml: models.emorl.tetrominoes with variants.no_geco.training.batch_size is 4000; must not exceed "
     "datasets.tetrominoes.train, "),
])  # fmt: skip
def test_a_mistake_in_any_run_of_any_target_is_told_by_check(params, edit, sentence):
    params(edit)
    with pytest.raises(UserError) as error:
        check("test")
    assert str(error.value).startswith(sentence)


def test_a_model_that_is_not_there_is_named():
    with pytest.raises(UserError, match="there is no model 'nosuch': known are emorl, genesis,"):
        config.load_scale("test").blocks("nosuch")


@pytest.mark.parametrize(("parse", "sentence"), [
    (lambda: runs.parse_seeds(10**20),
     "seeds=100000000000000000000 must be a number of seeds, from 1 to 1000, or a list such as 0,5 or 7,"),
    (lambda: runs.parse_selection("models", [], ["emorl"]), "models= must name at least one of emorl"),
])  # fmt: skip
def test_selections_have_bounds(parse, sentence):
    with pytest.raises(UserError, match=f"^{re.escape(sentence)}$"):
        parse()


def test_blanks_in_a_selection_are_no_part_of_names():
    assert runs.parse_selection("models", "emorl, iodine", ["emorl", "iodine"]) == ["emorl", "iodine"]


def test_every_run_is_scored_whatever_is_shown_of_it():
    """By its decomposition, on the images that the artifact takes, and no more runs than it shows."""
    plan = make_plan("paper", {})
    runs = {run.folder: run for run in plan.runs}
    for name in ("fig3", "fig4", "table3", "fig8", "genesis_training"):
        for shown in plan.artifacts[name].runs:
            assert "/decomposition-test-" in shown.score
            assert shown.score in runs[shown.folder].evaluations
            assert shown.files[-1] == shown.score
    assert all("/decomposition-validation-" in shown.score for shown in plan.artifacts["table2"].series[-1].runs)
    assert len(plan.artifacts["fig8"].series[3].runs) == 5


def test_a_plan_says_how_long_everything_is_trained():
    shown = {series.variant: series.training for series in make_plan("paper", {}).artifacts["fig3"].series}
    assert shown == {
        "no_refinement": "50,000 steps, I = 0",
        "one_refinement": "50,000 steps, I = 1",
        "short": "50,000 steps, I = 3",
    }
    (monet, *_) = [s for s in make_plan("paper", {}).artifacts["table1"].series if s.model == "monet"]
    assert re.fullmatch(r"[\d,]+ steps", monet.training)
