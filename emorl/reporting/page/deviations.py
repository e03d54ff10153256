"""What docs/deviations.md lists, as data."""

from pathlib import Path

from emorl.reporting.page.render import Deviation


def read_deviations(page: Path) -> list[Deviation]:
    """Its tables: what differs (first column), what is done here, and the last column."""
    found: list[Deviation] = []
    system, heads = "", list[str]()
    for line in page.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if line.startswith("## "):
            system, heads = line.removeprefix("## "), []
        elif cells and not heads:
            heads = cells
        elif cells and not cells[0].startswith("--"):
            here = dict(zip(heads, cells, strict=True))["Here"]
            found.append({"system": system, "what": f"{cells[0]}: {here}".replace("`", ""), "reason": cells[-1]})
    return found
