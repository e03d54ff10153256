"""A run on two processes is the run on one, up to rounding."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from emorl.models import model_names
from emorl.training.checkpoints import CHECKPOINT, load_checkpoint
from emorl.training.manifest import Manifest
from emorl.training.metrics import METRICS

pytestmark = pytest.mark.slow

SHARED = [name for name in model_names() if not name.startswith("genesis")]  # these normalise over a batch

PROGRAM = """
import sys, torch
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_every_model import job
from emorl.runtime.errors import UserError
from emorl.runtime import processes
from emorl.training import engine
from emorl.runtime.interruption import Interrupted
torch.set_num_threads(1)
prepared, folder = Path(sys.argv[2]), Path(sys.argv[3])
with processes.joined():
    for name in sys.argv[4:]:
        made = job(name, prepared, folder / name)[0]
        try:
            if processes.count() == 2 and name == "slot_mlp":  # a signal that reaches one of them stops both
                try:
                    engine.train(made, lambda progress: None, asked_to_stop=lambda: not processes.is_first())
                except Interrupted as error:
                    processes.is_first() and print(error)
            engine.train(made, lambda progress: None)
        except UserError as error:
            processes.is_first() and print(error)
"""


def train(processes: int, prepared: Path, folder: Path, names: list[str]) -> str:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    (folder.parent / "program.py").write_text(PROGRAM)
    command = [sys.executable, *launcher, str(folder.parent / "program.py"), str(Path(__file__).parent), str(prepared)]
    return subprocess.run([*command, str(folder), *names], check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def runs(prepared, tmp_path_factory):
    """Folders of the runs on one and on two processes, and what the latter printed."""
    folder = tmp_path_factory.mktemp("processes")
    train(1, prepared, folder / "one", SHARED)
    said = train(2, prepared, folder / "two", [*SHARED, "genesis"])
    return folder / "one", folder / "two", said


@pytest.mark.parametrize("name", SHARED)
def test_gradients_and_metrics_do_not_depend_on_the_number_of_processes(runs, name):
    """Gradients as the optimiser remembers them: it makes whole steps of rounding errors where one should be zero, so
    weights differ more, and differently on each kind of processor."""
    one, two, _ = runs
    a, b = gradients(one / name), gradients(two / name)
    assert (a - b).norm() < 1e-3 * a.norm()
    logs = [(folder / name / METRICS).read_text().splitlines() for folder in (one, two)]
    assert len(logs[0]) == len(logs[1]) == 4
    for a, b in zip(map(json.loads, logs[0]), map(json.loads, logs[1]), strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-4)
        assert b["gradient_norm"] == pytest.approx(a["gradient_norm"], rel=1e-3)
    assert Manifest.read(two / name / Manifest.FILE).starts[0].processes == 2


def gradients(folder):
    """Moving averages of all gradients (Adam) or of their squares (RMSprop)."""
    state = load_checkpoint(folder / CHECKPOINT, "digest")["optimizer"]["state"].values()
    return torch.cat([parameter.get("exp_avg", parameter.get("square_avg")).flatten() for parameter in state])


def test_processes_stop_together_and_go_on(runs):
    _, two, said = runs
    assert "stopped after step 1, which is saved" in said
    assert Manifest.read(two / "slot_mlp" / Manifest.FILE).resumed_at == [1]


def test_normalisation_over_a_batch_is_refused(runs):
    assert "genesis normalises over the whole batch, so it trains on one process, not 2" in runs[2]
