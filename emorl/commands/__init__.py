"""Verbs of the command line by topic; `emorl/cli.py` registers them."""
