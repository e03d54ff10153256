"""A Slurm of one node on loopback, with pretended CPUs and GPUs, in a folder of its own.

It needs no root and touches no system file, so nothing outside its environment knows of it.

`python tests/workflow/slurm/private_slurm.py bash` opens a shell in which sinfo, sbatch and Snakemake's profile see it.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from getpass import getuser
from pathlib import Path

CLIENTS = ("sacct", "sbatch", "scancel", "scontrol", "sinfo", "squeue", "srun")
PROGRAMS = ("munged", "slurmctld", "slurmd", *CLIENTS)

CONFIGURATION = """\
ClusterName=drill
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
# A job that is queued again waits for cred_expire seconds, by default 120
AuthInfo=socket={folder}/munge.socket,cred_expire=5
SlurmctldPort={controller_port}
SlurmdPort={node_port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
# Believe the number of CPUs below
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0,sched_min_interval=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=10
GresTypes=gpu
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=30000 Gres=gpu:4 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES State=UP PriorityTier=1
PartitionName=urgent Nodes={host} State=UP PriorityTier=10
"""


class Slurm:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def environment(self) -> dict[str, str]:
        """What a process needs to see this Slurm: its clients first on PATH. (Snakemake's plugin drops SLURM_CONF.)"""
        return {"PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}

    def run(self, program: str, *arguments: str) -> str:
        """Standard output of one of Slurm's clients."""
        return subprocess.check_output([self.folder / "bin" / program, *arguments], text=True, timeout=60)

    def start(self) -> None:
        self._configure()
        key, socket_ = self.folder / "munge.key", self.folder / "munge.socket"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        files = {"pid-file": "munged.pid", "log-file": "munged.log", "seed-file": "munge.seed"}
        options = [f"--{option}={self.folder / name}" for option, name in files.items()]
        # --force: the folder is for this user alone, which munged takes for a mistake
        subprocess.run(["munged", "--force", f"--key-file={key}", f"--socket={socket_}", *options], check=True)
        self._start_daemon("slurmctld")
        self._start_daemon("slurmd")
        while self.run("sinfo", "--noheader", "--format=%T").strip() not in ("idle", "idle\nidle"):
            time.sleep(0.2)

    def restart_controller(self) -> None:
        self._stop_daemon("slurmctld")
        self._start_daemon("slurmctld")

    def stop(self) -> None:
        self.run("scancel", "--user", getuser())
        while self.run("squeue", "--noheader"):
            time.sleep(0.5)
        for daemon in ("slurmd", "slurmctld", "munged"):
            self._stop_daemon(daemon)

    def _configure(self) -> None:
        host = socket.gethostname().partition(".")[0]
        values = {"host": host, "user": getuser(), "folder": self.folder}
        ports = {"controller_port": _free_port(), "node_port": _free_port()}
        (self.folder / "slurm.conf").write_text(CONFIGURATION.format(**values, **ports))
        for name in ("state", "spool", "bin"):
            (self.folder / name).mkdir()
        for number in range(4):
            (self.folder / f"gpu{number}").symlink_to(os.devnull)
        (self.folder / "gres.conf").write_text(f"NodeName={host} Name=gpu File={self.folder}/gpu[0-3]\n")
        for client in CLIENTS:
            script = self.folder / "bin" / client
            script.write_text(f'#!/bin/sh\nSLURM_CONF={self.folder}/slurm.conf exec {shutil.which(client)} "$@"\n')
            script.chmod(0o755)

    def _start_daemon(self, name: str) -> None:
        subprocess.run([name, "-f", self.folder / "slurm.conf"], check=True)

    def _stop_daemon(self, name: str) -> None:
        pid = int((self.folder / f"{name}.pid").read_text())
        os.kill(pid, signal.SIGTERM)
        while Path(f"/proc/{pid}").exists():
            time.sleep(0.1)


@contextmanager
def private_slurm() -> Iterator[Slurm]:
    """A running Slurm, gone afterwards with all its jobs."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # short: it holds a socket, whose path has at most 107 characters
    slurm = Slurm(folder)
    slurm.start()
    try:
        yield slurm
    finally:
        slurm.stop()
        shutil.rmtree(folder)


def missing_programs() -> list[str]:
    return [program for program in PROGRAMS if shutil.which(program) is None]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


if __name__ == "__main__":
    if missing := missing_programs():
        sys.exit(f"error: {', '.join(missing)} not found (Debian: apt install slurm-wlm munge)")
    with private_slurm() as slurm:
        sys.exit(subprocess.run(sys.argv[1:], env=os.environ | slurm.environment()).returncode)
