"""The real stages, small, through DVC."""

import csv
import json
import os
import shutil
import signal
import subprocess
import time

import av
import pytest
from benchmarks.workspace import environment, run
from conftest import micro_workspace

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


@pytest.mark.parametrize("stage", ["fit-autoencoder", "encode", "train"])
def test_killed_and_run_again_gives_the_same_bytes(trained, tmp_path, stage):
    """SIGKILL for dvc alone in the stage's middle: the orphan ends, the next run goes on, the lock is the same."""
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
    process.send_signal(signal.SIGKILL)
    process.wait()
    _wait(lambda: not _stage_processes(workspace), "the orphaned stage goes on")
    run(workspace, "dvc", "repro", "--single-item", "--force", "--no-run-cache", stage)
    assert (workspace / "dvc.lock").read_text() == before


@pytest.mark.pipeline
def test_fresh_workspace_gives_the_same_lock(trained, tmp_path):
    """Other folder, no cache, no state: byte for byte the same outputs."""
    other = micro_workspace(tmp_path / "fresh")
    run(other, "dvc", "repro")
    assert (other / "dvc.lock").read_text() == (trained / "dvc.lock").read_text()


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
