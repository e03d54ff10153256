"""MLflow's pages of the store: the server that shows them, whom it answers, and their address in reports."""

import errno
import re
import socket
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from emorl.runtime.errors import UserError
from emorl.runtime.files import write_text
from emorl.tracking.store import opened, sqlite_file, store_uri

HERE, PORT = "127.0.0.1", 5000
ADDRESS = "mlflow.db.address"
"""In the project's root: where the pages were served last."""
EVERYWHERE = "0.0.0.0"


def pages(root: Path) -> str:
    """The address of the store's pages: that of its server, or where `emorl ui` served them last."""
    uri = re.sub(r"://[^/@]*@", "://", store_uri(root)).rstrip("/")  # no passwords
    if uri.startswith("http"):
        return uri
    file = root / ADDRESS
    return file.read_text(encoding="utf-8").strip() if file.exists() else f"http://{HERE}:{PORT}"


def address_of(host: str, port: int) -> str:
    """What a browser is to be given."""
    return f"http://{_name_of(host)}:{port}"


def move_pages(root: Path, address: str) -> None:
    """Note where the pages are served, and let the links of the reports that are there lead to it."""
    before = pages(root)
    write_text(root / ADDRESS, address + "\n")
    for report in (root / "reports").glob("*/index.html") if address != before else ():
        text = report.read_text(encoding="utf-8")
        if f"{before}/#/experiments/" in text:
            write_text(report, text.replace(f"{before}/#/experiments/", f"{address}/#/experiments/"))


def ui_command(root: Path, host: str = HERE, port: int = PORT, allowed_hosts: Sequence[str] = ()) -> list[str]:
    """The command that serves the store's pages. `allowed_hosts`: names beside `host` by which browsers may ask for
    them; "*" is any. Raises UserError where a server does already, or the port cannot be had."""
    uri = store_uri(root)
    if uri.startswith("http"):
        raise UserError("MLFLOW_TRACKING_URI already names a server: open that address in a browser.")
    _check_free(host, port)
    database = sqlite_file(uri)
    if database and not database.exists():
        with opened(root):
            pass  # MLflow's own creation would race with a mirror's
    server = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port)]
    names = _with_ports(dict.fromkeys(["localhost", HERE, _name_of(host), *allowed_hosts]))
    origins = [
        origin for name in names for origin in ([name] if name == "*" else [f"http://{name}", f"https://{name}"])
    ]
    server += ["--allowed-hosts", ",".join(names), "--cors-allowed-origins", ",".join(origins)]
    artifacts = str(root.resolve() / "mlruns")
    return [*server, "--workers", "1", "--backend-store-uri", uri, "--artifacts-destination", artifacts]


def _name_of(host: str) -> str:
    """What browsers call it."""
    return socket.gethostname() if host == EVERYWHERE else host


def _with_ports(names: Iterable[str]) -> list[str]:
    """Patterns of these names with and without a port."""
    return [pattern for name in names for pattern in ([name] if name == "*" else [name, f"{name}:*"])]


def _check_free(host: str, port: int) -> None:
    """Raises UserError where this machine has no such address, or its port cannot be had."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise UserError(
                    f"port {port} of {host} is taken: these pages are served there already, or another program has it; "
                    "choose another with --port"
                ) from None
            if error.errno == errno.EACCES:
                raise UserError(f"--port {port}: the system keeps it for itself; choose one from 1024 on") from None
            raise UserError(f"--host {host}: this machine has no such address") from None
