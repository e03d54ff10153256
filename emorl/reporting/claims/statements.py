"""The file of claims, `params/claims.yaml`: what a claim is, and the mistakes that can be made in one."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from emorl.config import CLAIMS, DataSetName, ModelName, load_yaml, validate
from emorl.errors import UserError
from emorl.settings import Settings

ALPHA = 0.05
EXACT = {
    "parameters": "every run",
    "forward_largest_batch": "every run",
    "training_largest_batch": "every run",
    "forward_s": "the passes timed here, a median",
    "training_s": "the passes timed here, a median",
}
"""Metrics judged without a test, and what they rest on: every run repeats them to the digit or, of times on one
machine, far closer than any margin."""

Artifact = Literal[
    *("table1", "table2", "table3"),
    *("fig3", "fig4", "fig7", "fig8", "fig9", "fig10", "fig11", "fig13", "fig14"),
]
Metric = Literal[
    *("ari", "ari_clevr10", "ari_with_background", "mse", "kl", "nll", "loss"),
    *("update_norm_1", "update_norm_2", "update_norm_3"),
    *("disentanglement", "completeness", "informativeness", "informativeness_correct"),
    *("active_share", "changed_outside", "kl_from_initial", *EXACT),
]


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
    """Each kind has `pairs`, the selectors of every comparison that it makes: one of a value, else two, the greater one
    or the numerator first; and `bounds`, the range that every comparison's estimate shall lie in."""

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

    def pairs(self) -> list[tuple[Selector, ...]]:
        return [(self.measure,)]

    def bounds(self) -> tuple[float, float]:
        return _around(self.paper, self.margin)


class RatioClaim(ClaimSettings):
    """The mean over seeds of a ratio is the paper's number, within the margin."""

    kind: Literal["ratio"]
    numerator: Selector
    denominator: Selector
    paper: PaperSettings
    margin: MarginSettings
    estimated: ClassVar[str] = "mean ratio"

    def pairs(self) -> list[tuple[Selector, ...]]:
        return [(self.numerator, self.denominator)]

    def bounds(self) -> tuple[float, float]:
        return _around(self.paper, self.margin)


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

    def pairs(self) -> list[tuple[Selector, ...]]:
        return [tuple(selector for selector in (self.greater, self.smaller) if selector)]

    def bounds(self) -> tuple[float, float]:
        return (-self.margin.value if self.margin else 0.0), math.inf


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

    def pairs(self) -> list[tuple[Selector, ...]]:
        if self.shape in ("rising", "falling"):
            pairs = [(later, earlier) for earlier, later in zip(self.over, self.over[1:], strict=False)]
        else:
            pairs = [(self.best, other) for other in self.over if other != self.best]
        if self.shape in ("falling", "least"):
            pairs = [(second, first) for first, second in pairs]
        return [(self._at(greater), self._at(smaller)) for greater, smaller in pairs]

    def bounds(self) -> tuple[float, float]:
        return 0.0, math.inf

    def _at(self, value: float | str) -> Selector:
        return self.measure.model_copy(update={"variant" if isinstance(value, str) else "at": value})


def _around(paper: PaperSettings, margin: MarginSettings) -> tuple[float, float]:
    return paper.mean - margin.value, paper.mean + margin.value


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


def artifact_of(claim: Claim) -> str | None:
    return None if isinstance(claim, UnjudgedClaim) else claim.artifact
