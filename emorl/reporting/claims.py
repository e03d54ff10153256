"""Judges what the paper says: every claim of `params/claims.yaml` by one rule, on the measures of the artifacts.

A claim is a range, fixed before any run, that something measured shall lie in. Its verdict is one of

- reproduced: a test says that the truth lies in the range;
- differs: a test says that it does not;
- close: of a value or a ratio, the estimate lies in the range but no test says so;
- undecided: the interval is too wide, or there is one seed;
- not run: there are no measures;
- cannot be run: what the claim is about is not to be had, for a reason that stands in the file.

The p values of the claims on one artifact are adjusted together by Holm's method: one table or figure is one family.
Over all artifacts at once no number of our seeds could decide most of Table 1, whose own five seeds set the limit. The
statistics are those of `emorl.evaluation.statistics`.
"""

import math
import textwrap
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import pandas as pd
from pydantic import Field

from emorl.config import CLAIMS, DataSetName, ModelName, load_yaml, validate
from emorl.errors import UserError
from emorl.evaluation.statistics import (
    Comparison,
    Other,
    failure_interval,
    holm,
    probability_of_deciding,
    seeds_to_decide,
)
from emorl.settings import Settings

ALPHA = 0.05
EXACT = ("parameters", "forward_largest_batch", "training_largest_batch")
"""Metrics that every run repeats to the digit: judged without a test."""

Artifact = Literal[
    *("table1", "table2", "table3"),
    *("fig3", "fig4", "fig7", "fig8", "fig9", "fig10", "fig11", "fig13", "fig14"),
]
Metric = Literal[
    *("ari", "ari_clevr10", "ari_with_background", "mse", "kl", "nll", "loss"),
    *("update_norm_1", "update_norm_2", "update_norm_3"),
    *("disentanglement", "completeness", "informativeness", "informativeness_correct"),
    *("active_share", "changed_outside", "kl_from_initial", "forward_s", "training_s", *EXACT),
]


# ---- The file of claims ---------------------------------------------------------------------------------------------


class Selector(Settings):
    """Picks one number per seed from an artifact's measures."""

    model: ModelName
    dataset: DataSetName
    variant: str = "base"
    metric: Metric
    label: str | None = None
    """Name of the series, where series differ in nothing else (Figure 10); null: any."""
    at: float | Literal["last"] | None = None
    """Value of what the artifact varies, or the seed's last one; null: any."""
    share: float = Field(1.0, gt=0, le=1)
    """Of the way to the last one: with 0.5 and "last", the number half-way through, or the one before."""


class PaperSettings(Settings):
    """As printed in the paper; of an order, the difference that the printed numbers have."""

    mean: float
    std: float | None = None
    """Over seeds; null where one number is printed alone."""
    n: int | None = Field(None, ge=2)
    """Seeds; null where one number is printed alone."""


class MarginSettings(Settings):
    value: float = Field(ge=0)
    """In the paper's unit."""
    reason: str


class ClaimSettings(Settings):
    id: str
    where: str
    """Table, figure or section, with what is needed to find it there."""
    text: str
    """What the paper says, in a sentence or as a quote."""
    artifact: Artifact
    """Whose measures it is judged on."""
    scale: float = 1.0
    """Measures are multiplied by this to be in the paper's unit."""


class ValueClaim(ClaimSettings):
    """Our mean is the paper's, within the margin."""

    kind: Literal["value"]
    measure: Selector
    paper: PaperSettings
    margin: MarginSettings
    estimated: ClassVar[str] = "mean"


class RatioClaim(ClaimSettings):
    """The mean over seeds of a ratio is the paper's number, within the margin."""

    kind: Literal["ratio"]
    numerator: Selector
    denominator: Selector
    paper: PaperSettings
    margin: MarginSettings
    estimated: ClassVar[str] = "mean ratio"


