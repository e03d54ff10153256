"""The code digest: what changes it, and what does not."""

import pytest

from emorl import provenance


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A little emorl of four modules: a imports b, b imports c lazily, d stands alone."""
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    provenance._imports.cache_clear()
    provenance._source_tree.cache_clear()
    (tmp_path / "emorl").mkdir()
    write = {
        "__init__": "",
        "a": "from emorl.b import f\n",
        "b": 'def f():\n    """Says."""\n    import emorl.c\n    return 1\n',
        "c": "X = 1\n",
        "d": "Y = 1\n",
    }
    for name, text in write.items():
        (tmp_path / "emorl" / f"{name}.py").write_text(text)

    def digest_after(name=None, text=None):
        if name:
            (tmp_path / "emorl" / f"{name}.py").write_text(text)
        provenance._imports.cache_clear()
        provenance._source_tree.cache_clear()
        return provenance.code_digest("emorl.a")

    return digest_after


def test_comments_layout_and_docstrings_do_not_count(package):
    before = package()
    same = '# a comment\ndef f():\n    """Says something else."""\n\n    import emorl.c\n    return 1  # one\n'
    assert package("b", same) == before
    assert package("b", "def f():\n    import emorl.c\n    return 1\n") == before


@pytest.mark.parametrize(("name", "text"), [
    ("a", "from emorl.b import f\nf()\n"), ("b", "def f():\n    import emorl.c\n    return 2\n"), ("c", "X = 2\n"),
])  # fmt: skip
def test_an_edit_anywhere_among_the_imports_counts(package, name, text):
    before = package()
    assert package(name, text) != before


def test_an_edit_elsewhere_does_not_count(package):
    before = package()
    assert package("d", "Y = 2\n") == before


def test_a_model_depends_on_its_parts_and_not_on_the_command_line():
    closure = provenance._closure(("emorl.training.engine", "emorl.models.emorl"))
    assert {"emorl.models.parts.decoders", "emorl.training.geco", "emorl.data.store"} <= closure
    assert not closure & {
        "emorl.cli",
        "emorl.tracking",
        "emorl.config",
        "emorl.evaluation.decomposition",
        "emorl.data.download",
    }
