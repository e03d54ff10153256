"""A step that is recorded once per phase and replayed is the step itself: what CUDA graphs rely on, run on a CPU."""

import pytest
import torch
from test_every_model import job, weights

from emorl.models import model_names
from emorl.training import engine
from emorl.training import step as steps

STEPS = 16


class Frozen:
    """As CUDA graphs do it: what a replay does is fixed with the step that it was recorded at."""

    def __init__(self):
        self.recorded = 0

    def run(self, work):
        return work()

    def record(self, work):
        self.recorded += 1
        return work


class Broken(Frozen):
    def record(self, work):
        raise RuntimeError("operation not permitted when stream is capturing\nand more")


def made(name, prepared, folder):
    made, _ = job(name, prepared, folder)
    training = made.training.model_copy(update={"steps": STEPS, "warmup_steps": 5})
    object.__setattr__(made, "training", training)
    return made


def run(made, recorder, monkeypatch):
    monkeypatch.setattr(engine, "_recorder", lambda generator: recorder)
    return engine.train(made, lambda progress: None)


def same(one, other):
    a, b = weights(one.folder), weights(other.folder)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("name", model_names())
def test_steps_of_one_phase_differ_in_nothing_but_data(name, prepared, tmp_path, monkeypatch):
    plain, replayed = (made(name, prepared, tmp_path / folder) for folder in ("plain", "replayed"))
    recorder = Frozen()
    run(replayed, recorder, monkeypatch)
    assert recorder.recorded >= 1
    monkeypatch.setattr(steps, "WARM_UP", STEPS)  # nothing is recorded
    run(plain, Frozen(), monkeypatch)
    assert same(plain, replayed)


def test_phases_follow_the_curriculum_and_geco(prepared, tmp_path, monkeypatch):
    """Scale test: I = 2 until step 6, then 1; the warm start ends with step 3, which is alone in its phase."""
    recorder = Frozen()
    emorl = made("emorl", prepared, tmp_path)
    run(emorl, recorder, monkeypatch)
    model = engine.build_model("emorl", emorl.model_settings, 12, torch.float32, 0)
    phases = [model.phase(step) for step in range(STEPS)]
    assert phases == [(2, -1)] * 3 + [(2, 0)] + [(2, 1)] * 2 + [(1, 1)] * 10
    assert recorder.recorded == sum(phases.count(phase) > steps.WARM_UP for phase in set(phases)) == 1


def test_training_goes_on_when_recording_fails(prepared, tmp_path, monkeypatch, capsys):
    manifest = run(made("slot_mlp", prepared, tmp_path), Broken(), monkeypatch)
    expected = "warning: training goes on without CUDA graphs: operation not permitted when stream is capturing\n"
    assert capsys.readouterr().err == expected
    assert (manifest["status"], manifest["steps"]) == ("finished", STEPS)
