"""What README shows of a record, between two marks: its Table 1, its Figure 5, and where all the rest is."""

import re
from pathlib import Path

from emorl.pipeline.plan import make_plan
from emorl.pipeline.records import Artifact
from emorl.reporting.sharing.recorded import RECORDED, recorded_scales

MARKED = re.compile(r"(<!-- recorded: (\w+) -->\n).*?(<!-- end of recorded -->)", re.DOTALL)


def with_results(text: str, root: Path) -> str:
    """The text with what is between its marks as the record of their scale has it; as it is where there is none."""
    there = recorded_scales(root)
    return MARKED.sub(lambda mark: mark[1] + _results(mark[2], root) + mark[3] if mark[2] in there else mark[0], text)


def _results(scale: str, root: Path) -> str:
    folder = RECORDED / scale
    table = (root / folder / "table1.md").read_text(encoding="utf-8")
    record = Artifact.read(root / folder / "table1.json")
    planned = make_plan(scale, {}).artifacts
    pictures = {name: f"{folder}/{name}.png" for name in planned if (root / folder / f"{name}.png").exists()}
    shown = [f"![Figure 5: decompositions by EfficientMORL]({pictures['fig5']})\n"] if "fig5" in pictures else []
    others = [name for name in pictures if name not in ("table1", "fig5")]
    links = ",\n".join(f"[{planned[name].title}]({pictures[name]})" for name in others)
    as_well = f"Recorded as well:\n{links}.\n" if others else ""
    recorded, trained = len(record.shows.series), len(planned["table1"].series)
    so_far = f"Recorded so far: {recorded} of the {trained} cells of Table 1 at this scale.\n"
    where = (
        f"*{as_well}{so_far if recorded < trained else ''}"
        f"These results are in [{folder}/]({folder}/README.md), with each cell's length of training, hours, hardware,\n"
        f"verdicts and weights: `emorl recheck {folder}` finds the numbers again in minutes, `emorl models` lists\n"
        "what `emorl segment` takes by name.*\n"
    )
    return "\n".join([table, *shown, where])
