"""The rule by which every claim is judged."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import pandas as pd

from emorl.evaluation.parts.statistics import INTERVAL_SEEDS, Comparison, holm, seeds_to_decide
from emorl.pipeline.records import PlannedArtifact
from emorl.reporting.claims.evidence import Evidence, evidence_on
from emorl.reporting.claims.statements import ALPHA, Claim, Family, RatioClaim, UnjudgedClaim, ValueClaim, as_planned
from emorl.reporting.claims.wording import OPEN, Verdict, paper_text, sentence


def judge(
    claims: Sequence[Claim],
    frames: dict[str, pd.DataFrame],
    purpose: str,
    bound: float | None = None,
    planned: Mapping[str, PlannedArtifact] = MappingProxyType({}),
) -> list[Verdict]:
    """A verdict for each claim, in their order.

    `frames`: the metrics (one row per number) of the artifacts that were made, by name. `purpose` of the runs is
    carried along, `bound` as in `evidence_on`. `planned`: what these artifacts show, as in `as_planned`. Raises
    UserError where a claim selects several numbers of one seed.
    """
    claims = [as_planned(claim, planned.get(getattr(claim, "artifact", ""))) for claim in claims]
    found = {claim.id: evidence_on(claim, frames, bound) for claim in claims}
    families: dict[Family, list[Evidence]] = defaultdict(list)
    for evidence in found.values():
        if evidence and evidence.comparisons and not evidence.exact:
            families[evidence.claim.family].append(evidence)
    adjusted: dict[str, float] = {}
    needed: dict[str, int | None] = {}
    for family in families.values():
        tested = [evidence for evidence in family if evidence.testable]
        p_values = holm([evidence.p for evidence in tested])
        adjusted |= {evidence.claim.id: p for evidence, p in zip(tested, p_values, strict=True)}
        if any(adjusted.get(evidence.claim.id, 1.0) > ALPHA for evidence in family):
            needed |= _seeds_needed(family)
    return [_verdict(c, found[c.id], adjusted.get(c.id), needed.get(c.id), purpose) for c in claims]


def _verdict(
    claim: Claim, evidence: Evidence | None, p: float | None, seeds_needed: int | None, purpose: str
) -> Verdict:
    """`p`: adjusted, None where there is no test; `seeds_needed`: if it is open."""
    word = _word(claim, evidence, p)
    paper, margin = (getattr(claim, name, None) for name in ("paper", "margin"))
    verdict = Verdict(
        id=claim.id,
        where=claim.where,
        text=claim.text,
        kind=claim.kind,
        verdict=word,
        failed=evidence.failed if evidence else 0,
        paper=paper_text(paper) if paper else None,
        margin=margin.value if margin else None,
        p=p,
        purpose=purpose,
    )
    if evidence and evidence.comparisons:
        weakest = evidence.weakest
        n = min(weakest.n, weakest.other.n) if weakest.other and weakest.other.ours else weakest.n
        low, high = _shown_interval(evidence) if evidence.testable and n >= INTERVAL_SEEDS else (None, None)
        verdict = replace(verdict, estimate=weakest.estimate, low=low, high=high, n=n)
        if word in OPEN:
            verdict = replace(verdict, seeds_needed=seeds_needed)
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
    of_printed = isinstance(claim, ValueClaim) and claim.paper.sample is not None
    if p is not None and of_printed and evidence.weakest.consistent:
        return "consistent"
    may_be_close = p is not None and isinstance(claim, ValueClaim | RatioClaim)
    return "close" if may_be_close and evidence.inside else "undecided"


def _shown_interval(evidence: Evidence) -> tuple[float, float]:
    """Of our mean alone where the paper's has its own spread, which stands beside it."""
    alone = isinstance(evidence.claim, ValueClaim)
    return (replace(evidence.weakest, other=None) if alone else evidence.weakest).interval()


def _seeds_needed(family: Sequence[Evidence]) -> dict[str, int | None]:
    """By claim, if all of the family have as many; from observed spreads or, if there is one seed, from the paper's.
    What has neither is taken never to be decided."""
    laws = {evidence.claim.id: law for evidence in family if (law := _law(evidence)) is not None}
    needed = seeds_to_decide(list(laws.values()), ALPHA, never=len(family) - len(laws))
    return dict(zip(laws, needed, strict=True))


def _law(evidence: Evidence) -> Comparison | None:
    claim, comparison = evidence.claim, evidence.weakest
    if evidence.testable:
        return comparison
    if claim.paper is None or claim.paper.std is None:
        return None
    other = comparison.other if isinstance(claim, ValueClaim) else None
    return replace(comparison, std=claim.paper.std, other=other)
