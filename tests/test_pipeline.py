"""The real stages, small, through DVC."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import av
import pytest
import yaml
from benchmarks.workspace import environment, run
from micro import micro_workspace
from safetensors.torch import load_file, save_file

# What a stage that goes on says: its first step or clip is not the first.
RESUMED = {
    "fit-autoencoder": re.compile(r"autoencoder: +[1-9]\d*%[^\r\n]* [1-9]\d*/\d+ \[00:00<"),
    "encode": re.compile(r"encode: +[1-9]\d*%[^\r\n]* [1-9]\d*/\d+ \[00:00<"),
    "train": re.compile(r"going on after step [1-9]"),
}
STAGES = ["make-samples", "validate-data", "fit-autoencoder", "encode", "train", "generate", "evaluate"]


def test_pipeline_makes_all_that_it_promises(trained):
    for name in (
        "data/samples/sample_001_circle.mp4",
        "data/manifest.parquet",
        "results/validate-data/report.html",
        "models/autoencoder/config.json",
        "data/latents/index.parquet",
        "models/pipeline/model_index.json",
        "models/pipeline/README.md",
        "results/generate/videos.json",
        "results/evaluate/report.html",
    ):
        assert (trained / name).stat().st_size > 0
    for video in json.loads((trained / "results/generate/videos.json").read_text()):
        with av.open(str(trained / "results/generate" / video["file"])) as container:
            stream = container.streams.video[0]
            assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
            assert sum(1 for _ in container.decode(stream)) == 9


def test_nothing_volatile_or_half_written_is_left(trained):
    assert not list((trained / ".reelmill/state").glob("*/*"))
    assert not list(trained.rglob("*.partial"))
    for path in (trained / "results").rglob("*.json"):
        assert str(trained) not in path.read_text()


def test_second_repro_runs_nothing(trained):
    output = run(trained, "dvc", "repro", capture_output=True, text=True).stdout
    assert "Running stage" not in output
    assert output.count("didn't change, skipping") >= len(STAGES)


def test_metrics_and_plots_are_dvcs(trained):
    shown = json.loads(run(trained, "dvc", "metrics", "show", "--json", capture_output=True, text=True).stdout)
    assert "accuracy" in shown[""]["data"]["results/evaluate/metrics.json"]["data"]
    run(trained, "dvc", "plots", "show", "--json", capture_output=True)


@pytest.mark.parametrize(
    ("stage", "killed"), [("fit-autoencoder", "stage"), ("encode", "both"), ("train", "dvc"), ("train", "stage")]
)
def test_killed_and_run_again_gives_the_same_bytes(trained, tmp_path, stage, killed):
    """SIGKILL in the stage's middle, for dvc, the stage or both: nothing goes on, the next run ends with the same lock."""
    workspace = shutil.copytree(trained, tmp_path / "killed", symlinks=True)
    before = (workspace / "dvc.lock").read_text()
    process = subprocess.Popen(
        ["dvc", "repro", "--single-item", "--force", stage],
        cwd=workspace,
        env=environment(workspace),
        start_new_session=True,
    )
    saved = {"fit-autoencoder": "steps/step-*", "encode": "latents-*.safetensors", "train": "state/step-*"}[stage]
    _wait(lambda: list(workspace.glob(f".reelmill/state/{stage}/*/{saved}")), "no state was saved")
    if killed in ("dvc", "both"):
        process.send_signal(signal.SIGKILL)
    if killed in ("stage", "both"):
        for pid in _stage_processes(workspace):
            os.kill(pid, signal.SIGKILL)
    process.wait()
    _wait(lambda: not _stage_processes(workspace), "the orphaned stage goes on")
    again = run(
        workspace, "dvc", "repro", "--single-item", "--force", "--no-run-cache", stage, capture_output=True, text=True
    )
    assert (workspace / "dvc.lock").read_text() == before
    assert RESUMED[stage].search(again.stdout + again.stderr), again.stderr


@pytest.mark.parametrize("stage", ["make-samples", "validate-data", "generate", "evaluate"])
def test_killed_stage_without_state_leaves_nothing_behind(trained, tmp_path, stage):
    """These start anew: SIGKILL once they work (their lock is taken), of dvc and the stage, then the same lock."""
    workspace = shutil.copytree(trained, tmp_path / "killed", symlinks=True)
    before = (workspace / "dvc.lock").read_text()
    taken = workspace / f".reelmill/locks/{stage}.lock"
    taken.unlink()
    process = subprocess.Popen(
        ["dvc", "repro", "--single-item", "--force", stage],
        cwd=workspace,
        env=environment(workspace),
        start_new_session=True,
    )
    _wait(taken.exists, "the stage did not begin")
    process.send_signal(signal.SIGKILL)
    for pid in _stage_processes(workspace):
        os.kill(pid, signal.SIGKILL)
    process.wait()
    _wait(lambda: not _stage_processes(workspace), "the orphaned stage goes on")
    run(workspace, "dvc", "repro", "--single-item", "--force", "--no-run-cache", stage)
    assert (workspace / "dvc.lock").read_text() == before
    assert not list(workspace.rglob("*.partial"))


