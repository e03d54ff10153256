"""Claims: the file, and every verdict from measures made by hand."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from emorl import config
from emorl.errors import UserError
from emorl.evaluation.statistics import holm
from emorl.reporting import claims
from emorl.reporting.claims import as_frame, as_text, judge, load_claims, paper_values, power

COLUMNS = ["model", "dataset", "variant", "label", "seed", "at", "metric", "value", "run"]
VALUE = """
t1:
  where: Table 1
  text: ARI of EfficientMORL
  kind: value
  artifact: table1
  scale: 100.0
  measure: {model: emorl, dataset: clevr6, metric: ari}
  paper: {mean: 96.2, std: 1.6, n: 5}
  margin: {value: 3.2, reason: two deviations}
"""
ORDER = """
geco:
  where: App. D
  text: lower ARI without GECO
  kind: order
  artifact: table1
  greater: {model: emorl, dataset: clevr6, metric: ari}
  smaller: {model: MODEL, dataset: clevr6, variant: no_geco, metric: ari}
"""
RATIO = """
zero:
  where: Abstract
  text: 99.1 %
  kind: ratio
  artifact: table1
  numerator: {model: emorl, dataset: clevr6, metric: ari, at: 0.0}
  denominator: {model: emorl, dataset: clevr6, metric: ari, at: 1.0}
  paper: {mean: 0.991}
  margin: {value: 0.009, reason: less than what is lost}
"""
TREND = """
layers:
  where: Figure 8
  text: best at L = 3
  kind: trend
  artifact: table1
  measure: {model: emorl, dataset: clevr6, metric: ari}
  over: [layers_1, layers_2, base, layers_4]
  shape: greatest
  best: base
"""
CANNOT = """
hours:
  where: Section 4.4
  text: about 17 hours
  kind: value
  cannot: it is a time on other hardware