class OrderClaim(ClaimSettings):
    """One mean is greater than the other, or than a number."""

    kind: Literal["order"]
    greater: Selector | None = None
    smaller: Selector | None = None
    than: float | None = None
    """Stands for the one of the two that is left out; in the paper's unit."""
    paper: PaperSettings | None = None
    margin: MarginSettings | None = None
    """By which `greater` may fall short: "only a slight drop"."""
    estimated: ClassVar[str] = "difference"


class TrendClaim(ClaimSettings):
    """The means rise or fall from each of `over` to the next, or are greatest or least at `best`."""

    kind: Literal["trend"]
    measure: Selector
    over: list[float] | list[str] = Field(min_length=2)
    """Values of the selector's `at`, or variants, in order."""
    shape: Literal["rising", "falling", "greatest", "least"]
    best: float | str | None = None
    paper: ClassVar[None] = None
    margin: ClassVar[None] = None
    estimated: ClassVar[str] = "least difference"

    def pairs(self) -> list[tuple[Selector, Selector]]:
        """(greater, smaller) of every comparison that the claim makes."""
        if self.shape in ("rising", "falling"):
            pairs = [(later, earlier) for earlier, later in zip(self.over, self.over[1:], strict=False)]
        else:
            pairs = [(self.best, other) for other in self.over if other != self.best]
        if self.shape in ("falling", "least"):
            pairs = [(second, first) for first, second in pairs]
        return [(self._at(greater), self._at(smaller)) for greater, smaller in pairs]

    def _at(self, value: float | str) -> Selector:
        return self.measure.model_copy(update={"variant" if isinstance(value, str) else "at": value})


class UnjudgedClaim(Settings):
    """A claim that nothing here can judge."""

    id: str
    where: str
    text: str
    kind: Literal["value", "order", "ratio", "trend"]
    cannot: str
    """Why not."""


JudgedClaim = ValueClaim | RatioClaim | OrderClaim | TrendClaim
Claim = JudgedClaim | UnjudgedClaim
KINDS = {"value": ValueClaim, "ratio": RatioClaim, "order": OrderClaim, "trend": TrendClaim}


def load_claims(path: Path = CLAIMS) -> list[Claim]:
    """The claims of a file {id: claim}. Raises UserError naming the file, the claim and its key."""
    content = load_yaml(path)
    if not isinstance(content, dict):
        raise UserError(f"params/{path.name} must map the id of each claim to the claim")
    return [_load(name, claim, path) for name, claim in content.items()]


def _load(name: str, content: Any, path: Path) -> Claim:
    where = f"params/{path.name}: {name}"
    if not isinstance(content, dict):
        raise UserError(f"{where} is {content!r}; must be a mapping")
    kind = content.get("kind")
    if kind not in KINDS:
        raise UserError(f"{where}.kind is {kind!r}; must be one of {', '.join(KINDS)}")
    cls = UnjudgedClaim if "cannot" in content else KINDS[kind]
    claim = validate(cls, content | {"id": name}, path, prefix=f"{name}.")
    if isinstance(claim, TrendClaim) and (claim.best in claim.over) != (claim.shape in ("greatest", "least")):
        raise UserError(f"{where}.best is {claim.best!r}; must be one of `over` for greatest and least, else left out")
    if isinstance(claim, OrderClaim) and [claim.greater, claim.smaller, claim.than].count(None) != 1:
        raise UserError(f"{where} must have two of greater, smaller and than")
    paper = getattr(claim, "paper", None)
    if paper and (paper.std is None) != (paper.n is None):
        raise UserError(f"{where}.paper must have both std and n, or neither")
    return claim


def paper_values(claims: Sequence[Claim], artifact: str) -> dict[tuple[str, str, str, str], dict[str, Any]]:
    """What the paper printed in a table: {(data set, model, variant, metric): {mean, std, n}}, in its unit.

    Where it gives two numbers for a cell, the first.
    """
    printed: dict[tuple[str, str, str, str], dict[str, Any]] = {}
    for claim in claims:
        if isinstance(claim, ValueClaim) and claim.artifact == artifact:
            cell = claim.measure
            printed.setdefault((cell.dataset, cell.model, cell.variant, cell.metric), claim.paper.model_dump())
    return printed


