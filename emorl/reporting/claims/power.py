"""What may come of the claims, told before anything is run, by simulating the procedure that judges them.

The paper's seeds and ours follow the printed law. A claim without a printed spread is taken never to be decided, which
is least favourable for the others of its family.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from emorl.evaluation.metrics import METRICS
from emorl.evaluation.parts.statistics import MOST_SEEDS, Comparison, Outcomes, fewest_seeds, simulate
from emorl.pipeline.records import PlannedArtifact
from emorl.reporting.claims.statements import ALPHA, Claim, Family, JudgedClaim, UnjudgedClaim, ValueClaim


@dataclass(frozen=True)
class Chance:
    """Of a claim to be decided, if the paper is right."""

    claim: str
    seeds: int
    probability: float
    most: float
    """With MOST_SEEDS of every run: what more seeds can reach."""
    limit: str | None
    """Why no number of our seeds can reproduce it, if none can."""


@dataclass(frozen=True)
class System:
    """Whose verdicts are simulated."""

    name: str
    """What its values are."""
    off: float = 0.0
    """By so many of the paper's standard deviations, all of them."""
    spread: float = 1.0
    """Of its seeds, as a multiple of the paper's."""


AS_PRINTED = System("the paper's")
SYSTEMS = (
    AS_PRINTED,
    System("off by two of its deviations", off=2.0),
    System("so, with twice its deviation", off=2.0, spread=2.0),
)


@dataclass(frozen=True)
class Characteristics:
    """Expected shares, in [0, 1], of the values with a printed spread, and of the orders, that get a verdict."""

    system: str
    seeds: int
    """Of every run."""
    reproduced: float
    consistent: float
    """And not decided."""
    neither: float
    orders: float | None
    """Reproduced, of the orders, if there are any; None if the values are not the paper's, as orders then are not."""


def law(claim: Claim, n: int) -> Comparison | None:
    """What n seeds of ours are compared with if the paper is right; None if it gives no spread, or n is 1."""
    if isinstance(claim, UnjudgedClaim) or claim.paper is None or claim.paper.std is None or n < 2:
        return None
    other = claim.paper.sample if isinstance(claim, ValueClaim) else None
    return Comparison(claim.paper.mean, claim.paper.std, n, *claim.bounds(), other)


def limit(comparison: Comparison) -> str | None:
    """Why no number of our seeds can reproduce it, if none can."""
    other = comparison.other
    if other is None or not comparison.undecidable:
        return None
    margin = (comparison.high - comparison.low) / 2
    return f"the paper's own {other.n} seeds (± {other.std:g}) leave its mean open by more than the margin, {margin:g}"


def powers(claims: Sequence[Claim], artifacts: Mapping[str, PlannedArtifact]) -> list[Chance]:
    """Of each claim on these planned artifacts that can be told something about, with the seeds planned for it."""
    shown = _on(claims, artifacts)
    planned = {claim.id: n for claim in shown if (n := _planned(claim, artifacts[claim.artifact]))}
    now, most = _decided(shown, lambda claim: planned[claim.id]), _decided(shown, lambda _: MOST_SEEDS)
    return [
        Chance(claim.id, planned[claim.id], now[claim.id], most[claim.id], limit(comparison))
        for claim in shown
        if claim.id in now and (comparison := law(claim, planned[claim.id]))
    ]


def seeds_for_shares(
    claims: Sequence[Claim], artifacts: Mapping[str, PlannedArtifact], shares: Sequence[float]
) -> tuple[dict[float, int | None], float]:
    """The fewest seeds, the same of every run, with which such shares of these artifacts' claims are expected to be
    decided, None if no number is enough; and the share that the most seeds reach. Of claims with a printed spread."""

    @cache
    def expected(n: int) -> float:
        return float(np.mean([*_decided(_on(claims, artifacts), lambda _: n).values()]))

    return {share: fewest_seeds(expected, share) for share in shares}, expected(MOST_SEEDS)


def characteristics(claims: Sequence[Claim], n: int, system: System = AS_PRINTED) -> Characteristics:
    """With n seeds of every run. A spread printed as 0 is left out: nothing is off by any number of it."""
    values: list[tuple[float, float]] = []
    orders: list[float] = []
    judged = [claim for claim in claims if not isinstance(claim, UnjudgedClaim)]
    for known, outcomes in _simulated(judged, lambda _: n, system):
        weaker = outcomes.consistent & ~outcomes.decided
        for i, (claim, comparison) in enumerate(known):
            if not isinstance(claim, ValueClaim):
                orders.append(outcomes.inside[:, i].mean())
            elif comparison.std > 0:
                values.append((outcomes.inside[:, i].mean(), weaker[:, i].mean()))
    reproduced, consistent = np.mean(values, 0).tolist()
    neither = 1 - reproduced - consistent
    shown = float(np.mean(orders)) if orders and system == AS_PRINTED else None
    return Characteristics(system.name, n, reproduced, consistent, neither, shown)


def _on(claims: Sequence[Claim], artifacts: Mapping[str, PlannedArtifact]) -> list[JudgedClaim]:
    """The claims on series that are planned, but for those that the scale has no say on."""
    judged = [claim for claim in claims if not isinstance(claim, UnjudgedClaim) and claim.artifact in artifacts]
    there = [claim for claim in judged if claim.id not in artifacts[claim.artifact].cannot]
    return [claim for claim in there if _planned(claim, artifacts[claim.artifact])]


def _planned(claim: JudgedClaim, artifact: PlannedArtifact) -> int | None:
    """Seeds of the series that the claim is about; None if it is not among those planned."""
    selector = claim.pairs()[0][0]
    keys = (selector.dataset, selector.model, selector.variant)
    return next((len(s.runs) for s in artifact.series if (s.dataset, s.model, s.variant) == keys), None)


def _decided(claims: Sequence[JudgedClaim], seeds: Callable[[JudgedClaim], int]) -> dict[str, float]:
    """Probability, by claim, of those with a printed spread."""
    return {
        claim.id: float(share)
        for known, outcomes in _simulated(claims, seeds)
        for (claim, _), share in zip(known, outcomes.decided.mean(0), strict=True)
    }


def _simulated(
    claims: Sequence[JudgedClaim], seeds: Callable[[JudgedClaim], int], system: System = AS_PRINTED
) -> Iterator[tuple[list[tuple[JudgedClaim, Comparison]], Outcomes]]:
    """The claims with a printed spread of each family that has any, with what may come of them."""
    families: dict[Family, list[JudgedClaim]] = defaultdict(list)
    for claim in claims:
        if not METRICS[claim.pairs()[0][0].metric].repeats:  # those are judged without a test
            families[claim.family].append(claim)
    for family in families.values():
        known = [(claim, comparison) for claim in family if (comparison := law(claim, seeds(claim)))]
        truth = [_of(system, c) if isinstance(claim, ValueClaim) else c for claim, c in known]
        if known:
            yield known, simulate(truth, ALPHA, printed=True, never=len(family) - len(known))


def _of(system: System, law: Comparison) -> Comparison:
    return replace(law, estimate=law.estimate + system.off * law.std, std=system.spread * law.std)
