"""A terminal that reads well: `python -m emorl.runtime.live snakemake ...`.

What a command prints line by line stays as it is in pipes and logs. On a terminal the lines that say how far something
is become one live line each, with a bar and the time left; Snakemake's own words on its workings are left to its log;
of a job that fails, the log's path and last lines are shown.
"""

import os
import re
import select
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from emorl.runtime.progress import duration

SECONDS_BETWEEN_FRAMES = 0.5
LAST_LINES = 12
"""Of the log of a job that failed."""
NAME, BAR_FULL, BAR_EMPTY = 36, "█", "░"

WORKINGS = (
    "Using workflow specific profile", "Assuming unrestricted shared", "Building DAG of jobs", "Using shell:",
    "Conda environments:", "Provided cores:", "Rules claiming more threads", "Select jobs to execute",
    "Execute ", "Elapsed time:", "host: ", "RuleException:", "CalledProcessError in file", "WorkflowError:",
    "At least one job did not complete",
)  # fmt: skip
"""How lines of Snakemake on its own workings begin."""
_STEP = re.compile(r"\[(.+?)\] step (\d+)/(\d+) ([\d.e+]+)/s \S+ left ?(.*)")
_END = re.compile(r"\[(.+?)\] (finished after \d+ s of training)")
_COUNT = re.compile(r"([\w /.-]+?): +(\d+)%\|.*\| *\S+ \[(?:(\S+)<(\S+),)?")  # as tqdm writes it to a log
_RUN = re.compile(r"(?:runs|logs/train)/(\w+)/(\w+)/(\w+)-[0-9a-f]+/seed(\d+)")
_SCORED = re.compile(rf"{_RUN.pattern}/evaluation/(\w+)-\S+: (.*)")
_SCORE = re.compile(r"  \w+ +[-\d.e+na]+$")
_FAILED = re.compile(r"Command '.*scripts/logged (logs/(\w+)/\S+\.log) .* returned non-zero exit status")
_ACCOUNT = re.compile(r"Error in (?:local)?rule \w+")


@dataclass
class Progress:
    """How far something was at `time`, as a share, and how many seconds it has still to go by its own account."""

    share: float
    left: float | None
    time: float

    def at(self, now: float) -> tuple[float, float | None]:
        """Share and seconds left by now, if it goes on at its pace; it is not over before it says so."""
        if not self.left:
            return self.share, self.left
        left = max(self.left - (now - self.time), 0.0)
        return min(1 - (1 - self.share) * left / self.left, 0.99), left


class Screen:
    """What of a command's lines is shown, and the live lines below them."""

    def __init__(self) -> None:
        self._running: dict[str, Progress] = {}
        self._in_account = False
        self._shown: deque[str] = deque(maxlen=300)

    def feed(self, line: str, now: float) -> list[str]:
        """Lines to be shown above the live ones, now that `line` has come."""
        shown = list(self._lines(line, now))
        self._shown.extend(shown)
        return shown

    def live(self, now: float, width: int) -> list[str]:
        return [_bar(name, *progress.at(now), width) for name, progress in self._running.items()]

    def _lines(self, line: str, now: float) -> Iterator[str]:
        if found := _STEP.match(line):
            name, step, steps, rate, _ = found.groups()
            left = (int(steps) - int(step)) / float(rate) if float(rate) else None
            self._running[name] = Progress(int(step) / int(steps), left, now)
        elif found := _END.match(line):
            self._running.pop(found[1], None)
            yield f"{found[1]}: {found[2]}"
        elif found := _COUNT.match(line):
            if found[2] == "100":
                self._running.pop(found[1], None)
                yield f"{found[1]}: done" + (f" in {found[3]}" if found[3] else "")
            else:
                self._running[found[1]] = Progress(int(found[2]) / 100, _seconds(found[4]), now)
        elif found := _SCORED.match(line):
            dataset, model, variant, seed, evaluation, what = found.groups()
            yield f"{dataset}/{model}/{variant} seed {seed}: {evaluation} of {what}"
        elif _SCORE.match(line) or line.startswith(WORKINGS):
            pass
        elif found := _FAILED.match(line):
            yield from self._last_words(found[2], Path(found[1]))
        elif _ACCOUNT.match(line) or re.fullmatch(r"\[\w{3} \w{3} [\d :]+\]", line):
            self._in_account = True  # Snakemake's, of the job that failed; before it the time
        elif self._in_account and (line.startswith("    ") or not line):
            pass
        else:
            self._in_account = False
            if line.startswith("error:"):
                self._end_of_run(line)
            yield line

    def _last_words(self, rule: str, log: Path) -> Iterator[str]:
        self._end_of_run(str(log))
        yield f"{rule} failed: {log}"
        if log.is_file():
            last = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]
            yield from (f"  | {line}" for line in last if not _STEP.match(line) and line not in self._shown)

    def _end_of_run(self, text: str) -> None:
        if found := _RUN.search(text):
            self._running.pop("{}/{}/{} seed {}".format(*found.groups()), None)


def _bar(name: str, share: float, left: float | None, width: int) -> str:
    name = name if len(name) <= NAME else f"{name[: NAME - 12]}…{name[-11:]}"  # the seed is at its end
    said = f"{100 * share:3.0f} %" + (f"  {duration(left)} left" if left else "")
    cells = max(width - NAME - 22, 5)
    full = round(share * cells)
    return f"{name:{NAME}} {BAR_FULL * full}{BAR_EMPTY * (cells - full)} {said}"[: width - 1]


def _seconds(text: str | None) -> float | None:
    """01:30 or 1:01:30 as tqdm has it; None for what it does not know."""
    if text is None or "?" in text:
        return None
    seconds = 0.0
    for part in text.split(":"):
        seconds = 60 * seconds + float(part)
    return seconds


def run(command: list[str]) -> int:
    """Run the command with its output shown on this terminal; returns its exit status."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def forward(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGTERM:  # Ctrl-C goes to both
            process.send_signal(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, forward)
    assert process.stdout is not None
    _show(process, process.stdout.fileno())
    return process.wait()


def _show(process: "subprocess.Popen[bytes]", output: int) -> None:
    """Until the process is gone and nothing more comes: what it started may stay and hold on to its output."""
    screen, rest, height = Screen(), b"", 0
    while True:
        ready, _, _ = select.select([output], [], [], SECONDS_BETWEEN_FRAMES)
        block = os.read(output, 1 << 16) if ready else b""
        over = not block and (bool(ready) or process.poll() is not None)
        *lines, rest = (rest + block).split(b"\n")
        if over and rest:
            lines.append(rest)
        now, width = time.monotonic(), shutil.get_terminal_size().columns
        shown = [text for line in lines for text in screen.feed(line.decode(errors="replace").rstrip("\r"), now)]
        live = [] if over else screen.live(now, width)
        back = f"\x1b[{height}F\x1b[J" if height else ""
        sys.stdout.write(back + "".join(f"{text}\n" for text in [*_wrapped(shown, width), *live]))
        sys.stdout.flush()
        height = len(live)
        if over:
            return


def _wrapped(lines: list[str], width: int) -> Iterator[str]:
    """Sentences in lines of the terminal's width; what is indented is laid out already."""
    for line in lines:
        wraps = len(line) > width and not line.startswith(" ")
        yield from textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False) if wraps else [line]


def main() -> None:
    command = sys.argv[1:]
    if not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        os.execvp(command[0], command)
    sys.exit(run(command))


if __name__ == "__main__":
    main()