# ---- Judging --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    id: str
    where: str
    text: str
    kind: str
    verdict: str
    """reproduced, close, differs, undecided, not run or cannot be run."""
    estimate: float | None
    """In the paper's unit: a mean, a difference, or a mean ratio; of a trend, its weakest difference."""
    low: float | None
    """95 % interval of the estimate; None below two seeds and where every run repeats the number."""
    high: float | None
    n: int
    """Seeds that it rests on."""
    failed: int
    """Runs that failed."""
    paper: str | None
    """What the paper prints."""
    margin: float | None
    p: float | None
    """Of the decision that is nearest, Holm-adjusted."""
    sentence: str
    seeds_needed: int | None
    """With which, in all, an open verdict would probably be decided; None if it is not open, or cannot be said."""
    purpose: str
    """Of the runs: reproduction, demonstration or test."""


@dataclass(frozen=True)
class Evidence:
    """What the measures say on one claim."""

    comparisons: list[Comparison]
    """All must lie in their ranges. Empty where a number is missing."""
    failed: int
    started: int
    exact: bool

    @property
    def testable(self) -> bool:
        return bool(self.comparisons) and not self.exact and all(not math.isnan(c.std) for c in self.comparisons)

    @property
    def weakest(self) -> Comparison:
        """The comparison that speaks least for the claim."""
        if self.testable:
            return max(self.comparisons, key=lambda comparison: comparison.p_inside)
        return min(self.comparisons, key=lambda comparison: comparison.estimate - comparison.low)

    @property
    def inside(self) -> bool:
        return all(comparison.inside for comparison in self.comparisons)

    @property
    def p_inside(self) -> float:
        """The claim holds if every comparison does: intersection-union test."""
        return self.weakest.p_inside

    @property
    def p_outside(self) -> float:
        """The claim fails if any comparison does: Bonferroni."""
        return min(1.0, len(self.comparisons) * min(comparison.p_outside for comparison in self.comparisons))

    @property
    def p(self) -> float:
        """One of the two hypotheses is true, so one decision at most can be wrong, and nothing is paid for two."""
        return min(self.p_inside, self.p_outside)


def judge(claims: Sequence[Claim], frames: dict[str, pd.DataFrame], purpose: str) -> list[Verdict]:
    """A verdict for each claim, in their order.

    `frames`: the measures (one row per number) of the artifacts that were made, by name. `purpose` of the runs is
    carried along. Raises UserError where a claim selects several numbers of one seed.
    """
    found = {claim.id: _evidence(claim, frames) for claim in claims}
    families: dict[str, list[str]] = defaultdict(list)
    for claim in claims:
        evidence = found[claim.id]
        if evidence and evidence.testable:
            families[claim.artifact].append(claim.id)
    adjusted, level = {}, {}
    for artifact, ids in families.items():
        adjusted |= zip(ids, holm([found[name].p for name in ids]), strict=True)
        level[artifact] = ALPHA / len(ids)
    return [
        _verdict(claim, found[claim.id], adjusted.get(claim.id), level.get(_artifact(claim), ALPHA), purpose)
        for claim in claims
    ]


def _artifact(claim: Claim) -> str | None:
    return None if isinstance(claim, UnjudgedClaim) else claim.artifact


def power(claim: Claim, n: int, judged: int = 1) -> float | None:
    """Probability that n seeds decide the claim if the paper is right: its seeds and ours follow the printed law.

    `judged`: how many claims are judged together; the level is that of Holm's first step. None if the paper gives no
    spread, or there is none with one seed.
    """
    if isinstance(claim, UnjudgedClaim) or claim.paper is None or claim.paper.std is None or n < 2:
        return None
    paper, (low, high) = claim.paper, _range(claim)
    other = Other(paper.std, paper.n, ours=False) if isinstance(claim, ValueClaim) else None
    comparison = Comparison(paper.mean, paper.std, n, low, high, other)
    return probability_of_deciding(comparison, ALPHA / judged, other_is_random=True)