"""


@pytest.fixture
def load(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "ROOT", tmp_path)

    def read(*texts):
        path = tmp_path / "params" / "claims.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(texts))
        return load_claims(path)

    return read


def measures(values, *, model="emorl", variant="base", metric="ari", at=math.nan, failed=(), label="x"):
    """Rows of consecutive seeds from 0; seeds in `failed` have the row of a failure instead."""
    rows = []
    for seed, value in enumerate(values):
        kind, number = ("failed", 1.0) if seed in failed else (metric, value)
        run = f"{model}/{variant}/seed{seed}"
        rows.append((model, "clevr6", variant, label, seed, at, kind, number, run))
    return pd.DataFrame(rows, columns=COLUMNS)


def judge_one(claim, *frames, purpose="reproduction"):
    (verdict,) = judge([claim], {"table1": pd.concat(frames)}, purpose)
    return verdict


# ---- The file -------------------------------------------------------------------------------------------------------


def test_every_claim_of_the_paper_loads():
    loaded = load_claims()
    assert len({claim.id for claim in loaded}) == len(loaded)
    assert {claim.kind for claim in loaded} == set(claims.KINDS)
    assert len(paper_values(loaded, "table1")) == 14
    assert len(paper_values(loaded, "table2")) == 19
    assert len(paper_values(loaded, "table3")) == 6
    assert paper_values(loaded, "table1")["clevr6", "slot_attention", "base", "ari"]["mean"] == 98.8
    assert {verdict.verdict for verdict in judge(loaded, {}, "test")} == {"not run", "cannot be run"}


def test_every_claim_is_about_runs_that_its_artifact_shows():
    artifacts = config.load_experiments().artifacts
    for claim in load_claims():
        if isinstance(claim, claims.UnjudgedClaim) or not artifacts[claim.artifact].series:
            continue
        shown = {
            (model, dataset, variant)
            for series in artifacts[claim.artifact].series
            for model in series.models
            for dataset in series.datasets
            for variant in series.variants
        }
        wanted = {(s.model, s.dataset, s.variant) for pair in claim.pairs() for s in pair}
        assert wanted <= shown, claim.id


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("where:", "whre:", r"params/claims\.yaml: t1\.whre is not a known key"),
        ("table1", "tabel1", r"params/claims\.yaml: t1\.artifact is 'tabel1'; must be 'table1', 'table2'"),
        ("kind: value", "kind: values", r"params/claims\.yaml: t1\.kind is 'values'; must be one of value, ratio"),
        ("metric: ari", "metric: arri", r"params/claims\.yaml: t1\.measure\.metric is 'arri'"),
        ("model: emorl", "model: emoral", r"params/claims\.yaml: t1\.measure\.model is 'emoral'; must be a model"),
        (", n: 5", "", r"params/claims\.yaml: t1\.paper must have both std and n, or neither"),
        ("value: 3.2, ", "", r"params/claims\.yaml: t1\.margin\.value is missing"),
    ],
)
def test_mistakes_are_told_in_a_sentence(load, old, new, sentence):
    with pytest.raises(UserError, match=sentence):
        load(VALUE.replace(old, new))


def test_mistakes_between_keys_are_told_in_a_sentence(load):
    with pytest.raises(UserError, match=r"layers\.best is 'layers_3'; must be one of `over`"):
        load(TREND.replace("best: base", "best: layers_3"))
    with pytest.raises(UserError, match=r"geco must have two of greater, smaller and than"):
        load(ORDER.replace("MODEL", "emorl") + "  than: 0.5\n")
    with pytest.raises(UserError, match=r"params/claims\.yaml: t1 is 3; must be a mapping"):
        load("t1: 3\n")
    with pytest.raises(UserError, match=r"params/claims\.yaml must map the id of each claim"):
        load("- t1\n")


# ---- Verdicts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ([0.961, 0.962, 0.963, 0.962, 0.962], "reproduced"),
        ([0.98, 0.96, 0.99, 0.95, 0.99], "close"),
        ([0.80, 0.98, 0.82, 0.96, 0.90], "undecided"),
        ([0.50, 0.52, 0.55, 0.51, 0.53], "differs"),
    ],
)
def test_values(load, values, word):
    (claim,) = load(VALUE)
    verdict = judge_one(claim, measures(values))
    assert verdict.verdict == word
    scaled = 100 * np.array(values)
    assert verdict.estimate == pytest.approx(scaled.mean())
    assert (verdict.low, verdict.high) == pytest.approx(stats.t.interval(0.95, 4, scaled.mean(), stats.sem(scaled)))
    assert (verdict.n, verdict.failed, verdict.margin, verdict.paper) == (5, 0, 3.2, "96.2 ± 1.6 (n = 5)")
    assert (verdict.seeds_needed is None) == (word in ("reproduced", "differs"))
    assert verdict.sentence.endswith(".")


def test_a_value_without_seeds_is_compared_by_the_prediction_interval(load):
    (claim,) = load(VALUE.replace(", std: 1.6, n: 5", ""))
    values = np.array([0.961, 0.963, 0.965, 0.958, 0.960])
    verdict = judge_one(claim, measures(values))
    half = stats.t.ppf(0.975, 4) * 100 * values.std(ddof=1) * math.sqrt(1 + 1 / 5)
    assert verdict.high - verdict.estimate == pytest.approx(half)
    assert (verdict.verdict, verdict.paper) == ("reproduced", "96.2")


def test_one_seed_decides_nothing(load):
    (claim,) = load(VALUE)
    for value in (0.962, 0.1):
        verdict = judge_one(claim, measures([value]))
        assert (verdict.verdict, verdict.n, verdict.low, verdict.p) == ("undecided", 1, None, None)
        assert "one seed has no spread" in verdict.sentence
    assert judge_one(claim, measures([0.962])).seeds_needed == 5  # by the paper's spread
    order, ratio, trend = load(ORDER.replace("MODEL", "emorl"), RATIO, TREND)
    single = [measures([0.9], variant=v) for v in ("base", "no_geco", "layers_1", "layers_2", "layers_4")]
    points = [measures([0.9], at=0.0), measures([0.95], at=1.0)]
    assert [judge_one(c, *single).verdict for c in (order, trend)] == ["undecided"] * 2
    assert judge_one(ratio, *points).verdict == "undecided"


def test_orders_are_paired_by_seed_within_one_system(load):
    base = np.array([0.90, 0.60, 0.80, 0.70, 0.95])
    worse = base - [0.010, 0.012, 0.011, 0.009, 0.010]  # the seeds spread far more than the pairs
    (paired,) = load(ORDER.replace("MODEL", "emorl"))
    verdict = judge_one(paired, measures(base), measures(worse, variant="no_geco"))
    assert verdict.verdict == "reproduced"
    assert verdict.p == pytest.approx(stats.ttest_rel(base, worse, alternative="greater").pvalue)
    assert judge_one(paired, measures(worse), measures(base, variant="no_geco")).verdict == "differs"

    (unpaired,) = load(ORDER.replace("MODEL", "iodine"))
    verdict = judge_one(unpaired, measures(base), measures(worse, model="iodine", variant="no_geco"))
    assert verdict.verdict == "undecided"
    expected = stats.ttest_ind(base, worse, equal_var=False, alternative="greater")
    assert verdict.p == pytest.approx(expected.pvalue)


def test_orders_against_a_number_and_with_a_margin(load):
    above = ORDER.split("  smaller")[0] + "  than: 0.5\n"
    slight = ORDER.replace("MODEL", "emorl") + "  margin: {value: 0.05, reason: slight}\n"
    number, drop = load(above, slight.replace("geco:", "drop:"))
    values = [0.80, 0.81, 0.79, 0.80, 0.82]
    assert judge_one(number, measures(values)).verdict == "reproduced"
    higher = measures(np.add(values, [0.010, 0.012, 0.011, 0.009, 0.010]), variant="no_geco")
    verdict = judge_one(drop, measures(values), higher)
    assert (verdict.verdict, verdict.margin) == ("reproduced", 0.05)
    assert "above -0.05" in verdict.sentence


def test_ratios_are_of_each_seed(load):
    (claim,) = load(RATIO)
    refined = np.array([0.90, 0.60, 0.80, 0.70, 0.95])
    kept = np.array([0.990, 0.991, 0.992, 0.990, 0.991])
    verdict = judge_one(claim, measures(refined * kept, at=0.0), measures(refined, at=1.0))
    assert verdict.verdict == "reproduced"
    assert verdict.estimate == pytest.approx(kept.mean())
    assert judge_one(claim, measures(refined / 2, at=0.0), measures(refined, at=1.0)).verdict == "differs"


def test_a_trend_holds_if_each_of_its_comparisons_does(load):
    greatest, rising = load(TREND, TREND.replace("layers:", "rise:").replace("greatest\n  best: base", "rising"))
    noise = np.array([0.00, 0.01, -0.01, 0.02, 0.00])
    shapes = {"layers_1": 0.5, "layers_2": 0.7, "base": 0.9, "layers_4": 0.8}
    means = [measures(mean + np.roll(noise, i), variant=v) for i, (v, mean) in enumerate(shapes.items())]
    verdict = judge_one(greatest, *means)
    assert verdict.verdict == "reproduced"
    assert verdict.estimate == pytest.approx(0.1)  # over its nearest rival
    assert judge_one(rising, *means).verdict == "differs"
    assert judge_one(greatest, *means[:3], measures(0.9 + noise[::-1], variant="layers_4")).verdict == "undecided"
    assert judge_one(greatest, *means[:3]).verdict == "not run"


def test_a_share_of_the_way_to_the_last_number(load):
    """With 0.5, the last step up to half of the last one: 40 of 0, 20, 40, 60, 80, 101."""
    order = ORDER.replace("MODEL", "emorl").replace(", variant: no_geco", "")
    half_way, last = "metric: ari, at: last, share: 0.5}", "metric: ari, at: last}"
    (claim,) = load(order.replace("metric: ari}", half_way, 1).replace("metric: ari}", last))
    frames = [measures([step / 100 + 0.01 * seed for seed in range(3)], at=step) for step in (0, 20, 40, 60, 80, 101)]
    assert judge_one(claim, *frames).estimate == pytest.approx(0.40 - 1.01)


def test_what_every_run_repeats_is_judged_exactly(load):
    (claim,) = load(VALUE.replace("metric: ari", "metric: parameters").replace("scale: 100.0", "scale: 1.0e-3"))
    verdict = judge_one(claim, measures([97_000.0], metric="parameters"))
    assert (verdict.verdict, verdict.p, verdict.low) == ("reproduced", None, None)
    assert judge_one(claim, measures([99_500.0], metric="parameters")).verdict == "differs"


def test_failed_seeds_stand_beside_the_verdict(load):
    (claim,) = load(VALUE)
    frame = measures([0.961, 0.962, 0.963, 0.962, 0.0], failed=[4])
    verdict = judge_one(claim, frame)
    assert (verdict.verdict, verdict.n, verdict.failed) == ("reproduced", 4, 1)
    assert "1 of 5 runs failed (95 % interval of the rate 1 to 72 %)" in verdict.sentence
    logged_before_it_failed = frame[frame["seed"] == 4].assign(metric="ari", value=0.1)
    assert judge_one(claim, frame, logged_before_it_failed).estimate == verdict.estimate
    all_failed = judge_one(claim, measures([0.0, 0.0], failed=[0, 1]))
    assert (all_failed.verdict, all_failed.n, all_failed.failed) == ("undecided", 0, 2)


def test_missing_measures_are_not_run(load):
    value, cannot = load(VALUE, CANNOT)
    assert [v.verdict for v in judge([value, cannot], {}, "test")] == ["not run", "cannot be run"]
    assert judge_one(value, measures([0.9], model="monet")).verdict == "not run"
    assert "a time on other hardware" in judge([cannot], {}, "test")[0].sentence


def test_the_last_value_and_the_label_choose(load):
    last = VALUE.replace("metric: ari", "metric: ari, at: last, label: x")
    (claim,) = load(last)
    early, late = measures([0.1] * 3, at=100.0), measures([0.96, 0.962, 0.964], at=200.0)
    assert judge_one(claim, early, late, measures([0.5] * 3, at=200.0, label="y")).estimate == pytest.approx(96.2)
    (vague,) = load(VALUE)
    with pytest.raises(UserError, match=r"t1 selects several ari of one seed of table1"):
        judge_one(vague, early, late)


def test_p_values_are_adjusted_for_all_that_is_judged(load):
    both = load(VALUE, ORDER.replace("MODEL", "emorl"), CANNOT)
    frame = pd.concat(
        [measures([0.96, 0.97, 0.955, 0.95, 0.98]), measures([0.9, 0.93, 0.91, 0.9, 0.9], variant="no_geco")]
    )
    alone = [judge([claim], {"table1": frame}, "test")[0].p for claim in both[:2]]
    together = [verdict.p for verdict in judge(both, {"table1": frame}, "test")]
    assert together[:2] == pytest.approx(holm(alone))
    assert together[:2] != pytest.approx(alone)
    assert together[2] is None


def test_power_needs_a_printed_spread(load):
    value, order, cannot = load(VALUE, ORDER.replace("MODEL", "emorl"), CANNOT)
    assert 0.7 < power(value, 5) < 0.85  # margin of two deviations: Welch, five seeds each
    assert power(value, 5, judged=50) < power(value, 5) < power(value, 20)
    assert [power(claim, 5) for claim in (order, cannot)] == [None, None]
    assert power(value, 1) is None


# ---- Forms ----------------------------------------------------------------------------------------------------------


def test_every_form_has_every_claim(load):
    verdicts = judge(load(VALUE, CANNOT), {"table1": measures([0.96, 0.97, 0.95])}, "demonstration")
    text = as_text(verdicts)
    assert max(map(len, text.splitlines())) <= 80
    assert "judges the pipeline, not the paper: the runs are a demonstration" in " ".join(text.split())
    assert "1 cannot be run" in text
    frame = as_frame(verdicts)
    assert list(frame["id"]) == ["t1", "hours"]
    assert set(frame["purpose"]) == {"demonstration"}
    assert "not the paper" not in as_text(judge(load(VALUE), {}, "reproduction"))
