"""Where runs are kept: SQLite with the artifacts beside it, or the server of MLFLOW_TRACKING_URI."""

import fcntl
import logging
import os
import re
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reelmill.errors import UserError
from reelmill.ports import LOOPBACK, require_free
from reelmill.storage import hash_value, write_text
from reelmill.workspace import main_checkout

if TYPE_CHECKING:
    from mlflow import MlflowClient

# An absent server is found out within seconds; the journal catches up later. What a user sets wins.
_CLIENT_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # with the credentials in it
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
}
_OBJECT_STORE_ERRORS = (
    ("boto3.exceptions", "Boto3Error"),
    ("botocore.exceptions", "BotoCoreError"),
    ("botocore.exceptions", "ClientError"),
    ("google.api_core.exceptions", "GoogleAPIError"),
    ("azure.core.exceptions", "AzureError"),
)
_LOCKED_WAIT_S = 30  # how long SQLite waits for another process to finish its write
# Columns in which MLflow keeps absolute artifact locations.
_LOCATIONS = {
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}


@dataclass(frozen=True)
class Store:
    """An open tracking store and the experiment that runs are logged to."""

    client: "MlflowClient"
    experiment_id: str
    uri: str

    @property
    def key(self) -> str:
        """Tells stores and experiments apart in a journal's acknowledgements, without credentials."""
        return hash_value([self.uri, self.experiment_id])[:16]

    def link(self, run_id: str) -> str:
        """How to see a run: the address on a server, or the command that shows the local store."""
        page = f"/#/experiments/{self.experiment_id}/runs/{run_id}"
        if self.uri.startswith("http"):
            return plain_uri(self.uri).rstrip("/") + page
        return f"`make ui`, then http://127.0.0.1:{os.environ.get('PORT', '5000')}{page}"


def store_uri() -> str:
    """``MLFLOW_TRACKING_URI`` if it is set, else the main checkout's SQLite store."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{_mlruns() / 'mlflow.db'}"


def plain_uri(text: str) -> str:
    """``text`` without the credentials of any address in it, fit for messages and logs."""
    return re.sub(r"://[^/\s]*@", "://", text)


def connect(experiment: str) -> Store:
    """Open the store, making it and the experiment if they are not there.

    Raises:
        one of `tracker_errors`: when the store cannot be reached.
    """
    os.environ.update({key: value for key, value in _CLIENT_SETTINGS.items() if key not in os.environ})
    from mlflow import MlflowClient

    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)  # "Creating initial tables"
    logging.getLogger("alembic").setLevel(logging.WARNING)
    uri, name = store_uri(), os.environ.get("MLFLOW_EXPERIMENT_NAME") or experiment
    if uri != f"sqlite:///{_mlruns() / 'mlflow.db'}":
        client = MlflowClient(tracking_uri=uri)
        return Store(client, _experiment(client, name, None), uri)
    mlruns = _mlruns()
    mlruns.mkdir(parents=True, exist_ok=True)
    with _store_lock(mlruns):  # processes that open a fresh store at once crash in its migration
        _relocate(mlruns)
        client = MlflowClient(tracking_uri=f"{uri}?timeout={_LOCKED_WAIT_S}")
        folder = re.sub(r"[^\w.-]", "_", name)
        experiment_id = _experiment(client, name, str(mlruns / "artifacts" / folder))
        if not (mlruns / "location").exists():
            with closing(sqlite3.connect(mlruns / "mlflow.db")) as database:
                database.execute("PRAGMA journal_mode=WAL")  # readers and the writer do not wait for each other
            write_text(mlruns / "location", str(mlruns))
    return Store(client, experiment_id, uri)


def tracker_errors() -> tuple[type[Exception], ...]:
    """What a tracker that is away, full, locked or refuses raises; anything else is a defect."""
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    # Artifacts on object storage are written by its own library, which is imported by then.
    object_store = (
        getattr(sys.modules[module], name) for module, name in _OBJECT_STORE_ERRORS if module in sys.modules
    )
    return (
        MlflowException,
        SQLAlchemyError,
        sqlite3.Error,
        RequestException,
        OSError,  # a full or read-only disk, a refused connection
        *object_store,
    )


def first_line(error: Exception) -> str:
    """What an error says, in one line without credentials."""
    return plain_uri((str(error).strip() or type(error).__name__).splitlines()[0][:300])


def serve(port: int = 5000, experiment: str = "reelmill") -> None:
    """Become MLflow's server over the local store, on loopback only; does not return.

    Beside the runs it shows artifacts, among them the videos.

    Raises:
        UserError: when the runs are on a server already.
    """
    if "MLFLOW_TRACKING_URI" in os.environ:
        raise UserError(
            f"MLFLOW_TRACKING_URI is set: the runs are at {plain_uri(store_uri())}; open that. "
            "To see the store under mlruns/ instead, unset it."
        )
    require_free(port, "Choose another: `make ui PORT=...`, or `reelmill ui --port ...`.")
    connect(experiment)  # makes the store, or moves it with its checkout
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # its workers take 245 MB each
    print(f"MLflow: http://127.0.0.1:{port} (Ctrl-C ends it)", flush=True)
    os.execve(sys.executable, [sys.executable, *server_arguments(_mlruns(), port)], environment)


def server_arguments(mlruns: Path, port: int) -> list[str]:
    """Python's arguments for MLflow's server over the store in ``mlruns``, on loopback."""
    return [
        *("-m", "mlflow", "server", "--host", LOOPBACK, "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{mlruns / 'mlflow.db'}"),
        *("--artifacts-destination", str(mlruns / "artifacts")),
    ]


def _mlruns() -> Path:
    return main_checkout() / "mlruns"


def _experiment(client: "MlflowClient", name: str, location: str | None) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return client.create_experiment(name, artifact_location=location)
        except MlflowException:  # another process on the same server was first
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return found.experiment_id


@contextmanager
def _store_lock(mlruns: Path) -> Iterator[None]:
    with (mlruns / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _relocate(mlruns: Path) -> None:
    """Point a moved or copied checkout's artifacts at where they are now.

    MLflow stores absolute locations; left alone, a copy would write into the original's folder.
    """
    marker = mlruns / "location"
    before = marker.read_text() if marker.exists() else str(mlruns)
    if before == str(mlruns):
        return
    with closing(sqlite3.connect(mlruns / "mlflow.db", timeout=_LOCKED_WAIT_S)) as database, database:
        for table, column in _LOCATIONS.items():
            database.execute(
                f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",
                (str(mlruns), len(before) + 1, len(before) + 1, before + "/"),
            )
    write_text(marker, str(mlruns))