def powers(claims: Sequence[Claim], artifacts: dict[str, dict[str, Any]]) -> list[tuple[str, int, float]]:
    """(id, seeds, power) of each claim on these planned artifacts that `power` can tell something about."""
    found = []
    for name, artifact in artifacts.items():
        family = [claim for claim in claims if _artifact(claim) == name]
        for claim in family:
            selector = _pairs(claim)[0][0]
            keys = (selector.dataset, selector.model, selector.variant)
            seeds = [len(s["runs"]) for s in artifact["series"] if (s["dataset"], s["model"], s["variant"]) == keys]
            if seeds and (chance := power(claim, seeds[0], len(family))) is not None:
                found.append((claim.id, seeds[0], chance))
    return found


def _evidence(claim: Claim, frames: dict[str, pd.DataFrame]) -> Evidence | None:
    """None where there are no runs to judge by."""
    if isinstance(claim, UnjudgedClaim) or claim.artifact not in frames:
        return None
    frame, pairs = frames[claim.artifact], _pairs(claim)
    selectors = list(dict.fromkeys(selector for pair in pairs for selector in pair))
    values = {selector: claim.scale * _values(frame, selector, claim) for selector in selectors}
    failed, started = _runs(frame, selectors)
    exact = all(selector.metric in EXACT for selector in selectors)
    if any(numbers.empty for numbers in values.values()):
        return Evidence([], failed, started, exact) if failed else None
    comparisons = [_comparison(claim, pair, [values[selector] for selector in pair]) for pair in pairs]
    return Evidence(comparisons, failed, started, exact)


def _pairs(claim: JudgedClaim) -> list[tuple[Selector, ...]]:
    """The selectors of every comparison: one of a value, else two."""
    match claim:
        case ValueClaim():
            return [(claim.measure,)]
        case RatioClaim():
            return [(claim.numerator, claim.denominator)]
        case OrderClaim():
            return [tuple(selector for selector in (claim.greater, claim.smaller) if selector)]
        case TrendClaim():
            return claim.pairs()


def _of_series(frame: pd.DataFrame, selector: Selector) -> pd.DataFrame:
    columns = ["model", "dataset", "variant", *(["label"] if selector.label else [])]
    return frame[(frame[columns] == [getattr(selector, column) for column in columns]).all(axis=1)]


def _values(frame: pd.DataFrame, selector: Selector, claim: JudgedClaim) -> pd.Series:
    """One number per seed, by seed."""
    rows = _of_series(frame, selector)
    rows = rows[rows["metric"] == selector.metric]
    if selector.at == "last":
        rows = rows[rows["at"] <= selector.share * rows.groupby("seed")["at"].transform("max")]
        rows = rows[rows["at"] == rows.groupby("seed")["at"].transform("max")]
    elif selector.at is not None:
        rows = rows[rows["at"] == selector.at]
    if rows["seed"].duplicated().any():
        raise UserError(
            f"params/claims.yaml: {claim.id} selects several {selector.metric} of one seed of {claim.artifact}; "
            "`at` or `label` must say which"
        )
    failed = frame[frame["metric"] == "failed"]
    return rows[~rows["run"].isin(failed["run"])].set_index("seed")["value"]


def _runs(frame: pd.DataFrame, selectors: list[Selector]) -> tuple[int, int]:
    """How many of the runs behind `selectors` failed, and how many there are."""
    rows = pd.concat([_of_series(frame, selector) for selector in selectors])
    return rows[rows["metric"] == "failed"]["run"].nunique(), rows["run"].nunique()


def _range(claim: JudgedClaim) -> tuple[float, float]:
    if isinstance(claim, OrderClaim | TrendClaim):
        return -claim.margin.value if claim.margin else 0.0, math.inf
    return claim.paper.mean - claim.margin.value, claim.paper.mean + claim.margin.value


