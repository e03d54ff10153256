"""Evaluations of finished runs. The evaluation NAME is `evaluate(job)` in `emorl/evaluation/NAME.py`."""

EVALUATIONS = (
    "decomposition",
    "refinement",
    "generalisation",
    "layers",
    "disentanglement",
    "traversal",
    "leak",
)
