"""The report page: one HTML file with tables, figures and claims, which opens from disk and loads nothing else.

`assets/page.html` lays the report out, `page.css` styles it, `page.js` opens the cards behind the cells of the tables
and filters the claims. The page's Content-Security-Policy admits this style and this script alone, and no request.
"""

import base64
import hashlib
from pathlib import Path
from typing import Any, TypedDict

import jinja2
from markupsafe import Markup

from emorl.reporting.claims import Characteristics
from emorl.runtime.files import write_text

ASSETS = Path(__file__).with_name("assets")

VERDICTS = {
    "reproduced": "a test says that the truth lies in the range that was fixed before any run",
    "consistent": "our seeds may well be more seeds of the printed law; no test says that the truth lies in the range",
    "close": "the estimate lies in the range, but no test says so",
    "differs": "a test says that the truth does not lie in the range",
    "undecided": "the interval is too wide to tell, or there is one seed",
    "not run": "there are no measures at this scale",
    "cannot be run": "what the claim is about is not to be had, or not what this scale trains",
}
"""Word and meaning, as in `emorl.reporting.claims`, from best to worst; `page.css` has a colour and a sign for each."""


class PaperValue(TypedDict):
    mean: float
    std: float | None
    seeds: int | None


class Seed(TypedDict):
    """`value` or `failed`, the reason, is None."""

    seed: int
    value: float | None
    failed: str | None
    run: str
    """Folder."""
    command: str
    mlflow: str
    """Its name there."""
    mlflow_page: str | None
    """An address."""
    manifest: dict[str, Any]
    """Any JSON object."""


class Card(TypedDict):
    """What a click on a cell opens; its numbers are finite or None."""

    title: str
    unit: str
    mean: float | None
    low: float | None
    high: float | None
    """95 % t interval; None below three seeds."""
    paper: PaperValue | None
    verdict: str | None
    sentence: str | None
    seeds: list[Seed]


class PageCell(TypedDict):
    text: str
    paper: str | None
    verdict: str | None
    """A key of VERDICTS."""
    card: Card | None


class PageRow(TypedDict):
    title: str
    cells: list[PageCell]


class Group(TypedDict):
    title: str
    rows: list[PageRow]


class PageTable(TypedDict):
    name: str
    title: str
    caption: str
    columns: list[str]
    """One heading per cell of a row."""
    groups: list[Group]
    notes: list[str]


class PageFigure(TypedDict):
    name: str
    title: str
    caption: str
    png: Path
    """The picture becomes part of the page."""
    pdf: str
    csv: str
    """Links relative to the page."""


class PageClaim(TypedDict):
    """n and failed are counts."""

    id: str
    where: str
    text: str
    kind: str
    verdict: str
    sentence: str
    estimate: float | None
    low: float | None
    high: float | None
    n: int
    failed: int
    paper: str | float | None
    p: float | None


class Deviation(TypedDict):
    system: str
    what: str
    reason: str


class Cost(TypedDict):
    what: str
    runs: int
    seconds: float
    """Of all processes together."""
    energy_kwh: float | None
    """Of GPUs."""
    hardware: str


class Page(TypedDict):
    """All that the page shows; each list may be empty."""

    title: str
    scale: str
    purpose: str
    """reproduction, demonstration or test."""
    statement: str
    """What these numbers are, one sentence."""
    commit: str
    generated: str
    left_out: list[str]
    """A sentence for each table or figure that is there and not shown."""
    tables: list[PageTable]
    figures: list[PageFigure]
    claims: list[PageClaim]
    characteristics: list[Characteristics]
    """Of the judging procedure."""
    deviations: list[Deviation]
    costs: list[Cost]


def write_page(page: Page, out: Path) -> None:
    """Write the page to `out`. Raises ValueError for a card with a number that is neither finite nor None."""
    verdicts = [claim["verdict"] for claim in page["claims"]]
    style, script = (_asset(name) for name in ("page.css", "page.js"))
    template = _environment().get_template("page.html")
    html = template.render(
        {**page, "figures": [{**figure, "png": _data_uri(figure["png"])} for figure in page["figures"]]},
        style=style,
        script=script,
        policy=_policy(style, script),
        verdicts=VERDICTS,
        counts={verdict: verdicts.count(verdict) for verdict in VERDICTS if verdict in verdicts},
    )
    write_text(out, html)


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False}  # NaN is no JSON: the browser would not read it
    environment.filters |= {"number": _number, "duration": _duration}
    return environment


def _asset(name: str) -> Markup:
    return Markup((ASSETS / name).read_text(encoding="utf-8"))


def _policy(style: str, script: str) -> str:
    """Nothing may be loaded or run but what the page itself brings: pictures, this style, this script."""
    return (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(source: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()


def _data_uri(png: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(png.read_bytes()).decode()


def _number(value: float | str | None) -> str:
    """Four significant digits; thousands in full; texts as they are."""
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}".replace("-", "−")
    return f"{value:#.4g}".rstrip(".").replace("-", "−")


def _duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 05 min`."""
    minutes = round(seconds / 60)
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