def _comparison(claim: JudgedClaim, pair: tuple[Selector, ...], values: list[pd.Series]) -> Comparison:
    low, high = _range(claim)
    if isinstance(claim, ValueClaim):
        paper = claim.paper
        other = None if paper.n is None else Other(paper.std, paper.n, ours=False)
        return _of_sample(values[0], low, high, other, draw=paper.n is None)
    if isinstance(claim, OrderClaim) and claim.than is not None:
        return _of_sample(values[0] - claim.than if claim.greater else claim.than - values[0], low, high)
    first, second = values
    together = first.index.intersection(second.index)
    if isinstance(claim, RatioClaim):
        return _of_sample(first[together] / second[together], low, high)
    same_system = (pair[0].model, pair[0].dataset) == (pair[1].model, pair[1].dataset)
    if same_system and len(together) > 1:  # the seed gives both the same order of images
        return _of_sample(first[together] - second[together], low, high)
    other = Other(_std(second), len(second), ours=True)
    sample = _of_sample(first - second.mean(), low, high, other)
    return sample if len(second) > 1 else replace(sample, std=math.nan)


def _of_sample(
    values: pd.Series, low: float, high: float, other: Other | None = None, draw: bool = False
) -> Comparison:
    return Comparison(float(values.mean()), _std(values), len(values), low, high, other, draw)


def _std(values: pd.Series) -> float:
    """NaN below two values."""
    return float(values.std(ddof=1))


# ---- Verdicts -------------------------------------------------------------------------------------------------------


def _verdict(claim: Claim, evidence: Evidence | None, p: float | None, level: float, purpose: str) -> Verdict:
    """`p`: adjusted, None where there is no test; `level`: of a single test, for planning."""
    word = _word(claim, evidence, p)
    found: dict[str, Any] = {"estimate": None, "low": None, "high": None, "n": 0, "seeds_needed": None}
    if evidence and evidence.comparisons:
        weakest = evidence.weakest
        low, high = _shown_interval(claim, weakest) if evidence.testable else (None, None)
        n = min(weakest.n, weakest.other.n) if weakest.other and weakest.other.ours else weakest.n
        found = {"estimate": weakest.estimate, "low": low, "high": high, "n": n, "seeds_needed": None}
        if word in ("close", "undecided"):
            found["seeds_needed"] = _seeds_needed(claim, evidence, level)
    named = {name: getattr(claim, name) for name in ("id", "where", "text", "kind")}
    paper, margin = (getattr(claim, name, None) for name in ("paper", "margin"))
    verdict = Verdict(
        **named,
        **found,
        verdict=word,
        failed=evidence.failed if evidence else 0,
        paper=_paper_text(paper) if paper else None,
        margin=margin.value if margin else None,
        p=p,
        sentence="",
        purpose=purpose,
    )
    return replace(verdict, sentence=_sentence(claim, verdict, evidence))


def _word(claim: Claim, evidence: Evidence | None, p: float | None) -> str:
    if isinstance(claim, UnjudgedClaim):
        return "cannot be run"
    if evidence is None:
        return "not run"
    if evidence.exact and evidence.comparisons:
        return "reproduced" if evidence.inside else "differs"
    if p is not None and p <= ALPHA:
        return "reproduced" if evidence.p_inside < evidence.p_outside else "differs"
    may_be_close = p is not None and isinstance(claim, ValueClaim | RatioClaim)
    return "close" if may_be_close and evidence.inside else "undecided"


def _shown_interval(claim: JudgedClaim, comparison: Comparison) -> tuple[float, float]:
    """Of our mean alone where the paper's has its own spread, which stands beside it."""
    return (replace(comparison, other=None) if isinstance(claim, ValueClaim) else comparison).interval()


def _seeds_needed(claim: JudgedClaim, evidence: Evidence, level: float) -> int | None:
    """From the observed spread; from the paper's, if there is one seed."""
    comparison = evidence.weakest
    if not evidence.testable:
        if claim.paper is None or claim.paper.std is None:
            return None
        other = comparison.other if isinstance(claim, ValueClaim) else None
        comparison = replace(comparison, std=claim.paper.std, other=other)
    return seeds_to_decide(comparison, level)


