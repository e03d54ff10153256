"""What a mirror says: one line each, without passwords."""

import re
import sys


def say(sentence: str) -> None:
    print("emorl track:", re.sub(r"://[^/@\s]*@", "://", sentence), file=sys.stderr, flush=True)


def brief(error: Exception) -> str:
    """The error's first line, but for one on SQLAlchemy's own workings."""
    lines = [line for line in str(error).splitlines() if not line.startswith("(raised as a result of")]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"
