"""The rule by which every claim is judged."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from emorl.evaluation.statistics import Comparison, holm, seeds_to_decide
from emorl.reporting.claims.evidence import Evidence, evidence_on
from emorl.reporting.claims.statements import (
    ALPHA,
    Claim,
    JudgedClaim,
    RatioClaim,
    UnjudgedClaim,
    ValueClaim,
    artifact_of,
)
from emorl.reporting.claims.wording import Verdict, paper_text, sentence


def judge(claims: Sequence[Claim], frames: dict[str, pd.DataFrame], purpose: str) -> list[Verdict]:
    """A verdict for each claim, in their order.

    `frames`: the measures (one row per number) of the artifacts that were made, by name. `purpose` of the runs is
    carried along. Raises UserError where a claim selects several numbers of one seed.
    """
    found = {claim.id: evidence_on(claim, frames) for claim in claims}
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
        _verdict(claim, found[claim.id], adjusted.get(claim.id), level.get(artifact_of(claim), ALPHA), purpose)
        for claim in claims
    ]


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
        paper=paper_text(paper) if paper else None,
        margin=margin.value if margin else None,
        p=p,
        sentence="",
        purpose=purpose,
    )
    return replace(verdict, sentence=sentence(claim, verdict, evidence))


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
