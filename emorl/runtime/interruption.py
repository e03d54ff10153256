"""Signals end a run at the end of the step under way, with a checkpoint of it.

SIGINT is Ctrl-C, SIGTERM what batch systems send before they kill, SIGUSR2 what a Slurm job may ask to be sent before
its time is over. A handler does nothing but note the signal: saving inside it could meet a half-done step.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)


class Interrupted(Exception):
    """The run was stopped after `step`, which is saved: trained again, it goes on from there."""

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped after step {step}, which is saved: run it again to go on")
        self.step = step


class Listener:
    """What has been received so far."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None

    def asked_to_stop(self) -> bool:
        return self.received is not None

    def note(self, number: int, frame: FrameType | None) -> None:
        if number == self.received == signal.SIGINT:
            raise KeyboardInterrupt  # a second Ctrl-C does not wait
        self.received = signal.Signals(number)


@contextmanager
def listening() -> Iterator[Listener]:
    """Listen to SIGNALS instead of dying from them."""
    listener = Listener()
    before = {number: signal.signal(number, listener.note) for number in SIGNALS}
    try:
        yield listener
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
