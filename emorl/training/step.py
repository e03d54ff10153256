"""One optimiser step of any model, as a function of its number.

On one GPU the hundreds of small operations of a step cost more to start than to do. So they are recorded once, as a
CUDA graph, and then replayed: what changes from step to step (images, learning rate, noise) is read from the device,
and where a model does other operations (`Model.phase`), another graph is recorded.
"""

import math
import sys
from collections import Counter
from collections.abc import Callable, Hashable
from functools import lru_cache, partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from emorl.models import Model
from emorl.training import processes
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
        self, model: Model, optimizer: torch.optim.Optimizer, generator: torch.Generator, images: Tensor,
        settings: TrainingSettings, seed: int, recorder: Recorder | None,
    ) -> None:  # fmt: skip
        """images (N, H, W, 3) uint8, all of the training split, on the model's device."""
        self._model, self._optimizer, self._generator, self._images = model, optimizer, generator, images
        self._settings, self._seed, self._recorder = settings, seed, recorder
        self._parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self._rate = torch.zeros((), device=images.device)
        self._indices = torch.zeros(settings.batch_size, dtype=torch.int64, device=images.device)
        self._warmed_up: Counter[Hashable] = Counter()
        self._recorded: dict[Hashable, Work] = {}

    def __call__(self, step: int) -> dict[str, Tensor]:
        rate = learning_rate(step, self._settings)
        indices = batch_indices(step, len(self._images), self._settings.batch_size, self._seed, self._images.device)
        if self._recorder is None:
            self._set_rate(rate)
            return self._work(step, indices)
        self._set_rate(self._rate.fill_(rate))
        return self._replay(step, self._recorder, partial(self._work, step, self._indices.copy_(indices)))

    def _work(self, step: int, indices: Tensor) -> dict[str, Tensor]:
        batch = as_input(self._images[processes.share(indices)])
        self._optimizer.zero_grad()
        scalars = self._model.accumulate_gradients(batch, step, self._generator)
        processes.average_gradients(self._parameters)
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, self._settings.clip_norm or math.inf)
        self._optimizer.step()
        return scalars | {"gradient_norm": norm}

    def _replay(self, step: int, recorder: Recorder, work: Work) -> dict[str, Tensor]:
        phase = self._model.phase(step)
        if phase not in self._recorded:
            self._warmed_up[phase] += 1
            if self._warmed_up[phase] <= WARM_UP:
                return recorder.run(work)
            try:
                self._recorded[phase] = recorder.record(work)
            except RuntimeError as error:
                reason = str(error).partition("\n")[0]
                print(f"warning: training goes on without CUDA graphs: {reason}", file=sys.stderr, flush=True)
                self._recorder = None
                return work()
        return self._recorded[phase]()

    def _set_rate(self, rate: float | Tensor) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = rate


class CudaGraphs:
    """Records on the current GPU; noise drawn from `generator` differs from replay to replay, as it would without."""

    def __init__(self, generator: torch.Generator) -> None:
        self._generator = generator
        self._stream = torch.cuda.Stream()
        self._pool = torch.cuda.graph_pool_handle()  # one for all phases, which are never under way together

    def run(self, work: Work) -> dict[str, Tensor]:
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            scalars = work()
        torch.cuda.current_stream().wait_stream(self._stream)
        return scalars

    def record(self, work: Work) -> Work:
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self._generator)
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
            scalars = work()

        def replay() -> dict[str, Tensor]:
            graph.replay()
            return scalars

        return replay


def as_input(images: Tensor) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) in [0, 1], channels-last in memory."""
    return images.permute(0, 3, 1, 2).float() / 255


def batch_indices(step: int, images: int, batch_size: int, seed: int, device: torch.device) -> Tensor:
    """The batch of this step: epochs are permutations drawn from (seed, epoch), their ragged end is dropped."""
    batches_per_epoch = images // batch_size
    epoch, position = divmod(step, batches_per_epoch)
    return _epoch_permutation(seed, epoch, images, device)[position * batch_size : (position + 1) * batch_size]


@lru_cache(maxsize=1)
def _epoch_permutation(seed: int, epoch: int, images: int, device: torch.device) -> Tensor:
    return torch.from_numpy(np.random.default_rng((seed, epoch)).permutation(images)).to(device)
