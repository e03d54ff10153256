"""A step that is recorded once per phase and replayed is the step itself: what CUDA graphs rely on, run on a CPU."""

import contextlib
import weakref
from types import SimpleNamespace

import pytest
import torch
from test_every_model import job, stop_after, weights

from emorl.models import model_names
from emorl.runtime import processes
from emorl.training import engine
from emorl.training import step as steps
from emorl.training.checkpoints import CHECKPOINT, load_checkpoint

STEPS = 16


class Frozen:
    """As CUDA graphs do it: what a replay does is fixed with the step that it was recorded at."""

    def __init__(self):
        self.recorded = 0
        self.alive = weakref.WeakSet()

    def run(self, work):
        return work()

    def record(self, work):
        self.recorded += 1
        self.alive.add(work)
        return work


class Broken(Frozen):
    """Leaves the generator as a recording does that has ended in an error: of no use to anybody."""

    def __init__(self, generator=None):
        super().__init__()
        self.generator = generator

    def record(self, work):
        if self.generator is not None:
            self.generator.manual_seed(99)
        raise RuntimeError("operation not permitted when stream is capturing\nand more")


def made(name, prepared, folder):
    made, _ = job(name, prepared, folder)
    training = made.training.model_copy(update={"steps": STEPS, "warmup_steps": 5})
    object.__setattr__(made, "training", training)
    return made


def run(made, recorder, monkeypatch):
    monkeypatch.setattr(engine, "_recorder", lambda device: recorder if callable(recorder) else lambda _: recorder)
    return engine.train(made, lambda progress: None)


def same(one, other):
    a, b = weights(one.folder), weights(other.folder)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.slow
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
    assert (manifest.status, manifest.steps) == ("finished", STEPS)


def test_after_a_failed_recording_the_noise_is_what_it_would_have_been(prepared, tmp_path, monkeypatch):
    plain, failed = (made("emorl", prepared, tmp_path / folder) for folder in ("plain", "failed"))
    run(failed, Broken, monkeypatch)
    monkeypatch.setattr(engine, "_recorder", lambda device: None)
    engine.train(plain, lambda progress: None)
    a, b = (load_checkpoint(made.folder / CHECKPOINT, made.digest)["generator"] for made in (plain, failed))
    assert torch.equal(a, b)


def test_a_phase_that_is_over_keeps_no_memory(prepared, tmp_path, monkeypatch):
    """Neither what was recorded nor the gradients that lie in its memory."""
    recorder = Frozen()
    monkeypatch.setattr(steps, "WARM_UP", 1)
    model, take_step = a_step("emorl", prepared, tmp_path, recorder)
    for step in range(6):  # I = 2, after the warm start
        take_step(step)
    assert len(recorder.alive) == 1
    gradients = [weakref.ref(parameter.grad) for parameter in model.parameters() if parameter.grad is not None]
    recorder.run = lambda work: pytest.fail("memory is still held") if held(recorder, gradients) else work()
    take_step(6)  # I = 1


def held(recorder, gradients):
    return len(recorder.alive) or any(gradient() is not None for gradient in gradients)


def a_step(name, prepared, folder, recorder):
    its_job = made(name, prepared, folder)
    images = torch.from_numpy(engine.load_images(prepared, "train"))
    model = engine.build_model(name, its_job.model_settings, images.shape[1], torch.float32, 0)
    return model, steps.TrainingStep(model, images, its_job.training, 0, lambda generator: recorder)


def test_nothing_recorded_outlives_a_training_that_is_stopped(prepared, tmp_path, monkeypatch):
    """NCCL does not end before what has recorded it is gone, even while what stopped the training is being handled."""
    recorder = Frozen()
    monkeypatch.setattr(engine, "_recorder", lambda device: lambda generator: recorder)
    monkeypatch.setattr(steps, "WARM_UP", 0)
    forgotten = []
    forget = steps.TrainingStep.forget
    monkeypatch.setattr(steps.TrainingStep, "forget", lambda step: forgotten.append(forget(step)))
    stop_after(made("slot_mlp", prepared, tmp_path), 3)
    assert recorder.recorded == len(forgotten) == 1
    assert not recorder.alive


@pytest.mark.parametrize("count", [1, 8])
def test_steps_are_recorded_on_one_gpu_and_on_several(monkeypatch, count):
    monkeypatch.setattr(processes, "count", lambda: count)
    assert engine._recorder(torch.device("cuda")) is steps.CudaGraphs
    assert engine._recorder(torch.device("cpu")) is None


class Cuda:
    """A stand-in for torch.cuda's streams and graphs, as of PyTorch 2.13."""

    def __init__(self, error):
        self.stream_now, self.error, self.captures = "default", error, []

    def install(self, monkeypatch):
        functions = {"current_stream": lambda: self.stream_now, "set_stream": self.set_stream, "graph": self.graph}
        functions |= {"Stream": lambda: "recording", "CUDAGraph": lambda: SimpleNamespace(
            register_generator_state=lambda generator: None, replay=lambda: None)}  # fmt: skip
        for name, function in functions.items():
            monkeypatch.setattr(torch.cuda, name, function)

    def set_stream(self, stream):
        self.stream_now = stream

    @contextlib.contextmanager
    def graph(self, graph, stream, **options):
        self.captures.append(options)
        before, self.stream_now = self.stream_now, stream
        with contextlib.suppress(RuntimeError):
            yield
        if self.error:
            raise RuntimeError("capture_end")  # and the stream stays what it is
        self.stream_now = before


@pytest.mark.parametrize("error", [False, True])
def test_after_a_recording_the_stream_is_the_one_before(monkeypatch, error):
    cuda = Cuda(error)
    cuda.install(monkeypatch)
    graphs = steps.CudaGraphs(torch.Generator())
    with pytest.raises(RuntimeError, match="capture_end") if error else contextlib.nullcontext():
        graphs.record(lambda: {"loss": torch.zeros(())})
    assert cuda.stream_now == "default"
    assert cuda.captures == [{"capture_error_mode": "thread_local"}]  # no memory is shared with other recordings
