"""Verdicts in words: a sentence each, a CSV, a text for a terminal."""

import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

import pandas as pd

from emorl.evaluation.metrics import METRICS
from emorl.evaluation.parts.statistics import MOST_SEEDS, failure_interval
from emorl.reporting.claims.evidence import Evidence
from emorl.reporting.claims.power import SYSTEMS, characteristics, limit
from emorl.reporting.claims.statements import (
    Claim,
    JudgedClaim,
    OrderClaim,
    PaperSettings,
    TrendClaim,
    UnjudgedClaim,
)

OPEN = ("consistent", "close", "undecided")
"""Verdicts that more seeds might turn into "reproduced" or "differs"."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    id: str
    where: str
    text: str
    kind: str
    verdict: str
    """reproduced, consistent, close, differs, undecided, not run or cannot be run."""
    estimate: float | None = None
    """In the paper's unit: a mean, a difference, or a mean ratio; of a trend, its weakest difference."""
    low: float | None = None
    """95 % interval of the estimate; None below `INTERVAL_SEEDS` seeds and where every run repeats the number."""
    high: float | None = None
    n: int = 0
    """Seeds that it rests on."""
    failed: int
    """Runs that failed."""
    paper: str | None
    """What the paper prints."""
    margin: float | None
    p: float | None
    """Of the decision that is nearest, Holm-adjusted."""
    sentence: str = ""
    seeds_needed: int | None = None
    """With which, in all, an open verdict would probably be decided; None if it is not open, or cannot be said."""
    purpose: str
    """Of the runs: reproduction, demonstration or test."""


def sentence(claim: Claim, verdict: Verdict, evidence: Evidence | None) -> str:
    if isinstance(claim, UnjudgedClaim):
        return f"It cannot be judged here: {claim.cannot}."
    if evidence is None:
        return "There are no numbers of it at this scale."
    if not evidence.comparisons:
        why = "Too many runs failed to leave a number" if evidence.failed else "No ratio is left: all are to 0"
        return f"{why}{_failures(evidence)}."
    interval = "" if verdict.low is None else f" [{verdict.low:.4g}, {verdict.high:.4g}]"
    seeds = f"{verdict.n} seed{'s' if verdict.n > 1 else ''}"
    basis = METRICS[claim.pairs()[0][0].metric].repeats if evidence.exact else seeds
    start = f"The {claim.estimated} is {verdict.estimate:.4g}{interval} over {basis}"
    tested = "" if verdict.p is None or verdict.verdict == "consistent" else f" (p = {verdict.p:.2g})"
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
        "consistent": f"as more seeds of {paper} may well be",
        "close": f"within {verdict.margin:g} of {paper} by the estimate alone",
        "differs": f"further than {verdict.margin:g} from {paper}",
        "undecided": f"whether it is within {verdict.margin:g} of {paper} is uncertain",
    }[verdict.verdict]


def _plan(verdict: Verdict, evidence: Evidence) -> str:
    if verdict.verdict not in OPEN:
        return ""
    untestable = "one seed has no spread" if verdict.n == 1 else "seeds that agree to the digit have no spread"
    reason = "" if evidence.testable else f"; {untestable}"
    if verdict.seeds_needed:
        return f"{reason}; {verdict.seeds_needed} seeds in all would probably decide"
    if why := limit(evidence.weakest):
        return f"{reason}; more seeds of ours may show that it differs, none that it is reproduced: {why}"
    return reason or f"; not even {MOST_SEEDS} seeds would probably decide"


def _failures(evidence: Evidence) -> str:
    text = ""
    for count, what in ((evidence.failed, "failed"), (evidence.unbound, "did not bind")):
        if count:
            low, high = failure_interval(count, evidence.started)
            rate = f"95 % interval of the rate {100 * low:.0f} to {100 * high:.0f} %"
            text += f"; {count} of {evidence.started} runs {what} ({rate})"
    return text


def paper_text(paper: PaperSettings) -> str:
    return f"{paper.mean:g}" if paper.n is None else f"{paper.mean:g} ± {paper.std:g} (n = {paper.n})"


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


def expected_text(claims: Sequence[Claim]) -> str:
    """What verdicts to expect with 5, 10 and 20 seeds of every run, for a terminal of 80 columns."""
    heads = f"{'reproduced':>10} {'consistent':>10} {'neither':>8} {'orders':>7}"
    lines = [f"{'a system whose values are':28} {'seeds':>5} {heads}"]
    for system in SYSTEMS:
        for n in (5, 10, 20):
            row = characteristics(claims, n, system)
            shares = f"{row.reproduced:10.0%} {row.consistent:10.0%} {row.neither:8.0%}"
            orders = "" if row.orders is None else f" {row.orders:7.0%}"
            lines.append(f"{row.system:28} {n:5} {shares}{orders}")
    return "\n".join(lines)


def _counts(verdicts: Sequence[Verdict]) -> str:
    words = [verdict.verdict for verdict in verdicts]
    return ", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(words))
