"""A PostgreSQL and an MLflow server of the tests' own. The database's only door is a socket in a private folder."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

from emorl.tracking.ui import ui_command


@contextmanager
def database():
    """The address of an empty database. Skips the test where PostgreSQL is not installed."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))  # Debian's, which are not on the PATH
    initdb = programs[-1] if programs else shutil.which("initdb")
    if initdb is None:
        pytest.skip("needs PostgreSQL (Debian: apt install postgresql)")
    programs = Path(initdb).parent
    somebody = {}
    if os.geteuid() == 0:  # which PostgreSQL refuses to run as
        account = pwd.getpwnam("postgres")
        somebody = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    with tempfile.TemporaryDirectory(prefix="emorl-postgres-") as folder:
        if somebody:
            os.chown(folder, account.pw_uid, account.pw_gid)
        options = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **somebody}
        make = [programs / "initdb", "-D", "data", "-U", "emorl", "-A", "trust", "-E", "UTF8", "--no-sync"]
        subprocess.run(make, check=True, **options)
        settings = {"listen_addresses": "", "unix_socket_directories": folder, "fsync": "off"}
        switches = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        server = subprocess.Popen([programs / "postgres", "-D", "data", *switches], **options)
        try:
            _wait(lambda: subprocess.run([programs / "pg_isready", "-q", "-h", folder]).returncode == 0)
            yield f"postgresql://emorl@/postgres?host={folder}"
        finally:
            server.send_signal(signal.SIGINT)  # close all connections and end
            server.wait()


@contextmanager
def mlflow_server(root, store):
    """The address of what `emorl ui` serves from `store`, as soon as it answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", store)
        command = ui_command(root, port=port)
    with open(root / "server.log", "w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    try:
        _wait(lambda: _answers(f"{address}/health"))
        yield address
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def _answers(url):
    try:
        return urllib.request.urlopen(url, timeout=1).status == 200
    except OSError:
        return False


def _wait(condition, seconds=120):
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.2)
