"""The store: SQLite in the project's root, or whatever MLFLOW_TRACKING_URI names."""

import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from mlflow import MlflowClient
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from emorl.errors import UserError
from emorl.files import atomic_path
from emorl.tracking.locks import store_lock

SQLITE_BUSY_SECONDS = 5  # a write of another mirror takes well below a second


def open_store(root: Path) -> MlflowClient:
    """A client of a store that answers now; MLflow alone would wait on a sick one for up to 100 s."""
    _ensure_store(root)
    uri = store_uri(root)
    if database := sqlite_file(uri):
        with closing(sqlite3.connect(database, timeout=SQLITE_BUSY_SECONDS)) as connection:
            connection.execute("BEGIN IMMEDIATE")
    client = MlflowClient(uri)
    client.search_experiments(max_results=1)
    return client


def is_reachable(root: Path) -> bool:
    try:
        open_store(root)
    except Exception:
        return False
    return True


def artifact_folder(root: Path, experiment: str) -> str | None:
    """Where the artifacts of an experiment shall lie; None: a server has its own place for them."""
    local = sqlite_file(store_uri(root)) is not None
    return str(root.resolve() / "mlruns" / experiment) if local else None


def ui_command(root: Path, port: int) -> list[str]:
    """The command that serves the store's pages to this machine alone. Raises UserError if a server does already."""
    uri = store_uri(root)
    if uri.startswith("http"):
        raise UserError("MLFLOW_TRACKING_URI already names a server: open that address in a browser.")
    _ensure_store(root)
    server = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    artifacts = str(root.resolve() / "mlruns")
    return [*server, "--workers", "1", "--backend-store-uri", uri, "--artifacts-destination", artifacts]


def store_uri(root: Path) -> str:
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{root.resolve() / 'mlflow.db'}"


def sqlite_file(uri: str) -> Path | None:
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def _ensure_store(root: Path) -> None:
    """Create the sqlite store if there is none, whole or not at all; MLflow's own creation is a race."""
    database = sqlite_file(store_uri(root))
    if database is None or database.exists():
        return
    with store_lock(root):
        if not database.exists():
            with atomic_path(database) as new:
                with closing(sqlite3.connect(new)) as connection:
                    connection.execute("PRAGMA journal_mode=WAL")  # the file remembers it
                SqlAlchemyStore(f"sqlite:///{new}", str(root.resolve() / "mlruns")).engine.dispose()
