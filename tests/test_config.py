"""Configuration: what is refused, in one sentence that names file, key and what is allowed."""

import re

import pytest
import yaml

from emorl import config, runs
from emorl.errors import UserError
from emorl.plan import make_plan


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
    with pytest.raises(UserError, match=r"params/test\.yaml, line 1: key 'seeds' is given twice"):
        config.load_scale("test")
    (tmp_path / "test.yaml").write_text("seeds: [1\npurpose: x\n")
    with pytest.raises(UserError, match=r"params/test\.yaml, line 2"):
        config.load_scale("test")


def test_numbers_may_be_written_as_1e_3(tmp_path):
    (tmp_path / "x.yaml").write_text("[1e-3, 1E5, 2.5e-4, -1e3, 12, 1e]")
    assert config.load_yaml(tmp_path / "x.yaml") == [1e-3, 1e5, 2.5e-4, -1e3, 12, "1e"]


def test_unknown_scale_lists_the_known_ones():
    with pytest.raises(UserError, match=r"no scale 'big': known are demo, paper, test"):
        config.load_scale("big")


@pytest.mark.parametrize("scale", ["demo", "paper", "test"])
def test_scales_are_valid_and_differ_only_in_values(scale):
    settings = config.load_scale(scale)
    assert type(settings) is type(config.load_scale("paper"))
    for variant in config.load_experiments().variants:
        model = "iodine" if variant == "iodine_port" else "emorl"
        assert config.block(settings, scale, model, "tetrominoes", variant)


def test_the_papers_unreachable_geco_target_is_a_warning():
    (warning,) = config.warnings(config.load_scale("paper"), "paper")
    assert warning.startswith("params/paper.yaml: models.emorl.tetrominoes.model: geco.target")
    assert "ln σ = -1.2040" in warning


def test_every_value_of_the_paper_scale_has_its_source():
    for line in (config.PARAMS / "paper.yaml").read_text().splitlines():
        if re.match(r"\s*[\w]+:\s*[^\s#]", line):
            assert re.search(r"#\s*(paper|code|data|ours)\b", line), line


def test_variants_change_what_they_say():
    def digest(variant):
        return runs.select_runs("paper", ["emorl"], ["tetrominoes"], variant, [0])[0]

    base, single = digest("base"), digest("short_single_gru")
    assert single.settings.model == base.settings.model.model_copy(update={"gru": "single"})
    assert single.settings.training == base.settings.training.model_copy(update={"steps": 50_000})
    assert single.settings.seeds == list(range(10))
    assert digest("no_geco").settings.model.geco is None
    variants = [name for name in config.load_experiments().variants if name != "iodine_port"]
    assert len({digest(name).digest for name in variants}) == len(variants)


def test_a_scale_says_how_it_trains_a_variant_and_the_variant_has_the_last_word(params):
    params(lambda c: c.update(variants={"layers_1": {"model": {"L": 9, "D": 6}, "training": {"steps": 3}}}))
    settings = config.block(config.load_scale("test"), "test", "emorl", "tetrominoes", "layers_1")
    assert (settings.model.L, settings.model.D, settings.training.steps) == (1, 6, 3)


def test_unknown_variants_are_refused(params, tmp_path):
    params(lambda c: c.update(variants={"short_": {}}))
    with pytest.raises(UserError, match=r"params/test\.yaml: variants: there is no variant 'short_': known are base,"):
        config.load_scale("test")
    path = tmp_path / "experiments.yaml"
    path.write_text(path.read_text().replace("variants: [bottom_up_prior], label", "variants: [bottom], label"))
    with pytest.raises(UserError, match=r"params/experiments\.yaml: artifacts\.table2: there is no variant 'bottom'"):
        config.load_experiments()


def test_a_variant_that_asks_for_nonsense_is_refused(params, tmp_path):
    path = tmp_path / "experiments.yaml"
    path.write_text(path.read_text().replace("gru: single", "gru: triple"))
    with pytest.raises(UserError, match=r"experiments\.yaml: variants\.short_single_gru\.model\.gru is 'triple'"):
        config.block(config.load_scale("test"), "test", "emorl", "tetrominoes", "short_single_gru")


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
    (series,) = plan["artifacts"]["table1"]["series"]
    assert [run["seed"] for run in series["runs"]] == seeds
    assert len({run["folder"].rpartition("/")[0] for run in series["runs"]}) == 1


def test_a_run_that_several_artifacts_need_is_planned_once():
    plan = make_plan("test", {})
    folders = [run["folder"] for run in plan["runs"]]
    shown = [s for artifact in plan["artifacts"].values() for s in artifact["series"]]
    needed = [run["folder"] for series in shown for run in series["runs"]]
    assert len(folders) == len(set(folders)) < len(needed)
    assert set(folders) == set(needed)


def test_table_2_scores_tetrominoes_on_validation_images():
    """As App. D says; Table 1 scores the same run on test images."""
    plan = make_plan("test", {"models": "emorl", "datasets": "tetrominoes"})
    files = {
        name: [run["file"] for series in plan["artifacts"][name]["series"] for run in series["runs"]]
        for name in ("table1", "table2")
    }
    assert all("/decomposition-test-" in file for file in files["table1"])
    assert all("/decomposition-validation-" in file for file in files["table2"])
    (base,) = [run for run in plan["runs"] if run["variant"] == "base" and run["seed"] == 0]
    assert {files["table1"][0], *files["table2"]} & base["evaluations"].keys() >= {files["table1"][0]}
    assert len([file for file in base["evaluations"] if "/decomposition-" in file]) == 2


@pytest.mark.parametrize(
    ("own", "asked", "seeds"), [(None, None, [0]), ([5], None, [5]), (1, None, [0]), ([5], 3, [0, 1, 2])]
)
def test_a_cells_own_seeds_stand_until_others_are_asked_for(params, own, asked, seeds):
    params(lambda content: block(content).update(seeds=own))
    plan = make_plan("test", {"models": "emorl,monet", "datasets": "tetrominoes", "seeds": asked})
    chosen = {s["model"]: [run["seed"] for run in s["runs"]] for s in plan["artifacts"]["table1"]["series"]}
    assert chosen == {"emorl": seeds, "monet": [0] if asked is None else seeds}


@pytest.mark.parametrize(("selection", "sentence"), [
    ({"seeds": 0}, "seeds=0 must be a number"), ({"seeds": "x"}, "seeds=x"), ({"seeds": [-1]}, "seeds"),
    ({"datasets": "clevr"}, "datasets=clevr .* allowed are tetrominoes"), ({"models": "a,b"}, "models=a"),
])  # fmt: skip
def test_bad_selections_are_refused(selection, sentence):
    with pytest.raises(UserError, match=sentence):
        make_plan("test", selection)
