"""Evaluated runs into metrics (one CSV per artifact), tables, figures, verdicts and a page."""
