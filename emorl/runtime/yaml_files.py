"""YAML as its writer meant it: by the rules of YAML 1.2, where `yes` is a word, 0014 is 14, 1:30 is no number and 1e-3
is one; and a key that is given twice is an error."""

import re
from pathlib import Path
from typing import Any

import yaml

from emorl.runtime.errors import UserError

DEEPEST = 100
"""Mappings and lists in each other, far beyond any settings."""


class _Loader(yaml.CSafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key}' is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {}  # PyYAML's own are those of YAML 1.1


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


for tag, pattern in {
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+",
    "float": r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
    "merge": "<<",
}.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"^({pattern})$"), None)
_Loader.add_constructor("tag:yaml.org,2002:int", _integer)


def read_text(path: Path, shown: str) -> str:
    """Raises UserError naming the file, as `shown`, and the line."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise UserError(f"{shown}, line {line}: must be UTF-8") from None


def parse_yaml(text: str, shown: str) -> Any:
    """Raises UserError naming the file, as `shown`, and the line."""
    try:
        _check_depth(text, shown)
        content = yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        assert mark is not None  # PyYAML sets it in all of these
        raise UserError(f"{shown}, line {mark.line + 1}: {error.problem}") from None
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise UserError(f"{shown}, line {line}: holds a character that YAML does not allow, {error.reason}") from None
    if content is None:
        raise UserError(f"{shown} is empty")
    return content


def _check_depth(text: str, shown: str) -> None:
    """PyYAML crashes on what is nested thousands deep."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            assert event.start_mark is not None  # PyYAML sets it
            raise UserError(f"{shown}, line {event.start_mark.line + 1}: is nested more than {DEEPEST} deep")
