"""The store: where it is, and that copies and parallel processes do no harm."""

import shutil
import socket
import sqlite3
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from tracked_workspace import artifacts, runs, train

from reelmill.errors import UserError
from reelmill.tracking.store import connect, plain_uri, serve, store_uri, tracker_errors


def test_store_uri_is_the_main_checkouts_unless_a_server_is_named(workspace, monkeypatch):
    assert store_uri() == f"sqlite:///{workspace}/mlruns/mlflow.db"
    monkeypatch.setenv("DVC_ROOT", "/somewhere")  # as DVC sets it in a temporary workspace
    assert store_uri() == "sqlite:////somewhere/mlruns/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000")
    assert store_uri() == "http://server:5000"


def test_plain_uri_drops_credentials():
    assert plain_uri("at https://me:p@ss@host/x and postgresql://a:b@c/d") == "at https://host/x and postgresql://c/d"


def test_errors_of_an_object_stores_library_are_the_trackers(monkeypatch):
    class ClientError(Exception):
        pass

    assert not any(issubclass(ClientError, kind) for kind in tracker_errors())
    library = SimpleNamespace(ClientError=ClientError, BotoCoreError=KeyError)
    monkeypatch.setitem(sys.modules, "botocore.exceptions", library)
    assert ClientError in tracker_errors()


def test_link_names_the_port_of_the_page(workspace, monkeypatch):
    monkeypatch.setenv("PORT", "8080")
    assert "http://127.0.0.1:8080/#/experiments/" in connect("reelmill").link("a")


def test_page_on_a_taken_port_is_refused_before_it_names_an_address(workspace, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UserError, match=f"port {taken.getsockname()[1]} .* is taken"):
            serve(taken.getsockname()[1])
    assert capsys.readouterr().out == ""


def test_store_is_in_wal_mode(client):
    with sqlite3.connect("mlruns/mlflow.db") as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_experiment_name_of_the_environment_wins(client, monkeypatch):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    store = connect("reelmill")
    assert store.client.get_experiment(store.experiment_id).name == "mine"


def test_copied_checkout_logs_into_itself(params, client, in_process, tmp_path_factory, monkeypatch):
    train(params, range(1, 3))
    copy = tmp_path_factory.mktemp("copy") / "checkout"
    shutil.copytree(".", copy)
    monkeypatch.chdir(copy)
    store = connect("reelmill")
    (run,) = runs(store.client)
    assert run.info.artifact_uri.startswith(f"{copy}/mlruns/artifacts/")
    assert "training/history.csv" in artifacts(store.client, run.info.run_id)
    (model,) = store.client.search_logged_models([run.info.experiment_id])
    assert Path(model.artifact_location, "model_index.json").is_relative_to(copy)


def test_processes_that_open_a_fresh_store_at_once_all_succeed(opened_at_once):
    mlruns, said = opened_at_once
    assert said == ["1\n", "1\n"]
    assert (mlruns / "location").read_text() == str(mlruns)
