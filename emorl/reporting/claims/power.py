"""How probably the claims will be decided: told before anything is run."""

from collections.abc import Sequence
from typing import Any

from emorl.evaluation.statistics import Comparison, Other, probability_of_deciding
from emorl.reporting.claims.statements import ALPHA, Claim, UnjudgedClaim, ValueClaim, artifact_of


def power(claim: Claim, n: int, judged: int = 1) -> float | None:
    """Probability that n seeds decide the claim if the paper is right: its seeds and ours follow the printed law.

    `judged`: how many claims are judged together; the level is that of Holm's first step. None if the paper gives no
    spread, or there is none with one seed.
    """
    if isinstance(claim, UnjudgedClaim) or claim.paper is None or claim.paper.std is None or n < 2:
        return None
    paper, (low, high) = claim.paper, claim.bounds()
    other = Other(paper.std, paper.n, ours=False) if isinstance(claim, ValueClaim) else None
    comparison = Comparison(paper.mean, paper.std, n, low, high, other)
    return probability_of_deciding(comparison, ALPHA / judged, other_is_random=True)


def powers(claims: Sequence[Claim], artifacts: dict[str, dict[str, Any]]) -> list[tuple[str, int, float]]:
    """(id, seeds, power) of each claim on these planned artifacts that `power` can tell something about."""
    found = []
    for name, artifact in artifacts.items():
        family = [claim for claim in claims if artifact_of(claim) == name]
        for claim in family:
            selector = claim.pairs()[0][0]
            keys = (selector.dataset, selector.model, selector.variant)
            seeds = [len(s["runs"]) for s in artifact["series"] if (s["dataset"], s["model"], s["variant"]) == keys]
            if seeds and (chance := power(claim, seeds[0], len(family))) is not None:
                found.append((claim.id, seeds[0], chance))
    return found
