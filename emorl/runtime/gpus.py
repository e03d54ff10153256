"""GPUs lent to one job at a time: `python -m emorl.runtime.gpus 2 COMMAND...` runs a command on two that are free.

A job holds a lock file per GPU, which the kernel releases when the job is gone, however it ended. In a Slurm job that
has as many as it asked for the choice has been made, and without a GPU there is none to make: the command runs as it
is. With a count of 0 it sees none. `1/8` lends one GPU to as many as eight jobs at once, for networks too small to keep
it busy.
"""

import fcntl
import itertools
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
SHARED_BY = "EMORL_GPU_SHARED_BY"
"""The variable that tells a job to how many at once its GPUs are lent."""
LOCKS = Path("/dev/shm" if Path("/dev/shm").is_dir() else "/tmp")
"""Where this machine's locks lie: in memory, which knows locks, and whatever TMPDIR a job has of its own."""
NODES = Path("/sys/class/kfd/kfd/topology/nodes")
"""Where the kernel lists what AMD's driver can compute on; a CPU has the number 0."""


def main() -> None:
    count, _, shared_by = sys.argv[1].partition("/")
    command = sys.argv[2:]
    try:
        lend(int(count), int(shared_by or 1))
    except UserError as error:
        sys.exit(f"error: {error}")
    os.execvp(command[0], command)


def lend(count: int, shared_by: int) -> None:
    """Let this process and what it becomes have so many GPUs, each of which `shared_by` jobs may have at once. Raises
    UserError if there are fewer."""
    names = devices()
    if names and not count:
        show([])
    elif names:
        if "SLURM_JOB_ID" in os.environ and len(names) == count:
            shared_by = 1  # Slurm lends whole ones
        else:
            show(take(count, names, shared_by))
        os.environ[SHARED_BY] = str(shared_by)


def shared_by() -> int | None:
    """To how many jobs at once the GPU of this process is lent; None where it was not lent by this module."""
    return int(os.environ[SHARED_BY]) if SHARED_BY in os.environ else None


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


def take(count: int, names: list[str], shared_by: int = 1) -> list[str]:
    """Lock `count` of these GPUs, or a part of each, waiting until as many are free; this process holds them, also when
    it has become another by exec. Raises UserError if there are fewer.
    """
    if count > len(names):
        raise UserError(f"{count} GPUs are asked for, and there are {len(names)}: {', '.join(names)}")
    turn = _open_lock("turn")
    fcntl.flock(turn, fcntl.LOCK_EX)  # one job at a time looks: two could each hold what the other waits for
    held: dict[str, list[int]] = {}
    while True:
        for part, name in itertools.product(range(shared_by), names):  # all have one job before one has two
            if name not in held and len(held) < count and (locks := _try_locks(name, part, shared_by)):
                held[name] = locks
        if len(held) == count:
            break
        time.sleep(0.5)
    os.close(turn)
    for lock in itertools.chain(*held.values()):
        os.set_inheritable(lock, True)
    return list(held)


def _try_locks(name: str, part: int, parts: int) -> list[int]:
    """Locks on a GPU, or on a part of it and with those that have others on the GPU; none if they are not to be had."""
    name = name.replace("/", "+")  # of an instance by its old name
    wanted = [(name, fcntl.LOCK_EX)] if parts == 1 else [(name, fcntl.LOCK_SH), (f"{name}.{part}", fcntl.LOCK_EX)]
    locks: list[int] = []
    try:
        for file, kind in wanted:
            locks.append(_open_lock(file))
            fcntl.flock(locks[-1], kind | fcntl.LOCK_NB)
    except BlockingIOError:
        for lock in locks:
            os.close(lock)
        return []
    return locks


def _open_lock(name: str) -> int:
    """The lock's file descriptor, in a folder that all of this user's checkouts share."""
    folder = LOCKS / f"emorl-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o600)


if __name__ == "__main__":
    main()
