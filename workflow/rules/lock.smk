# Snakemake locks this folder, and a killed workflow cannot unlock it. So each notes who it is: the lock of a process that
# is gone is lifted, that of one that lives is named.
import os
import socket

import psutil

from emorl.runtime.files import read_json, write_json

LOCKS, OWNER = Path(".snakemake/locks"), Path(".snakemake/owner.json")
SECONDS_APART = 60
"""A process tells its start by a clock that may be set meanwhile."""


def note_owner():
    me = {"host": socket.gethostname(), "pid": os.getpid(), "since": psutil.Process().create_time()}
    write_json(OWNER, me)


def lift_dead_lock():
    locks = list(LOCKS.glob("*.lock"))
    if not locks or not OWNER.exists():
        return
    owner = read_json(OWNER)
    name = f"process {owner['pid']} on {owner['host']}"
    if owner["host"] != socket.gethostname() or is_alive(owner["pid"], owner["since"]):
        logger.info(f"Another workflow is at work in this folder: {name}")
        return
    for lock in locks:
        lock.unlink()
    logger.info(f"The workflow that locked this folder is gone ({name}): its lock is lifted")


def is_alive(pid, since):
    try:
        return abs(psutil.Process(pid).create_time() - since) < SECONDS_APART
    except psutil.NoSuchProcess:
        return False


if workflow.is_main_process:
    lift_dead_lock()
    if not workflow.dryrun and not any(LOCKS.glob("*.lock")):
        note_owner()  # before it locks; again once it has, as another may have started at the same moment
