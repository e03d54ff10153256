"""What the project needs of a machine: one of several Pythons, and for a trained model no workflow."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from emorl.pipeline.source import code_digest
from emorl.runtime.files import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture
def make(tmp_path):
    """`make setup` in a folder of its own, with these Pythons alone: names, and the version that each says it has."""
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("cat", "make", "sh"):
        (programs / name).symlink_to(shutil.which(name))

    def run(**pythons):
        for name, version in pythons.items():
            path = programs / name.replace("_", ".")
            path.write_text(
                f"""#!/bin/sh
[ "$1" = -c ] && exec {sys.executable} -c "import sys; sys.version_info = {version}; ${{2#import ensurepip, sys;}}"
echo "$0 $*" >>{tmp_path}/called
[ "$2" = pip ] || {{ /bin/mkdir -p {tmp_path}/.venv/bin && /bin/cp "$0" {tmp_path}/.venv/bin/python; }}
"""
            )
            path.chmod(0o755)
        command = [str(programs / "make"), "-C", str(tmp_path), "setup"]
        return subprocess.run(command, env={"PATH": str(programs)}, capture_output=True, text=True)

    return run


@pytest.mark.parametrize(
    ("pythons", "chosen"),
    [
        ({"python3_11": (3, 11)}, "python3.11"),
        ({"python3_12": (3, 12), "python3": (3, 9)}, "python3.12"),
        ({"python3_11": (3, 10), "python3_13": (3, 13)}, "python3.13"),  # what calls itself 3.11 is not
        ({"python3": (3, 13)}, "python3"),
    ],
)
def test_make_takes_the_first_python_that_will_do(make, tmp_path, pythons, chosen):
    result = make(**pythons)
    assert result.returncode == 0, result.stderr
    assert f"Setting up the environment in .venv with {chosen} " in result.stdout
    first, *others = (tmp_path / "called").read_text().splitlines()
    assert first.endswith(f"programs/{chosen} -m venv .venv")
    assert all(".venv/bin/python -m pip install" in line for line in others)


@pytest.mark.parametrize("pythons", [{}, {"python3": (3, 10)}, {"python3": (3, 14)}])
def test_make_says_what_to_do_without(make, pythons):
    result = make(**pythons)
    assert result.returncode == 2
    sentence = r"error: python3\.11 .*none is Python 3\.11, 3\.12 or 3\.13 .* apt install python3-venv.* PYTHON="
    assert re.search(sentence, result.stdout)


@pytest.mark.parametrize(("moved", "python", "anew"), [(False, True, False), (True, True, True), (False, False, True)])
def test_an_environment_that_was_moved_or_lost_its_python_is_made_anew(make, tmp_path, moved, python, anew):
    make(python3_11=(3, 11))
    assert (tmp_path / ".venv/.complete").read_text() == f"{tmp_path}/.venv\n"
    if moved:
        (tmp_path / ".venv/.complete").write_text("/elsewhere/.venv\n")
    if not python:
        (tmp_path / ".venv/bin/python").unlink()
    (tmp_path / "called").unlink()
    assert make(python3_11=(3, 11)).returncode == 0
    called = (tmp_path / "called").read_text() if (tmp_path / "called").exists() else ""
    assert ("-m venv --clear .venv" in called) == bool(called) == anew


def inherited(tmp_path, **environment):
    """What commands of make get of these variables."""
    names = ("PYTHONPATH", "PYTHONHOME", "PYTHONSAFEPATH", "HOME", "XDG_CACHE_HOME", "USER")
    show = "show:; @" + "; ".join(f"echo {name}=$${{{name}-unset}}" for name in names)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    command = ["make", "-C", str(ROOT), "--no-print-directory", "--eval", show, "show"]
    result = subprocess.run(command, env={"PATH": path} | environment, capture_output=True, text=True, check=True)
    return dict(line.split("=", 1) for line in result.stdout.splitlines())


def test_what_commands_of_make_inherit(tmp_path):
    home = {"HOME": str(tmp_path), "USER": "me"}
    other = {"PYTHONPATH": "/elsewhere", "PYTHONHOME": "/usr", "PYTHONSAFEPATH": "1"}
    plain = inherited(tmp_path, **home)
    assert inherited(tmp_path, **home, **other) == plain
    assert plain == dict.fromkeys([*other, "XDG_CACHE_HOME"], "unset") | home
    for nowhere in ({"HOME": "/dev/null"}, {"HOME": "/nonexistent"}):
        assert inherited(tmp_path, **nowhere)["XDG_CACHE_HOME"] == str(ROOT / ".cache")
    assert inherited(tmp_path)["HOME"] == str(ROOT / ".cache")
    (tmp_path / "id").write_text("#!/bin/sh\necho 54321; exit 1\n")  # of a user without a name
    (tmp_path / "id").chmod(0o755)
    assert inherited(tmp_path, HOME=str(tmp_path))["USER"] == "user"


def test_the_lock_pins_what_the_project_asks_for_whatever_the_python():
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = {Requirement(line).name: Version(line.partition("==")[2]) for line in lines if line[0] != "#"}
    extras = PROJECT["optional-dependencies"]
    wanted = [*PROJECT["dependencies"], *extras["pipeline"], *extras["dev"]]
    for requirement in map(Requirement, wanted):
        assert requirement.name == "emorl" or pins[requirement.name] in requirement.specifier
    assert PROJECT["requires-python"] == ">=3.11,<3.14"


def test_a_trained_model_needs_no_workflow(model_file):
    """Of this interpreter's packages without those of the extra `pipeline`."""
    names = {Requirement(line).name for line in PROJECT["dependencies"]}
    assert not names & {"snakemake", "dvc", "mlflow", "snakemake-executor-plugin-slurm"}
    hidden = 'sys.modules |= dict.fromkeys(("snakemake", "dvc", "mlflow"))'  # importing them raises
    program = f"import sys; {hidden}; import emorl; print(emorl.load(sys.argv[1]).model.settings.K)"
    result = subprocess.run([sys.executable, "-c", program, model_file], cwd=ROOT, capture_output=True, text=True)
    assert result.stdout == "4\n", result.stderr


DIGESTS = "from emorl.pipeline.source import code_digest; print(code_digest('emorl.training.engine', 'emorl.models'))"


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_the_digest_of_code_does_not_depend_on_the_python(version):
    found = [shutil.which(f"python{version}"), *Path.home().glob(f".pyenv/versions/{version}.*/bin/python{version}")]
    pythons = [python for python in found if python]
    if not pythons:
        pytest.skip(f"there is no Python {version}")
    command = [str(pythons[-1]), "-c", DIGESTS]
    theirs = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert theirs.strip() == code_digest("emorl.training.engine", "emorl.models")
