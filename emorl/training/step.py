"""One optimiser step of any model, as a function of its number.

On GPUs the hundreds of small operations of a step cost more to start than to do. So they are recorded once, as a
CUDA graph, and then replayed: what changes from step to step (images, learning rate, noise) is read from the device,
and where a model does other operations (`Model.phase`), another graph is recorded. What several GPUs tell each other by
NCCL is in it.
"""

import math
import sys
from collections.abc import Callable, Hashable
from functools import lru_cache, partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from emorl.models import Model
from emorl.runtime import processes
from emorl.training.schedules import learning_rate
from emorl.training.settings import TrainingSettings

WARM_UP = 3
"""Steps of a phase done operation by operation before it is recorded: libraries choose and allocate in them."""

Work = Callable[[], dict[str, Tensor]]


class Recorder(Protocol):
    def run(self, work: Work) -> dict[str, Tensor]:
        """Do it, operation by operation."""

    def record(self, work: Work) -> Work:
        """What does it again each time it is called; nothing is done yet."""


class TrainingStep:
    """Callable with the step's number (from 0); returns scalars on the device, valid until the next call."""

    def __init__(
        self, model: Model, images: Tensor, settings: TrainingSettings, seed: int,
        recorder: Callable[[torch.Generator], Recorder] | None,
    ) -> None:  # fmt: skip
        """images (N, H, W, 3) uint8, all of the training split, on the model's device."""
        self._model, self._images, self._settings, self._seed = model, images, settings, seed
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = _optimizer(self._parameters, settings)
        self.generator = torch.Generator(images.device).manual_seed(seed)
        """Draws all noise."""
        self._recorder = recorder(self.generator) if recorder else None
        self._rate = torch.zeros((), device=images.device)
        self._indices = torch.zeros(settings.batch_size, dtype=torch.int64, device=images.device)
        self._phase: Hashable = None
        self._warmed_up = 0
        self._recorded: Work | None = None

    def __call__(self, step: int) -> dict[str, Tensor]:
        rate = learning_rate(step, self._settings)
        indices = batch_indices(step, len(self._images), self._settings.batch_size, self._seed, self._images.device)
        if self._recorder is None:
            self._set_rate(rate)
            return self._work(step, indices)
        self._set_rate(self._rate.fill_(rate))
        return self._replay(step, self._recorder, partial(self._work, step, self._indices.copy_(indices)))

    def restore(self, step: int, optimizer: dict[str, Any], generator: Tensor) -> bool:
        """Go on at this step from states that were saved on whichever kind of device.

        Returns whether the noise goes on, too. Another kind of device draws other noise: that which it draws from here
        on depends on the seed and this step.
        """
        for group in optimizer["param_groups"]:
            group["capturable"] = self._images.is_cuda
        self.optimizer.load_state_dict(optimizer)
        if is_noise_of(generator, self._images.device):
            self.generator.set_state(generator)
            return True
        self.generator.manual_seed(int(np.random.SeedSequence((self._seed, step)).generate_state(1, np.uint64)[0]))
        return False

    @property
    def is_recorded(self) -> bool:
        """Whether the phase of the last step is being replayed."""
        return self._recorded is not None

    def forget(self) -> None:
        """Drop what is recorded, with the memory that it holds: that of a phase is of no use in the next, and NCCL ends
        only after it."""
        self._recorded, self._warmed_up = None, 0
        self.optimizer.zero_grad()  # which it has written

    def _work(self, step: int, indices: Tensor) -> dict[str, Tensor]:
        batch = as_input(self._images[processes.share(indices)], self._parameters[0].dtype)
        self.optimizer.zero_grad()
        scalars = self._model.accumulate_gradients(batch, step, self.generator)
        processes.average_gradients(self._parameters)
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, self._settings.clip_norm or math.inf)
        self.optimizer.step()
        return scalars | {"gradient_norm": norm}

    def _replay(self, step: int, recorder: Recorder, work: Work) -> dict[str, Tensor]:
        phase = self._model.phase(step)
        if phase != self._phase:  # which never comes back
            self.forget()
            self._phase = phase
        if self._recorded is None:
            self._warmed_up += 1
            if self._warmed_up <= WARM_UP:
                return recorder.run(work)
            noise = self.generator.get_state()
            try:
                self._recorded = recorder.record(work)
            except RuntimeError as error:
                reason = str(error).partition("\n")[0]
                print(f"warning: training goes on without CUDA graphs: {reason}", file=sys.stderr, flush=True)
                self._recorder = None
                self.generator = torch.Generator(self._images.device)  # the other one still takes itself for recorded
                self.generator.set_state(noise)
                return work()
        return self._recorded()

    def _set_rate(self, rate: float | Tensor) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate


class CudaGraphs:
    """Records on the current GPU; noise drawn from `generator` differs from replay to replay, as it would without."""

    def __init__(self, generator: torch.Generator) -> None:
        self._generator = generator
        self._stream = torch.cuda.Stream()

    def run(self, work: Work) -> dict[str, Tensor]:
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            scalars = work()
        torch.cuda.current_stream().wait_stream(self._stream)
        return scalars

    def record(self, work: Work) -> Work:
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self._generator)
        before = torch.cuda.current_stream()
        try:
            # thread_local: NCCL's watchdog asks the device for events meanwhile
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                scalars = work()
        finally:
            torch.cuda.set_stream(before)  # PyTorch 2.13 stays on the other one where the recording ends in an error

        def replay() -> dict[str, Tensor]:
            graph.replay()
            return scalars

        return replay


def as_input(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) in [0, 1], channels-last in memory."""
    return images.permute(0, 3, 1, 2).to(dtype) / 255


def is_noise_of(state: Tensor, device: torch.device) -> bool:
    """Whether this state is one of a generator of the device's kind, by its size."""
    return state.shape == torch.Generator(device).get_state().shape


def _optimizer(parameters: list[nn.Parameter], settings: TrainingSettings) -> torch.optim.Optimizer:
    """Its learning rate is set at each step."""
    on_gpu = parameters[0].is_cuda  # where a step may be recorded, so that nothing of it may be on the host
    if settings.optimizer == "rmsprop":
        return torch.optim.RMSprop(parameters, foreach=True, capturable=on_gpu)
    return torch.optim.Adam(parameters, betas=(settings.beta1, 0.999), fused=True, capturable=on_gpu)


def batch_indices(step: int, images: int, batch_size: int, seed: int, device: torch.device) -> Tensor:
    """The batch of this step: epochs are permutations drawn from (seed, epoch), their ragged end is dropped."""
    batches_per_epoch = images // batch_size
    epoch, position = divmod(step, batches_per_epoch)
    return _epoch_permutation(seed, epoch, images, device)[position * batch_size : (position + 1) * batch_size]


@lru_cache(maxsize=1)
def _epoch_permutation(seed: int, epoch: int, images: int, device: torch.device) -> Tensor:
    return torch.from_numpy(np.random.default_rng((seed, epoch)).permutation(images)).to(device)
