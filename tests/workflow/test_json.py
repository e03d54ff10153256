"""`--json` says the same as the text, for scripts."""

import json

import pytest

from emorl.commands import completion
from emorl.pipeline.plan import make_plan


def strict(text):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def emorl(workspace, *arguments, status=0):
    return workspace.run("python", "-m", "emorl", *arguments, status=status)


def test_why(finished):
    cell = ("why", "table1 tetrominoes emorl", "--scale", "test")
    (found,), text = strict(emorl(finished, *cell, "--json")), emorl(finished, *cell)
    assert f"FG-ARI x 100: {found['numbers']['fg_ari']['mean']:.4g}" in text
    for seed in found["seeds"]:
        assert seed["run"] in text
        assert seed["command"] in text
        assert seed["manifest"]["data"]["sha256"][:16] in text


@pytest.mark.drill
def test_plan(finished):
    asked = ("plan", "table1", "--scale", "test", "--models", "emorl", "--datasets", "tetrominoes")
    found, text = strict(emorl(finished, *asked, "--json")), emorl(finished, *asked)
    assert (found["target"], found["scale"]) == ("table1", "test")
    row = next(runs for runs in found["runs"] if runs["what"] == "emorl tetrominoes base")
    assert (row["done"], row["todo"]) == (2, 0)
    assert all(f"{claim['claim']:44} {claim['seeds']:2} seeds  {claim['probability']:.2f}" in text
               for claim in found["decided"]["claims"])  # fmt: skip


def test_the_shell_completes_the_plans_targets(finished):
    assert completion.targets("") == sorted(make_plan("test", {}).targets)


def test_claims(workspace):
    found = strict(emorl(workspace, "claims", "--scale", "test", "--json"))
    text = (workspace.root / "reports" / "test" / "claims.txt").read_text()
    assert found["statement"][:40] in text
    assert all(f"{verdict['verdict'].upper()}  {verdict['id']}" in text for verdict in found["verdicts"])


@pytest.mark.drill
def test_verify(workspace):
    assert strict(emorl(workspace, "verify", "--scale", "test", "--json")) == {
        "scale": "test",
        "mismatches": [],
        "remarks": [],
    }
    table = next((workspace.root / "reports" / "test").glob("table1.csv"))
    table.write_text(table.read_text().replace("fg_ari,", "fg_ari,9", 1))
    (sentence,) = strict(emorl(workspace, "verify", "--scale", "test", "--json", status=1))["mismatches"]
    assert sentence.startswith("table1: ")
