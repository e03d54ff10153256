"""The file of claims, `params/claims.yaml`: what a claim is, and the mistakes that can be made in one."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from emorl.data import title_of
from emorl.evaluation.metrics import MetricName
from emorl.evaluation.parts.statistics import Other
from emorl.pipeline.config import CLAIMS, DataSetName, ModelName, ScaleSettings, load_yaml, validate
from emorl.pipeline.records import Paper, PlannedArtifact, Printed
from emorl.runtime.errors import UserError
from emorl.runtime.settings import Settings

ALPHA = 0.05
UNBOUND = "unbound"

Family = tuple[str, bool]
"""Claims that are judged together: those of one artifact, its values apart from all others."""

Artifact = Literal[
    "table1",
    "table2",
    "table3",
    "fig3",
    "fig4",
    "fig6",
    "fig7",
    "fig8",
    "fig9",
    "fig10",
    "fig11",
    "fig13",
    "fig14",
    "fig20",
    "fig21",
    "mentioned_variants",
    "genesis_training",
]


class Selector(Settings):
    """Picks one number per seed from an artifact's metrics."""

    model: ModelName
    dataset: DataSetName
    variant: str = "base"
    metric: MetricName
    label: str | None = None
    """Name of the series, where series differ in nothing else (Figure 10); null: any."""
    at: float | Literal["last"] | None = None
    """Value of what the artifact varies, or the seed's last one; null: any."""
    share: float = Field(1.0, gt=0, le=1)
    """Of the way to the last one: with 0.5 and "last", the number half-way through, or the one before."""
    window: float = Field(0.0, ge=0, lt=1)
    """Share of the way over which numbers are averaged, up to there: one batch is noisy. 0: that number alone."""


class PaperSettings(Settings):
    """As printed in the paper; of an order, the difference that the printed numbers have."""

    mean: float
    std: float | None = None
    """Over seeds; null where one number is printed alone."""
    n: int | None = Field(None, ge=2)
    """Seeds; null where one number is printed alone."""

    @property
    def sample(self) -> Other | None:
        """The paper's own seeds; None where one number is printed alone."""
        return None if self.std is None or self.n is None else Other(self.std, self.n, ours=False)


class MarginSettings(Settings):
    value: float = Field(ge=0)
    """In the paper's unit."""
    reason: str


class UnboundSettings(Settings):
    """Which runs have not bound: the entry `unbound` of the file."""

    below: float = Field(gt=0, le=100)
    """FG-ARI x 100."""
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
    """Whose metrics it is judged on."""
    scale: float = 1.0
    """Metrics are multiplied by this to be in the paper's unit."""

    @property
    def family(self) -> Family:
        return self.artifact, isinstance(self, ValueClaim)


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
        over: list[float | str] = [*self.over]
        if self.best is None:  # rising or falling
            pairs = list(zip(over[1:], over, strict=False))
        else:
            pairs = [(self.best, other) for other in over if other != self.best]
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


def as_planned(claim: "Claim", planned: PlannedArtifact | None) -> "Claim":
    """The claim at a scale: on the data sets that stand in for the paper's, or not judged where the scale says so."""
    if planned is None or isinstance(claim, UnjudgedClaim):
        return claim
    if claim.id in planned.cannot:
        why = f"{planned.cannot[claim.id]} (scale {planned.scale})"
        return UnjudgedClaim(id=claim.id, where=claim.where, text=claim.text, kind=claim.kind, cannot=why)
    return on_other_data(claim, planned.moved)


def on_other_data(claim: "Claim", moved: Mapping[str, str]) -> "Claim":
    """The claim on the data sets that stand in for the paper's at a scale, which it then says. One of a printed number
    is left as it is: the number is of the paper's data set."""
    if not isinstance(claim, OrderClaim | TrendClaim):
        return claim
    named = {name: getattr(claim, name, None) for name in ("greater", "smaller", "measure")}
    there = {name: selector for name, selector in named.items() if selector and selector.dataset in moved}
    if not there:
        return claim
    updates: dict[str, Any] = {
        name: selector.model_copy(update={"dataset": moved[selector.dataset]}) for name, selector in there.items()
    }
    instead = dict.fromkeys(selector.dataset for selector in there.values())
    said = [f"; on {title_of(moved[of])} in place of {title_of(of)}" for of in instead]
    updates["where"] = "".join([claim.where, *said])
    if isinstance(claim, OrderClaim):
        updates["paper"] = None  # the difference of its printed numbers
    return claim.model_copy(update=updates)


JudgedClaim = ValueClaim | RatioClaim | OrderClaim | TrendClaim
Claim = JudgedClaim | UnjudgedClaim
KINDS: dict[str, type[JudgedClaim]] = {
    "value": ValueClaim,
    "ratio": RatioClaim,
    "order": OrderClaim,
    "trend": TrendClaim,
}


def load_claims(path: Path = CLAIMS) -> list[Claim]:
    """The claims of a file {id: claim}. Raises UserError naming the file, the claim and its key."""
    content = load_yaml(path)
    if not isinstance(content, dict):
        raise UserError(f"params/{path.name} must map the id of each claim to the claim")
    return [_load(name, claim, path) for name, claim in content.items() if name != UNBOUND]


def check_named(scale: ScaleSettings) -> None:
    """Raises UserError where the scale has no say on claims that there are not."""
    there = {(claim.artifact, claim.id) for claim in load_claims() if not isinstance(claim, UnjudgedClaim)}
    for artifact, names in scale.cannot.items():
        for name in names:
            if (artifact, name) not in there:
                missing = f"params/{CLAIMS.name} has no claim '{name}' on {artifact}"
                raise UserError(f"{scale.file}: cannot.{artifact}: {missing}")


def load_bound(path: Path = CLAIMS) -> float | None:
    """FG-ARI x 100 below which a run has not bound; None where the file has no entry on it. Raises UserError."""
    content = load_yaml(path)
    if not isinstance(content, dict) or UNBOUND not in content:
        return None
    return validate(UnboundSettings, content[UNBOUND], path, prefix=f"{UNBOUND}.").below


def _load(name: str, content: Any, path: Path) -> Claim:
    where = f"params/{path.name}: {name}"
    if not isinstance(content, dict):
        raise UserError(f"{where} is {content!r}; must be a mapping")
    kind = content.get("kind")
    if kind not in KINDS:
        raise UserError(f"{where}.kind is {kind!r}; must be one of {', '.join(KINDS)}")
    cls: type[Claim] = UnjudgedClaim if "cannot" in content else KINDS[kind]
    claim: Claim = validate(cls, content | {"id": name}, path, prefix=f"{name}.")
    if isinstance(claim, TrendClaim) and (claim.best in claim.over) != (claim.shape in ("greatest", "least")):
        raise UserError(f"{where}.best is {claim.best!r}; must be one of `over` for greatest and least, else left out")
    if isinstance(claim, OrderClaim) and [claim.greater, claim.smaller, claim.than].count(None) != 1:
        raise UserError(f"{where} must have two of greater, smaller and than")
    paper = getattr(claim, "paper", None)
    if paper and (paper.std is None) != (paper.n is None):
        raise UserError(f"{where}.paper must have both std and n, or neither")
    return claim


def paper_values(claims: Sequence[Claim], artifact: str) -> Paper:
    """What the paper printed in a table."""
    printed: Paper = {}
    for claim in claims:
        if isinstance(claim, ValueClaim) and claim.artifact == artifact:
            cell = claim.measure
            number = Printed(**claim.paper.model_dump())
            printed.setdefault((cell.dataset, cell.model, cell.variant, cell.metric), []).append(number)
    return printed
