"""A training's run: what it holds, and that nothing is lost or doubled."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tracked_workspace import PIPELINE, artifacts, history, runs, train

from reelmill.config import load_params
from reelmill.errors import UserError
from reelmill.storage import remove, write_json, write_text
from reelmill.tracking import TrainingLog, catch_up
from reelmill.tracking.journal import journals_root


def test_run_holds_settings_figures_data_and_lineage(params, client, in_process):
    train(params, range(1, 4))
    (run,) = runs(client)
    assert run.info.status == "FINISHED"
    assert run.data.params["train.learning_rate"] == str(load_params().train.learning_rate)
    assert run.data.params["samples.colors"] == '["red", "green", "blue", "yellow", "magenta", "cyan"]'
    assert not [key for key in run.data.params if key.startswith(("generate.", "evaluate.", "tracking."))]
    assert history(client, run.info.run_id, "training/loss") == [(1, 2.0), (2, 1.0), (3, 2.0 / 3)]
    assert history(client, run.info.run_id, "training/learning rate_") == [(1, 0.5), (2, 0.5), (3, 0.5)]
    assert history(client, run.info.run_id, "autoencoder/loss") == [(1, 0.5), (2, 0.25)]
    assert run.data.metrics["fit-autoencoder/psnr_db/test"] == 29.5
    assert run.data.metrics["train/validation_loss"] == 0.75
    assert run.data.tags["reelmill.model_hash"] == "m1"
    assert run.data.tags["reelmill.run_key"] == "k1"
    md5 = subprocess.run(
        ["md5sum", "data/manifest.parquet"], capture_output=True, text=True, check=True
    ).stdout.split()[0]
    inputs = {item.dataset.name: item for item in run.inputs.dataset_inputs}
    assert {name: item.dataset.digest for name, item in inputs.items()} == {"train": md5, "validation": md5}
    assert inputs["train"].dataset.profile == '{"num_clips": 3}'
    assert artifacts(client, run.info.run_id) == {
        "validation/report.html",
        "training/history.csv",
        "training/metrics.json",
    }


def test_finished_journal_is_removed(params, client, in_process):
    train(params, range(1, 4))
    assert list(journals_root().glob("*/")) == []


def test_checkpoint_is_a_logged_model_with_step_metrics_and_files(params, client, in_process):
    with TrainingLog(params, "k1") as log:
        write_text(Path("state/weights.safetensors"), "w20")
        log.checkpoint(20, {"validation_loss": 0.25}, Path("state"), name="best")
        remove(Path("state"))  # rotated away before anything was sent
        log.checkpoint(40, {"validation_loss": 0.125}, name="best")
    (run,) = runs(client)
    models = {m.name: m for m in client.search_logged_models([run.info.experiment_id])}
    assert set(models) == {"best-step-000020", "best-step-000040"}
    first = models["best-step-000020"]
    assert [(m.key, m.value, m.step) for m in first.metrics] == [("checkpoint/validation_loss", 0.25, 20)]
    assert Path(first.artifact_location, "weights.safetensors").read_text() == "w20"
    assert {(o.model_id, o.step) for o in run.outputs.model_outputs} == {
        (first.model_id, 20),
        (models["best-step-000040"].model_id, 40),
    }
    assert history(client, run.info.run_id, "checkpoint/validation_loss") == [(20, 0.25), (40, 0.125)]


def test_preview_is_kept_by_step(params, client, in_process):
    write_text(Path("a.mp4"), "moving")
    with TrainingLog(params, "k1") as log:
        log.preview(900, Path("a.mp4"))
    assert "previews/step-000900/a.mp4" in artifacts(client, runs(client)[0].info.run_id)


def break_off(params, num_steps, error):
    with TrainingLog(params, "k1") as log:
        for step in range(1, num_steps + 1):
            log.metrics(step, {"loss": 2.0 / step})
        raise error


@pytest.mark.parametrize(
    ("error", "status"), [(UserError("bad"), "FAILED"), (RuntimeError(), "FAILED"), (KeyboardInterrupt(), "KILLED")]
)
def test_status_tells_how_training_ended(params, client, in_process, error, status):
    with pytest.raises(type(error)):
        break_off(params, 1, error)
    (run,) = runs(client)
    assert run.info.status == status
    assert history(client, run.info.run_id, "training/loss") == [(1, 2.0)]


def test_resumed_training_goes_on_in_its_run_without_doubles(params, client, in_process):
    with pytest.raises(KeyboardInterrupt):
        break_off(params, 3, KeyboardInterrupt())
    train(params, range(2, 5))  # the saved state was at step 1
    (run,) = runs(client)
    assert run.info.status == "FINISHED"
    assert history(client, run.info.run_id, "training/loss") == [(1, 2.0), (2, 1.0), (3, 2.0 / 3), (4, 0.5)]
    assert history(client, run.info.run_id, "autoencoder/loss") == [(1, 0.5), (2, 0.25)]


def test_repeated_training_with_the_same_weights_changes_nothing(params, client, in_process):
    train(params, range(1, 4))
    train(params, range(1, 4))
    (run,) = runs(client)
    assert len(history(client, run.info.run_id, "training/loss")) == 3
    assert len(client.search_logged_models([run.info.experiment_id])) == 1


def test_repeated_training_with_other_weights_gets_its_own_run(params, client, in_process):
    train(params, range(1, 4))
    train(params, range(1, 4), model_hash="m2")
    first, second = runs(client)
    assert (first.data.tags["reelmill.model_hash"], second.data.tags["reelmill.model_hash"]) == ("m1", "m2")
    assert history(client, second.info.run_id, "training/loss") == [(1, 1.5), (2, 1.25), (3, 1.125)]  # history.csv
    assert second.info.status == "FINISHED"


def test_repeated_training_with_other_figures_gets_its_own_run_whole(params, client, in_process, capfd):
    def train_to(loss: float, model_hash: str) -> None:
        with TrainingLog(params, "k1") as log:
            for step in (10, 20):
                log.metrics(step, {"loss": loss * step})
            log.checkpoint(20, {"validation_loss": loss})
            log.finish(PIPELINE, model_hash)

    for loss, model_hash in ((0.25, "m1"), (0.26, "m2"), (0.26, "m2")):
        train_to(loss, model_hash)
    for run, loss, model_hash in zip(runs(client), (0.25, 0.26), ("m1", "m2"), strict=True):
        assert run.data.tags["reelmill.model_hash"] == model_hash
        assert history(client, run.info.run_id, "training/loss") == [(10, loss * 10), (20, loss * 20)]
        assert history(client, run.info.run_id, "checkpoint/validation_loss") == [(20, loss)]
        outputs = [client.get_logged_model(m.model_id) for m in run.outputs.model_outputs]
        assert sorted(m.name for m in outputs) == ["checkpoint-step-000020", "pipeline"]
        assert [m.value for model in outputs for m in model.metrics if m.key == "checkpoint/validation_loss"] == [loss]
    assert "cannot be reached" not in capfd.readouterr().err
    assert list(journals_root().glob("*/")) == []


def test_same_weights_with_other_figures_are_sent(params, client, in_process, capfd):
    for loss in (0.5, 0.25):
        write_json(Path("results/train/metrics.json"), {"loss": loss})
        train(params, range(1, 4))
    (run,) = runs(client)
    assert run.data.metrics["train/loss"] == 0.25
    assert "cannot be reached" not in capfd.readouterr().err


def test_other_settings_get_their_own_run(params, client, in_process):
    train(params, range(1, 3))
    train(params, range(1, 3), run_key="k2", model_hash="m2")
    assert [run.data.tags["reelmill.run_key"] for run in runs(client)] == ["k1", "k2"]


def test_unreachable_tracker_leaves_the_journal_and_is_caught_up(params, client, in_process, monkeypatch, capfd):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://name:secret@127.0.0.1:9")  # nothing listens there
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    train(params, range(1, 4))
    said = capfd.readouterr().err
    assert str(journals_root() / "k1") in said
    assert "secret" not in said
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert catch_up() == []
    (run,) = runs(client)
    assert (run.info.status, run.data.tags["reelmill.model_hash"]) == ("FINISHED", "m1")
    assert len(history(client, run.info.run_id, "training/loss")) == 3
    assert not (journals_root() / "k1").exists()


def test_deleted_run_is_told_again_from_the_start(params, client, in_process):
    log = TrainingLog(params, "k1").__enter__()
    log.metrics(1, {"loss": 1.0})
    log._sender.wait()
    client.delete_run(runs(client)[0].info.run_id)
    log.metrics(2, {"loss": 0.5})
    log.__exit__(None, None, None)
    (run,) = runs(client)
    assert history(client, run.info.run_id, "training/loss") == [(1, 1.0), (2, 0.5)]


KILLED = """
import time
from reelmill.config import load_params
from reelmill.tracking import TrainingLog
with TrainingLog(load_params(), "k1") as log:
    for step in range(1, 1001):
        log.metrics(step, {"loss": 1.0 / step})
    print("ready", flush=True)
    time.sleep(60)
"""


def test_killed_training_is_sent_whole_and_continued(params, client):
    source = str(Path(__file__).parents[2] / "src")
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": source}
    )
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 40
    while (journals_root() / "k1").exists() and time.monotonic() < deadline:
        time.sleep(0.1)  # its sender sends what is left, then goes
    (run,) = runs(client)
    assert run.info.status == "KILLED"
    assert history(client, run.info.run_id, "training/loss") == [(step, 1.0 / step) for step in range(1, 1001)]
    with TrainingLog(params, "k1") as log:
        for step in range(990, 1003):
            log.metrics(step, {"loss": 1.0 / step})
        log.finish(PIPELINE, "m1")
    (run,) = runs(client)
    assert run.info.status == "FINISHED"
    assert history(client, run.info.run_id, "training/loss") == [(step, 1.0 / step) for step in range(1, 1003)]
