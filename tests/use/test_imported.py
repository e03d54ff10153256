"""The authors' checkpoints: files of their form, made from the golden weights, through the whole path."""

import json
import pickle
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from emorl.commands import main as cli
from emorl.commands import runs as run_commands
from emorl.models import model_class
from emorl.models.parts import released
from emorl.pipeline import config, imported, steps
from emorl.pipeline.portable import read_checkpoint
from emorl.pipeline.runs import PreparedData
from emorl.runtime.errors import UserError
from emorl.runtime.files import sha256_of_file
from emorl.training.manifest import Manifest

GOLDEN = Path(__file__).parents[1] / "golden"
NAMES = {
    "emorl": "small_gaussian_geco_I3.json",
    "broadcast": "broadcast_gmm_I1.json",
    "slot_attention": "slot_attention_small.json",
}


def golden_weights(case: str) -> dict[str, torch.Tensor]:
    """Of the formula of tests/golden/README.md, roughly: numbers that are different in each parameter."""
    found = {}
    for name, described in json.loads((GOLDEN / NAMES[case]).read_text())["params"].items():
        i = np.arange(np.prod(described["shape"]), dtype=np.float64)
        base = 0.1 * np.sin(1.7 * i + (zlib.crc32(name.encode()) % 997) / 100)
        found[name] = torch.tensor(base.reshape(described["shape"]), dtype=torch.float32)
    if case != "slot_attention":
        found |= {"geco_C_ema": torch.tensor(5.0), "geco_beta": torch.tensor(0.7)}
    return found


def old(name: str) -> str:
    """As checkpoints had it before the names of today."""
    if name.startswith(("hvae_networks.pos_embed_projection", "hvae_networks.encoder_pt_")):
        return name.removeprefix("hvae_networks.")
    return name.replace("hvae_networks.", "object_discovery_block.")


