"""The report page: one HTML file with tables, figures and claims, which opens from disk and loads nothing else.

`assets/page.html` lays the report out, `page.css` styles it, `page.js` opens the cards behind the cells of the tables
and filters the claims. The page's Content-Security-Policy admits this style and this script alone, and no request.
"""

import base64
import hashlib
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from emorl.files import write_text

ASSETS = Path(__file__).with_name("assets")

VERDICTS = {
    "reproduced": "a test says that the truth lies in the range that was fixed before any run",
    "close": "the estimate lies in the range, but no test says so",
    "differs": "a test says that the truth does not lie in the range",
    "undecided": "the interval is too wide to tell, or there is one seed",
    "not run": "there are no measures at this scale",
    "cannot be run": "what the claim is about is not to be had",
}
"""Word and meaning, as in `emorl.reporting.claims`, from best to worst; `page.css` has a colour and a sign for each."""


def write_page(report: dict[str, Any], out: Path) -> None:
    """Write the page to `out`.

    `report` has title, scale, purpose (reproduction, demonstration or test), statement (what these numbers are, one
    sentence), commit and generated (texts), and five lists, each of which may be empty:

    - tables: name, title, caption, columns (one heading per cell of a row), groups of rows, notes. A cell has a text
      and, each or None, paper (text), verdict (a key of VERDICTS) and card: what a click on the cell opens, with title,
      unit, mean, low, high (the 95 % t interval), paper (mean, std, seeds), verdict, sentence and the seeds. A seed has
      seed, value or failed (why; the other one is None), run (folder), command, mlflow (its name there), mlflow_page
      (an address, or None) and manifest (any JSON object).
    - figures: name, title, caption, png (path; the picture becomes part of the page), pdf and csv (links relative to
      the page).
    - claims: id, where, text, kind, verdict, sentence, estimate, low, high, n, failed, paper, p. paper is a text or a
      number, n and failed are counts, the others numbers or None.
    - deviations: system, what, reason.
    - costs: what, runs, seconds, hardware.

    The numbers of a card are finite or None: ValueError otherwise.
    """
    verdicts = [claim["verdict"] for claim in report["claims"]]
    style, script = (_asset(name) for name in ("page.css", "page.js"))
    template = _environment().get_template("page.html")
    html = template.render(
        report | {"figures": [figure | {"png": _data_uri(figure["png"])} for figure in report["figures"]]},
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