def _paper_text(paper: PaperSettings) -> str:
    return f"{paper.mean:g}" if paper.n is None else f"{paper.mean:g} ± {paper.std:g} (n = {paper.n})"


def _sentence(claim: Claim, verdict: Verdict, evidence: Evidence | None) -> str:
    if isinstance(claim, UnjudgedClaim):
        return f"It cannot be judged here: {claim.cannot}."
    if evidence is None:
        return "No run of it was made."
    if not evidence.comparisons:
        return f"Too many runs failed to leave a number{_failures(evidence)}."
    interval = f" [{verdict.low:.4g}, {verdict.high:.4g}]" if evidence.testable else ""
    seeds = "every run" if evidence.exact else f"{verdict.n} seed{'s' if verdict.n > 1 else ''}"
    start = f"The {claim.estimated} is {verdict.estimate:.4g}{interval} over {seeds}"
    tested = "" if verdict.p is None else f" (p = {verdict.p:.2g})"
    return f"{start}: {_finding(claim, verdict)}{tested}{_plan(verdict, evidence)}{_failures(evidence)}."


def _finding(claim: JudgedClaim, verdict: Verdict) -> str:
    if isinstance(claim, OrderClaim | TrendClaim):
        bound = -verdict.margin if verdict.margin else 0
        return {
            "reproduced": f"above {bound:g}, as the paper says",
            "differs": f"below {bound:g}, against the paper",
            "undecided": f"whether it is above {bound:g} is uncertain",
        }[verdict.verdict]
    paper = f"the paper's {verdict.paper}"
    return {
        "reproduced": f"within {verdict.margin:g} of {paper}",
        "close": f"within {verdict.margin:g} of {paper} by the estimate alone",
        "differs": f"further than {verdict.margin:g} from {paper}",
        "undecided": f"whether it is within {verdict.margin:g} of {paper} is uncertain",
    }[verdict.verdict]


def _plan(verdict: Verdict, evidence: Evidence) -> str:
    if verdict.verdict not in ("close", "undecided"):
        return ""
    reason = "" if evidence.testable else "; one seed has no spread"
    if verdict.seeds_needed:
        return f"{reason}; {verdict.seeds_needed} seeds in all would probably decide"
    return reason or "; no affordable number of seeds would decide"


def _failures(evidence: Evidence) -> str:
    if not evidence.failed:
        return ""
    low, high = failure_interval(evidence.failed, evidence.started)
    return (
        f"; {evidence.failed} of {evidence.started} runs failed "
        f"(95 % interval of the rate {100 * low:.0f} to {100 * high:.0f} %)"
    )


# ---- Forms ----------------------------------------------------------------------------------------------------------


def heading(purpose: str) -> str:
    """What the verdicts are about, in a sentence."""
    if purpose == "reproduction":
        return "Each claim of the paper against the runs of its own setting."
    return f"This judges the pipeline, not the paper: the runs are a {purpose}, not a reproduction."


def as_frame(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """One line per claim, columns as the fields of Verdict, numbers unrounded."""
    return pd.DataFrame([asdict(verdict) for verdict in verdicts], columns=[field.name for field in fields(Verdict)])


def as_text(verdicts: Sequence[Verdict]) -> str:
    """For a terminal of 80 columns: how many of each verdict, then every claim."""
    lines = [*textwrap.wrap(heading(verdicts[0].purpose), 80), _counts(verdicts), ""]
    for verdict in verdicts:
        lines += textwrap.wrap(f"{verdict.verdict.upper()}  {verdict.id}: {verdict.text} ({verdict.where})", 80)
        lines += textwrap.wrap(verdict.sentence, 80, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(lines)


def _counts(verdicts: Sequence[Verdict]) -> str:
    words = [verdict.verdict for verdict in verdicts]
    return ", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(words))
