"""The store: SQLite in the project's root, or whatever MLFLOW_TRACKING_URI names."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from emorl.runtime.errors import UserError
from emorl.runtime.files import atomic_path
from emorl.runtime.locks import locked

STORE_LOCK = "mlflow.db.lock"
"""In the project's root: held by the one process that writes to the store."""
STORE_LOCK_SECONDS = 300  # as long as a pass over many runs may take
ANEW = "delete it and mlruns/, and `emorl track sync` builds it again from the run folders"
SQLITE_BUSY_SECONDS = 5  # a write of another program takes well below a second


@contextmanager
def opened(root: Path) -> Iterator[MlflowClient]:
    """A client of a store that answers now, and the only one of this project. Raises Held if another stays."""
    with locked(root / STORE_LOCK, STORE_LOCK_SECONDS):
        database = sqlite_file(store_uri(root))
        if database and not database.exists():
            _create(database, root)
        yield client_of_store(root)


def client_of_store(root: Path) -> MlflowClient:
    """A client, if the store answers now; MLflow alone would wait on a sick one for up to 100 s. Raises UserError for a
    file that is no store of this version of MLflow."""
    uri = store_uri(root)
    if database := sqlite_file(uri):
        with closing(
            sqlite3.connect(f"{database.resolve().as_uri()}?mode=rw", SQLITE_BUSY_SECONDS, uri=True)
        ) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError:
                raise UserError(f"{database} is damaged, or no database: {ANEW}") from None
    try:
        client = MlflowClient(uri)
        client.search_experiments(max_results=1)
    except MlflowException as error:
        if database and "schema" in str(error):  # to upgrade it, as MLflow advises, is no help with a newer one
            raise UserError(f"{database} was written by another version of MLflow: {ANEW}") from None
        raise
    return client


def artifact_folder(root: Path, experiment: str) -> str | None:
    """Where the artifacts of an experiment shall lie; None: a server has its own place for them."""
    return str(root.resolve() / "mlruns" / experiment) if sqlite_file(store_uri(root)) else None


def store_uri(root: Path) -> str:
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{root.resolve() / 'mlflow.db'}"


def sqlite_file(uri: str) -> Path | None:
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def _create(database: Path, root: Path) -> None:
    """Whole or not at all."""
    with atomic_path(database) as new:
        with closing(sqlite3.connect(new)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")  # the file remembers it
        SqlAlchemyStore(f"sqlite:///{new}", str(root.resolve() / "mlruns")).engine.dispose()
