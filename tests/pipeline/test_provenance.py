"""The commit in a manifest is that of the code that ran, or none; clean is what git knows to be clean."""

import shutil
import subprocess

import pytest

from emorl.pipeline import provenance
from emorl.pipeline.provenance import in_history, repository_state, uncommitted


def git(folder, *arguments):
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    done = subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    root = tmp_path / "project"
    for name in ("emorl/__init__.py", "emorl/models/one.py", "params/demo.yaml", "docs/text.md"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    git(root, "init", "--quiet")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message=first")
    monkeypatch.setattr(provenance, "ROOT", root)
    return root


def test_clean(checkout, monkeypatch, tmp_path):
    (checkout / "notes.txt").write_text("decides nothing")
    state = (git(checkout, "rev-parse", "HEAD"), False)
    assert repository_state() == state
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "of-another-project"))
    assert repository_state() == state


@pytest.mark.parametrize("file", ["emorl/models/one.py", "emorl/models/mine.py", "params/mine.yaml", "docs/text.md"])
def test_a_file_that_is_another_or_unknown_to_git_is_named(checkout, file):
    (checkout / file).write_text("mine")
    assert repository_state() == (git(checkout, "rev-parse", "HEAD"), True)
    assert list(uncommitted()) == [file]


@pytest.mark.parametrize("flag", ["--assume-unchanged", "--skip-worktree"])
def test_where_git_does_not_look_nothing_is_known_to_be_clean(checkout, flag):
    git(checkout, "update-index", flag, "params/demo.yaml")
    (checkout / "params/demo.yaml").write_text("another")
    assert repository_state() == (git(checkout, "rev-parse", "HEAD"), None)


def test_code_within_the_checkout_of_something_else_has_no_commit(checkout, tmp_path, monkeypatch):
    shutil.rmtree(checkout / ".git")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "commit", "--quiet", "--allow-empty", "--message=other")
    assert repository_state() == (None, None)
    (tmp_path / ".git").rename(tmp_path / "gone")
    assert repository_state() == (None, None)
    monkeypatch.setenv("PATH", "")  # no git at all
    assert repository_state() == (None, None)


def test_a_commit_is_in_the_history_or_not(checkout):
    head = git(checkout, "rev-parse", "HEAD")
    git(checkout, "commit", "--amend", "--allow-empty", "--message", "another")
    assert in_history(git(checkout, "rev-parse", "HEAD"))
    assert in_history(head) is False
    assert in_history("unknown") is False
    shutil.rmtree(checkout / ".git")
    assert in_history(head) is None  # a source archive
