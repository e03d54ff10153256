"""Files of others: cut short, or with bytes replaced, put in or left out."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

MANY = settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))


def damaged(whole: bytes) -> st.SearchStrategy[bytes]:
    places = st.integers(0, len(whole))
    edits = st.lists(st.tuples(places, st.integers(0, 20), st.binary(max_size=20)), min_size=1, max_size=8)
    return places.map(lambda end: whole[:end]) | edits.map(lambda found: _edited(whole, found))


def _edited(whole: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    data = bytearray(whole)
    for start, length, replacement in edits:
        data[start : start + length] = replacement
    return bytes(data)
