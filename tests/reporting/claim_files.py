"""Claims as a file has them, and numbers to judge them by."""

import math

import pandas as pd

from emorl.reporting.claims import judge

COLUMNS = ["model", "dataset", "variant", "label", "seed", "at", "metric", "value", "run"]
VALUE = """
t1:
  where: Table 1
  text: ARI of EfficientMORL
  kind: value
  artifact: table1
  scale: 100.0
  measure: {model: emorl, dataset: clevr6, metric: fg_ari}
  paper: {mean: 96.2, std: 1.6, n: 5}
  margin: {value: 3.2, reason: two deviations}
"""
ORDER = """
geco:
  where: App. D
  text: lower ARI without GECO
  kind: order
  artifact: table1
  greater: {model: emorl, dataset: clevr6, metric: fg_ari}
  smaller: {model: MODEL, dataset: clevr6, variant: no_geco, metric: fg_ari}
"""
RATIO = """
zero:
  where: Abstract
  text: 99.1 %
  kind: ratio
  artifact: table1
  numerator: {model: emorl, dataset: clevr6, metric: fg_ari, at: 0.0}
  denominator: {model: emorl, dataset: clevr6, metric: fg_ari, at: 1.0}
  paper: {mean: 0.991}
  margin: {value: 0.009, reason: less than what is lost}
"""
TREND = """
layers:
  where: Figure 8
  text: best at L = 3
  kind: trend
  artifact: table1
  measure: {model: emorl, dataset: clevr6, metric: fg_ari}
  over: [layers_1, layers_2, base, layers_4]
  shape: greatest
  best: base
"""
CANNOT = """
hours:
  where: Section 4.4
  text: about 17 hours
  kind: value
  cannot: it is a time on other hardware
"""


def numbers(values, *, model="emorl", variant="base", metric="fg_ari", at=math.nan, failed=(), label="x"):
    """Rows of consecutive seeds from 0; seeds in `failed` have the row of a failure instead."""
    rows = []
    for seed, value in enumerate(values):
        kind, number = ("failed", 1.0) if seed in failed else (metric, value)
        run = f"{model}/{variant}/seed{seed}"
        rows.append((model, "clevr6", variant, label, seed, at, kind, number, run))
    return pd.DataFrame(rows, columns=COLUMNS)


def judge_one(claim, *frames, purpose="reproduction"):
    (verdict,) = judge([claim], {"table1": pd.concat(frames)}, purpose)
    return verdict
