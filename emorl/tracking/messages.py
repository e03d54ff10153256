"""What a mirror says: one line each, without passwords."""

import re
import sys


def say(sentence: str) -> None:
    print("emorl track:", re.sub(r"://[^/@\s]*@", "://", sentence), file=sys.stderr, flush=True)


def brief(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
