"""Options that came later do not show where they are as before."""

from emorl.pipeline.identity import short
from emorl.runtime.settings import Settings, added


class Before(Settings):
    width: int


class After(Before):
    depth: int = added(3)
    """Came later."""


def test_an_added_option_shows_only_if_it_is_another():
    before = Before(width=2).model_dump(mode="json")
    assert After(width=2).model_dump(mode="json") == After(width=2, depth=3).model_dump(mode="json") == before
    assert short(After(width=2).model_dump()) == short(before)  # so names stay
    assert After(width=2, depth=4).model_dump() == before | {"depth": 4}
    assert After.model_validate(before).depth == 3
    assert After.model_json_schema()["properties"]["depth"] == {
        "default": 3,
        "description": "Came later.",
        "title": "Depth",
        "type": "integer",
    }
