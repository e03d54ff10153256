"""JSON and YAML of anybody's: what it says is taken as it stands, or one sentence names the file."""

import contextlib
import json

import pytest
from damage import MANY, damaged
from hypothesis import given

from emorl.runtime.errors import UserError
from emorl.runtime.records import Record, read_as
from emorl.runtime.yaml_files import parse_yaml, read_text


class Found(Record):
    name: str
    scores: dict[str, list[float]]


WHOLE = Found(name="tetrominoes", scores={"fg_ari": [0.25, 1e-9, -3.0]})


def test_what_is_written_is_read(tmp_path):
    WHOLE.write(tmp_path / "found.json")
    assert Found.read(tmp_path / "found.json") == WHOLE
    assert read_as(dict[str, str | dict], tmp_path / "found.json")["name"] == "tetrominoes"


@pytest.mark.parametrize(("content", "sentence"), [
    ("", "is no JSON, or not whole"),
    ('{"name": "tetro', "is no JSON, or not whole"),
    ("[" * 100_000, "is no JSON, or not whole"),
    ("[]", "it was written by another version, or changed"),
    ('{"name": "a", "scores": {}, "more": 1}', "more: Extra inputs are not permitted; it was written by"),
    ('{"name": "a", "scores": {"fg_ari": [1, "x"]}}', "scores.fg_ari.1: Input should be a valid number"),
])  # fmt: skip
def test_the_sentence_names_file_and_key(tmp_path, content, sentence):
    (tmp_path / "found.json").write_text(content)
    with pytest.raises(UserError) as error:
        Found.read(tmp_path / "found.json")
    assert f"{tmp_path}/found.json" in str(error.value)
    assert sentence in str(error.value)


def test_damaged_json(tmp_path):
    @MANY
    @given(damaged(json.dumps(WHOLE.model_dump(), indent=1).encode()))
    def check(content):
        (tmp_path / "found.json").write_bytes(content)
        with contextlib.suppress(UserError):
            Found.read(tmp_path / "found.json")

    check()


def test_what_is_nested_too_deeply_is_refused():
    """PyYAML would crash."""
    with pytest.raises(UserError, match=r"x\.yaml, line 2: is nested more than 100 deep"):
        parse_yaml("a: 1\nb: " + 100_000 * "[", "x.yaml")


def test_damaged_yaml(tmp_path):
    whole = b"a:  # a comment\n  b: &common {steps: 12, rate: 1e-3}\n  c:\n    <<: *common\n    steps: [1, 2]\n"

    @MANY
    @given(damaged(whole))
    def check(content):
        (tmp_path / "x.yaml").write_bytes(content)
        with contextlib.suppress(UserError):
            parse_yaml(read_text(tmp_path / "x.yaml", "x.yaml"), "x.yaml")

    check()
