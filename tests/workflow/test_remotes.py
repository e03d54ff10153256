"""Results go through each kind of remote and come back: a bucket of an S3-compatible store, a folder over SSH.

Both run here, on loopback, where what they need is installed: `pip install 'dvc[s3]' 'dvc[ssh]' 'moto[server]'`, and
Debian's openssh-server. A folder as remote is what test_versioning.py uses.
"""

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time

import pytest

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:" + os.environ["PATH"])


@pytest.fixture
def s3(tmp_path):
    """Options of a DVC remote in an empty bucket."""
    if not all(importlib.util.find_spec(name) for name in ("dvc_s3", "moto", "flask")):
        pytest.skip("needs pip install 'dvc[s3]' 'moto[server]'")
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    keys = {"access_key_id": "test", "secret_access_key": "test"}
    endpoint = f"http://127.0.0.1:{port}"
    try:
        wait_for(port)
        import boto3

        client = boto3.client(
            "s3", endpoint_url=endpoint, region_name="us-east-1", **{f"aws_{name}": key for name, key in keys.items()}
        )
        client.create_bucket(Bucket="results")
        yield "s3://results/emorl", {"endpointurl": endpoint, "region": "us-east-1", **keys}
    finally:
        server.terminate()
        server.wait()


@pytest.fixture
def ssh(tmp_path):
    """Options of a DVC remote in a folder of this machine, reached over SSH with a key made for the purpose."""
    if SSHD is None or importlib.util.find_spec("dvc_ssh") is None:
        pytest.skip("needs sshd and pip install 'dvc[ssh]'")
    folder, port = tmp_path / "ssh", free_port()
    folder.mkdir(mode=0o700)
    for name in ("host_key", "user_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    settings = {
        "ListenAddress": f"127.0.0.1:{port}",
        "HostKey": folder / "host_key",
        "AuthorizedKeysFile": folder / "user_key.pub",
        "PidFile": "none",
        "StrictModes": "no",
        "UsePAM": "no",
        "PasswordAuthentication": "no",
        "Subsystem": "sftp internal-sftp",
    }
    (folder / "config").write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    os.makedirs("/run/sshd", exist_ok=True)  # where sshd, started by root, puts its children
    server = subprocess.Popen([SSHD, "-D", "-f", folder / "config", "-E", folder / "log"])
    try:
        wait_for(port)
        user = subprocess.run(["id", "-un"], check=True, capture_output=True, text=True).stdout.strip()
        yield f"ssh://{user}@127.0.0.1:{port}{folder}/store", {"keyfile": str(folder / "user_key")}
    finally:
        server.terminate()
        server.wait()


@pytest.mark.parametrize("kind", ["s3", "ssh"])
def test_what_is_pushed_is_pulled(request, workspace, tmp_path, kind):
    url, options = request.getfixturevalue(kind)
    workspace.run("dvc", "add", "--quiet", "data/prepared", "runs", "reports/test")
    workspace.run("git", "add", "--all")
    workspace.run("git", "commit", "--quiet", "--message=Results")
    add_remote(workspace, url, options)
    workspace.run("dvc", "push")

    workspace.run("git", "clone", "--quiet", str(workspace.root), str(tmp_path / "other"))
    other = type(workspace)(tmp_path / "other")
    add_remote(other, url, options)
    other.run("dvc", "pull")
    for folder in ("data/prepared", "runs", "reports/test"):
        assert contents(other.root / folder) == contents(workspace.root / folder)
    assert other.run("git", "status", "--porcelain") == ""


def add_remote(workspace, url, options):
    workspace.run("dvc", "remote", "add", "--local", "--default", "--quiet", "store", url)
    for name, value in options.items():
        workspace.run("dvc", "remote", "modify", "--local", "store", name, value)


def contents(folder):
    """Of the files that DVC keeps."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".training.lock"]
    return {path.relative_to(folder): path.read_bytes() for path in files}


def free_port():
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        return chosen.getsockname()[1]


def wait_for(port):
    for _ in range(300):
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError(f"nothing listens on port {port}")
