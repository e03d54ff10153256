"""Verbs of the command line by topic; `emorl/commands/main.py` registers them."""
