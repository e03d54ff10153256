"""GPUs lent to one job at a time: `python -m emorl.runtime.gpus 2 COMMAND...` runs a command on two that are free.

A job holds a lock file per GPU, which the kernel releases when the job is gone, however it ended. In a Slurm job that
has as many as it asked for the choice has been made, and without a GPU there is none to make: the command runs as it
is. With a count of 0 it sees none.
"""

import fcntl
import os
import re
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

from emorl.runtime.errors import UserError

VISIBLE = "CUDA_VISIBLE_DEVICES"
"""The variable that says which GPUs a process may use; AMD's libraries read it, too."""
AMDS_VISIBLE = "HIP_VISIBLE_DEVICES"
"""AMD's own, which goes before it."""
ANSWERS_WITHIN = 60.0
"""Seconds that nvidia-smi may take: ten and more on a machine of many GPUs that has slept."""
LOCKS = Path("/dev/shm" if Path("/dev/shm").is_dir() else "/tmp")
"""Where this machine's locks lie: in memory, which knows locks, and whatever TMPDIR a job has of its own."""
NODES = Path("/sys/class/kfd/kfd/topology/nodes")
"""Where the kernel lists what AMD's driver can compute on; a CPU has the number 0."""


def main() -> None:
    count, command = int(sys.argv[1]), sys.argv[2:]
    try:
        names = devices()
        if names and not ("SLURM_JOB_ID" in os.environ and len(names) == count):
            show(take(count, names) if count else [])
    except UserError as error:
        sys.exit(f"error: {error}")
    os.execvp(command[0], command)


def show(names: list[str]) -> None:
    """Let this process, which has not used a GPU yet, and what it starts see these alone."""
    os.environ[VISIBLE] = ",".join(names)
    if AMDS_VISIBLE in os.environ:
        os.environ[AMDS_VISIBLE] = os.environ[VISIBLE]


def devices() -> list[str]:
    """Names of the GPUs that this process may use, each once: those in CUDA_VISIBLE_DEVICES if set, else all there are.

    NVIDIA's are named by UUID: CUDA may number them in another order than nvidia-smi, whose numbers the user's are
    taken for, and inside of a batch job the first may be any. A GPU that is divided (MIG) is its instances. Raises
    UserError if nvidia-smi hangs.
    """
    setting = os.environ.get(AMDS_VISIBLE, os.environ.get(VISIBLE))
    asked_for = None if setting is None else [name.strip() for name in setting.split(",")]
    if asked_for is not None and not set(asked_for) - {"", "-1"}:
        return []
    present = _nvidias() or [[name] for name in _amds()]
    if asked_for is None:
        return [name for names in present for name in names]
    found = [name for asked in asked_for if asked not in ("", "-1") for name in _named(asked, present)]
    return list(dict.fromkeys(found))


def _named(asked: str, present: list[list[str]]) -> list[str]:
    """The devices that a number, a UUID or the beginning of one stands for; one that is not known is kept."""
    if asked.isdecimal() and int(asked) < len(present):
        return present[int(asked)]
    return [name for names in present for name in names if name.startswith(asked)] or [asked]


def _nvidias() -> list[list[str]]:
    """UUIDs of what can be used of each GPU: of itself, or of its instances, by their new names or their old ones."""
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=ANSWERS_WITHIN).stdout
    except OSError:
        return []
    except subprocess.TimeoutExpired:
        raise UserError(
            f"nvidia-smi has not answered for {ANSWERS_WITHIN:.0f} s: a GPU or its driver hangs; without GPUs it goes "
            f"on with {VISIBLE} set to nothing"
        ) from None
    gpus: list[list[str]] = []
    for line in listing.splitlines():
        if whole := re.search(r"^GPU \d+: .*\(UUID: (GPU-[\w-]+)\)", line):
            gpus.append([whole[1]])
        elif instance := re.search(r"^\s+MIG .*\(UUID: (MIG-[\w/-]+)\)", line):
            gpus[-1] = [name for name in gpus[-1] if name.startswith("MIG-")] + [instance[1]]
    return gpus


def _amds() -> list[str]:
    """Numbers of AMD's GPUs, where PyTorch is built for them: processors often have a small one, too."""
    if "rocm" not in version("torch"):
        return []
    ids = [int(file.read_text()) for file in NODES.glob("*/gpu_id")]
    return [str(number) for number in range(sum(found != 0 for found in ids))]


def take(count: int, names: list[str]) -> list[str]:
    """Lock `count` of these GPUs, waiting until as many are free; this process holds them, also when it has become
    another by exec. Raises UserError if there are fewer.
    """
    if count > len(names):
        raise UserError(f"{count} GPUs are asked for, and there are {len(names)}: {', '.join(names)}")
    turn = _open_lock("turn")
    fcntl.flock(turn, fcntl.LOCK_EX)  # one job at a time looks: two could each hold what the other waits for
    held: dict[str, int] = {}
    while True:
        for name in names:
            if name not in held and len(held) < count and (lock := _try_lock(name)) is not None:
                held[name] = lock
        if len(held) == count:
            break
        time.sleep(0.5)
    os.close(turn)
    for lock in held.values():
        os.set_inheritable(lock, True)
    return list(held)


def _try_lock(name: str) -> int | None:
    lock = _open_lock(name.replace("/", "+"))  # of an instance by its old name
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def _open_lock(name: str) -> int:
    """The lock's file descriptor, in a folder that all of this user's checkouts share."""
    folder = LOCKS / f"emorl-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o600)


if __name__ == "__main__":
    main()