@pytest.mark.pipeline
def test_fresh_workspace_gives_the_same_lock(trained, tmp_path):
    """Other folder, no cache, no state: byte for byte the same outputs."""
    other = micro_workspace(tmp_path / "fresh")
    run(other, "dvc", "repro")
    assert (other / "dvc.lock").read_text() == (trained / "dvc.lock").read_text()


def test_pretrained_autoencoder_and_frozen_text_encoder_go_through(trained, tmp_path):
    """Both taken from a pipeline's directory; the weights that come out are the ones that went in."""
    workspace = shutil.copytree(trained, tmp_path / "pretrained", symlinks=True)
    source = shutil.copytree(workspace / "models/pipeline", workspace / "given")
    settings = yaml.safe_load((workspace / "params.yaml").read_text())
    settings["autoencoder"] |= {"source": "given", "subfolder": "vae"}
    settings["model"]["text_encoder"]["source"] = "given"
    settings["train"]["seed"] = 1  # a text encoder that was trained along would come out otherwise
    (workspace / "params.yaml").write_text(yaml.safe_dump(settings))
    run(workspace, "dvc", "repro")
    for part in ("vae", "text_encoder"):
        (weights,) = (source / part).glob("*.safetensors")
        assert (workspace / "models/pipeline" / part / weights.name).read_bytes() == weights.read_bytes()
    assert json.loads((workspace / "data/latents/metadata.json").read_text())["text"] == "embeddings"
    (weights,) = (source / "text_encoder").glob("*.safetensors")
    save_file({name: tensor * 2 for name, tensor in load_file(weights).items()}, weights, {"format": "pt"})
    again = ("dvc", "repro", "--force", "--single-item", "train")
    refused = run(workspace, *again, check=False, capture_output=True, text=True)
    assert refused.returncode
    assert "not the encoder whose embeddings are in data/latents" in refused.stderr


def test_experiment_in_a_temporary_workspace_logs_to_the_main_store(trained, tmp_path):
    """`dvc exp run --temp -S`: only what depends on the setting runs, and its run lies in the checkout's store."""
    workspace = shutil.copytree(trained, tmp_path / "experiments", symlinks=True)
    (workspace / ".dvc/config.local").unlink()
    for command in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-qm", "x"],
    ):
        run(workspace, "git", *command)
    changes = (
        "train.objective=v_prediction",
        "sampling.scheduler=ddim",
        "train.loss_weighting=min_snr",
        "train.gradient_accumulation_steps=2",
    )
    done = run(
        workspace,
        "dvc",
        "exp",
        "run",
        "--temp",
        "--name",
        "velocity",
        *(f"-S{change}" for change in changes),
        capture_output=True,
        text=True,
    )
    assert "Running stage 'encode'" not in done.stdout
    assert "Running stage 'train'" in done.stdout
    store = f"sqlite:///{workspace}/mlruns/mlflow.db"
    rows = subprocess.run(
        [sys.executable, "-c", _FIND_RUNS, store],
        check=True,
        capture_output=True,
        text=True,
        env=environment(workspace),
    ).stdout
    assert json.loads(rows) == [["velocity", "v_prediction", True]]


_FIND_RUNS = """
import json, sys, mlflow
client = mlflow.MlflowClient(sys.argv[1])
experiments = [experiment.experiment_id for experiment in client.search_experiments()]
runs = client.search_runs(experiments, "params.`train.objective` = 'v_prediction'")
print(json.dumps([[r.data.tags.get("reelmill.dvc_experiment"), r.data.params["train.objective"], "evaluate/test_loss/loss" in r.data.metrics] for r in runs]))
"""


def test_every_loss_is_in_the_history(trained):
    with (trained / "results/train/history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == list(range(1, 19))
    assert all(float(row["loss"]) > 0 for row in rows)


def test_bad_setting_stops_a_stage_without_a_traceback(tmp_path):
    workspace = micro_workspace(tmp_path / "bad")
    params = workspace / "params.yaml"
    params.write_text(params.read_text().replace("epochs: 3", "epochs: 0"))
    done = run(workspace, "python", "stages/train.py", check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "train.epochs" in done.stderr
    assert "Traceback" not in done.stderr


def _stage_processes(workspace) -> list[int]:
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline") as file:
                command = file.read()
            if "stages/" in command and os.readlink(f"/proc/{pid}/cwd") == str(workspace):
                found.append(int(pid))
        except OSError:
            continue
    return found


def _wait(condition, complaint: str, limit_s: float = 120) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, complaint
        time.sleep(0.02)
