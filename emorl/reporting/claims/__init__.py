"""Judges what the paper says: every claim of `params/claims.yaml` by one rule, on the measures of the artifacts.

A claim is a range, fixed before any run, that something measured shall lie in. Its verdict is one of

- reproduced: a test says that the truth lies in the range;
- differs: a test says that it does not;
- close: of a value or a ratio, the estimate lies in the range but no test says so;
- undecided: the interval is too wide, or there is one seed;
- not run: there are no measures;
- cannot be run: what the claim is about is not to be had, for a reason that stands in the file.

The p values of the claims on one artifact are adjusted together by Holm's method: one table or figure is one family.
Over all artifacts at once no number of our seeds could decide most of Table 1, whose own five seeds set the limit. The
statistics are those of `emorl.evaluation.statistics`.

  statements.py  the file of claims            evidence.py  what the measures say on one claim
  verdicts.py    the rule                      power.py     what may come of it, before anything is run
  wording.py     sentences, CSV and text
"""

from emorl.reporting.claims.power import power, powers
from emorl.reporting.claims.statements import (
    KINDS,
    Claim,
    UnjudgedClaim,
    ValueClaim,
    load_claims,
    paper_values,
)
from emorl.reporting.claims.verdicts import Verdict, judge
from emorl.reporting.claims.wording import as_frame, as_text, heading

__all__ = [
    "KINDS",
    "Claim",
    "UnjudgedClaim",
    "ValueClaim",
    "Verdict",
    "as_frame",
    "as_text",
    "heading",
    "judge",
    "load_claims",
    "paper_values",
    "power",
    "powers",
]
