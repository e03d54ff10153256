"""Judges what the paper says: every claim of `params/claims.yaml` by one rule, on the metrics of the artifacts.

A claim is a range, fixed before any run, that something measured shall lie in. Its verdict is one of

- reproduced: a test says that the truth lies in the range;
- differs: a test says that it does not;
- consistent: of a value with a printed spread, weaker: our seeds may well be more seeds of the paper's law;
- close: of a value or a ratio, the estimate lies in the range but no test says so;
- undecided: the interval is too wide, or there is one seed;
- not run: there are no numbers;
- cannot be run: what the claim is about is not to be had, or not what the scale trains, which then says why.

The p values of one artifact's values are adjusted together by Holm's method, and so are those of its other claims.
Over all artifacts at once no number of our seeds could decide most of Table 1, whose own five seeds set the limit. The
statistics are those of `emorl.evaluation.parts.statistics`.

  statements.py  the file of claims            evidence.py  what the metrics say on one claim
  verdicts.py    the rule                      power.py     what may come of it, before anything is run
  wording.py     sentences, CSV and text
"""

from emorl.reporting.claims.power import (
    SYSTEMS,
    Chance,
    Characteristics,
    characteristics,
    law,
    limit,
    powers,
    seeds_for_shares,
)
from emorl.reporting.claims.statements import (
    KINDS,
    Claim,
    UnjudgedClaim,
    ValueClaim,
    check_named,
    load_bound,
    load_claims,
    paper_values,
)
from emorl.reporting.claims.verdicts import judge
from emorl.reporting.claims.wording import Verdict, as_frame, as_text, expected_text, heading

__all__ = [
    "KINDS",
    "SYSTEMS",
    "Chance",
    "Characteristics",
    "Claim",
    "UnjudgedClaim",
    "ValueClaim",
    "Verdict",
    "as_frame",
    "as_text",
    "characteristics",
    "check_named",
    "expected_text",
    "heading",
    "judge",
    "law",
    "limit",
    "load_bound",
    "load_claims",
    "paper_values",
    "powers",
    "seeds_for_shares",
]
