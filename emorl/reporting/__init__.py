"""Evaluated runs into measures (one CSV per artifact), tables, figures, verdicts and a page."""

DRAWINGS = {
    "table": "tables",
    "loss_curves": "curves",
    "training_curves": "curves",
    "refinement_sweep": "sweeps",
    "layer_sweep": "sweeps",
    "timings": "timings",
    "timings_of_one_size": "timings",
    "priors": "graphical_models",
    "decompositions": "decompositions",
    "layers": "layers",
    "traversals": "traversals",
    "activeness": "traversals",
    "leak": "traversals",
}
"""How artifacts can be drawn, and the module of this package that does it."""


def modules_of(drawing: str) -> list[str]:
    """The modules whose code decides what an artifact drawn in this way looks like."""
    return ["emorl.reporting.artifacts", "emorl.reporting.measures", f"emorl.reporting.{DRAWINGS[drawing]}"]