def checkpoint(path: Path, weights: dict[str, torch.Tensor], older: bool = False) -> Path:
    model = {f"module.{old(name) if older else name}": weight for name, weight in weights.items()}
    if older:
        model["module.object_discovery_block.gru.cell.zeros"] = torch.zeros(3)
    optimiser = {"state": {0: {"step": 7, "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 4e-4, "params": [0]}]}
    torch.save({"step": 200000, "model": model, "model_opt": optimiser, "kl_beta": 1.0}, path)
    return path


@pytest.fixture
def project(tmp_path, monkeypatch, prepared):
    """A project with prepared Tetrominoes of the scale test."""
    for module in (imported, steps, run_commands):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    data = tmp_path / PreparedData("tetrominoes", config.load_scale("test").datasets["tetrominoes"]).path
    data.parent.mkdir(parents=True)
    data.symlink_to(prepared)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def bring(file, model="emorl", seed=1200):
    return imported.import_checkpoint(file, "test", "tetrominoes", model, seed)


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize(("case", "model"), [("emorl", "emorl"), ("broadcast", "emorl"), ("slot_attention",) * 2])
def test_every_weight_comes_to_its_place(project, case, model, older):
    weights = golden_weights(case)
    file = checkpoint(project / "theirs.pth", weights, older and model == "emorl")
    run, changed = bring(file, model)
    assert run.settings.model.D == 8
    assert changed["encoder_channels"] == 64
    assert run.settings.model.decoder == ("iodine" if case == "broadcast" else "small")
    content = read_checkpoint(project / run.folder)
    network = model_class(model)(run.settings.model, 12)
    network.load_state_dict(content.weights)
    parameters = dict(network.named_parameters())
    for theirs, pieces in released.their_names(model, network).items():
        held = torch.cat([parameters[ours][index].detach().flatten() for ours, index in pieces])
        assert torch.equal(held, weights[theirs].flatten()), theirs
    assert content.origin.step == 200000


def test_the_folder_is_of_its_own_kind_and_tells_the_file(project):
    file = checkpoint(project / "theirs.pth", golden_weights("emorl"))
    run, _ = bring(file)
    manifest = Manifest.read(project / run.folder / Manifest.FILE)
    assert manifest.imported == sha256_of_file(file)
    assert str(run.folder) == f"runs/tetrominoes/emorl/imported-{manifest.imported[:10]}/seed1200"
    assert manifest.parameters == sum(weight.numel() for weight in golden_weights("emorl").values())


@pytest.mark.slow
def test_other_verbs_take_it_like_any_run(project, monkeypatch, capsys, scenes):
    def emorl(*arguments):
        monkeypatch.setattr(sys, "argv", ["emorl", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert not end.value.code, end.value.code
        return capsys.readouterr().out

    file = checkpoint(project / "theirs.pth", golden_weights("emorl"), older=True)
    which = ("--scale", "test", "--dataset", "tetrominoes", "--model", "emorl", "--seed", 1200)
    printed = emorl("import", file, *which)
    assert "D is 8" not in printed  # as in params/test.yaml
    assert "encoder_channels is 64 by its shapes, otherwise than in params/test.yaml" in printed
    variant = f"imported-{sha256_of_file(file)[:10]}"
    printed = emorl("evaluate", *which, "--variant", variant)
    assert "16 test images" in printed
    assert "fg_ari" in printed
    folder = f"runs/tetrominoes/emorl/{variant}/seed1200"
    assert "active_share" in emorl("evaluate", *which, "--variant", variant, "--what", "traversal")
    emorl("export", folder, "-o", "model.pt")
    Image.fromarray(scenes[0]).save("scene.png")
    for model in ("model.pt", folder):
        assert "step 200000 of 200000" in emorl("segment", "scene.png", "--checkpoint", model)
    emorl("traverse", "scene.png", "--checkpoint", "model.pt", "--slot", 0, "--dimension", 1, "--frames", 2)


# ---- Refused ----


def without(name):
    return lambda weights: weights.pop(name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("refinenet.loc.bias"), "the parameter refinenet.loc.bias is missing"),
        (without("hvae_networks.init_posterior"), "the parameter hvae_networks.init_posterior is missing"),
        (lambda w: w.update(surprise=torch.zeros(2)), "the parameter surprise is unknown"),
        (
            lambda w: w.update({"refinenet.loc.weight": torch.zeros(9, 8)}),
            r"the parameter refinenet.loc.weight is \(9, 8\), but these settings have \(8, 8\)",
        ),
    ],
)
def test_what_does_not_fit_is_named_and_leaves_nothing(project, change, message):
    weights = golden_weights("emorl")
    change(weights)
    with pytest.raises(UserError, match=message):
        bring(checkpoint(project / "theirs.pth", weights))
    assert not (project / "runs").exists()


class Command:
    def __reduce__(self):
        return Path.touch, (Path("pwned"),)


def test_code_in_a_file_is_never_run(project):
    for name, write in (
        ("a.pth", torch.save),
        ("b.pth", lambda content, path: path.write_bytes(pickle.dumps(content))),
    ):
        write({"step": 1, "model": {}, "other": Command()}, project / name)
        with pytest.raises(UserError, match="cannot be read safely"):
            bring(project / name)
    assert not (project / "pwned").exists()


def test_other_models_and_files_are_refused(project):
    with pytest.raises(UserError, match="checkpoints of emorl and slot_attention alone"):
        bring(project / "theirs.pth", "monet")
    with pytest.raises(UserError, match="no such file"):
        bring(project / "absent.pth")
    torch.save({"weights": {}}, project / "other.pth")
    with pytest.raises(UserError, match="no 'model' with weights"):
        bring(project / "other.pth")
    with pytest.raises(UserError, match="the parameter init_slots is missing"):
        bring(checkpoint(project / "theirs.pth", golden_weights("emorl")), "slot_attention")


# ---- The published ones ----


def test_the_published_checkpoints_stand_in_params():
    for name, entry in imported.released_checkpoints().items():
        assert entry.url.endswith(name)
        assert f"{entry.dataset}-seed-{entry.seed}" in name
        assert entry.printed.keys() == {"fg_ari", "mse", "kl"}


def test_their_numbers_are_set_beside_those_printed(project, monkeypatch, capsys):
    (project / "theirs").mkdir()
    checkpoint(project / "theirs" / "some.pth", golden_weights("emorl"))
    entry = imported.ReleasedCheckpoint(
        url="http://127.0.0.1:9/some.pth",
        model="emorl",
        dataset="tetrominoes",
        seed=3,
        printed={"fg_ari": 99.7, "kl": 70.7},
    )
    monkeypatch.setattr(imported, "released_checkpoints", lambda: {"some.pth": entry})
    run_commands.released("test", project / "theirs")
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("| some.pth | EfficientMORL, Tetrominoes (replica) | FG-ARI x 100 |")
    assert lines[2].endswith("| 99.7 |")
    assert (project / "reports" / "test" / "released.csv").read_text().count("\n") == 3


def test_without_a_network_it_is_said_what_to_put_where(project, monkeypatch):
    entry = imported.ReleasedCheckpoint(
        url="http://127.0.0.1:9/some.pth", model="emorl", dataset="tetrominoes", seed=3, printed={}
    )
    monkeypatch.setattr(imported, "released_checkpoints", lambda: {"some.pth": entry})
    monkeypatch.setattr("emorl.data.download.PAUSE", 0.0)
    with pytest.raises(UserError, match=r"cannot be downloaded.*put the file at .*data/raw/released/some.pth"):
        run_commands.released("test", None)
