"""The code digest: what changes it, and what does not."""

import re
import shutil
import subprocess
import sys

import pytest

from emorl.pipeline import source
from emorl.runtime.files import ROOT


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A little emorl of four modules: a imports b, b imports c lazily, d stands alone."""
    monkeypatch.setattr(source, "ROOT", tmp_path)
    source._read.cache_clear()
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
        source._read.cache_clear()
        return source.code_digest("emorl.a")

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
    closure = source.closure(("emorl.training.engine", "emorl.models.emorl"))
    assert {"emorl.models.parts.decoders", "emorl.models.parts.geco", "emorl.data.store"} <= closure
    assert not closure & {
        "emorl.commands.main",
        "emorl.tracking",
        "emorl.pipeline.config",
        "emorl.evaluation.decomposition",
        "emorl.data.download",
    }


def test_every_python_reads_the_same_digest():
    """The pyenv versions at hand, or this one alone; f-strings and type parameters are parsed differently by each."""
    modules = "'emorl.training.engine', 'emorl.models.emorl'"
    code = f"from emorl.pipeline.source import code_digest; print(code_digest({modules}))"
    found = {sys.executable, *filter(None, (shutil.which(f"python3.{minor}") for minor in (11, 12, 13)))}
    runs = [subprocess.run([python, "-c", code], cwd=ROOT, capture_output=True, text=True) for python in found]
    digests = {run.stdout for run in runs if run.returncode == 0}
    assert len(digests) == 1, [run.stderr for run in runs]


def test_versions_are_those_of_packages_that_compute():
    assert set(source.versions_of("emorl.data.prepare")) == {"numpy", "pillow"}
    assert set(source.versions_of("emorl.evaluation.disentanglement")) >= {"scikit-learn", "torch"}
    assert all(re.fullmatch(r"[\d.]+", version) for version in source.versions_of("emorl.models.emorl").values())
