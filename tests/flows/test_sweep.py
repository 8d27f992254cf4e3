"""A real sweep: trials in workspaces of their own, a failing one, a continued one, on a local Dask cluster too."""

import json
import shutil
import subprocess
import sys

import pytest
import yaml
from benchmarks.workspace import environment, flow_environment


def _sweep(workspace, *arguments: str) -> subprocess.CompletedProcess:
    command = ["python", "-m", "flows.sweep", *arguments]
    return subprocess.run(command, cwd=workspace, env=flow_environment(workspace), capture_output=True, text=True)


_RUNS = """
import json, sys, mlflow
client = mlflow.MlflowClient(sys.argv[1])
runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
parents = [r for r in runs if "reelmill.sweep" in r.data.tags]
children = [r for r in runs if "mlflow.parentRunId" in r.data.tags]
print(json.dumps({
    "parents": [[r.info.run_id, r.info.status, r.data.tags.get("reelmill.best_trial")] for r in parents],
    "children": [[r.data.tags["mlflow.parentRunId"], r.data.params["train.seed"], sorted(r.data.metrics)] for r in children],
}))
"""


@pytest.mark.pipeline
def test_sweep_reports_a_failed_trial_goes_on_and_shares_what_no_trial_changes(trained, tmp_path):
    workspace = shutil.copytree(trained, tmp_path / "workspace", symlinks=True)
    before = (workspace / "params.yaml").read_text()
    grid = ("train.seed=1,2", "train.epochs=1,0")
    done = _sweep(workspace, *grid, "--parallel", "2")
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [line for line in done.stdout.splitlines() if line.startswith("trial=")]
    assert [row.rpartition("result=")[2][:8] for row in rows] == ["finished", "finished", "failed: ", "failed: "]
    assert "train.epochs: Input should be greater than or equal to 1" in rows[-1]
    log = done.stdout + done.stderr
    assert "Running stage 'fit-autoencoder'" not in log
    assert log.count("Running stage 'train'") == 2
    assert (workspace / "params.yaml").read_text() == before

    again = _sweep(workspace, *grid, "--runner", "dask", "--parallel", "2", "--apply")
    assert again.returncode == 0, again.stderr[-3000:]
    assert [line for line in again.stdout.splitlines() if line.startswith("trial=")][:2] == rows[:2]
    assert "Running stage" not in again.stdout + again.stderr
    applied = yaml.safe_load((workspace / "params.yaml").read_text())["train"]["seed"]
    assert f"train.seed={applied} " in rows[0]

    store = f"sqlite:///{workspace}/mlruns/mlflow.db"
    found = json.loads(
        subprocess.run(
            [sys.executable, "-c", _RUNS, store], check=True, capture_output=True, text=True, env=environment(workspace)
        ).stdout
    )
    ((parent, status, best_trial),) = found["parents"]
    assert (status, best_trial) == ("FINISHED", rows[0].split()[0].removeprefix("trial="))
    assert sorted(seed for _, seed, _ in found["children"]) == ["1", "2"]
    assert {child[0] for child in found["children"]} == {parent}
    assert found["children"][0][2] == found["children"][1][2]  # parallel coordinates draw runs with the same keys


def test_unknown_parameter_stops_before_anything_runs(trained, tmp_path):
    workspace = shutil.copytree(trained, tmp_path / "workspace", symlinks=True)
    done = _sweep(workspace, "train.learning_rat=1.0")
    assert done.returncode == 1
    assert "train.learning_rat: no such setting" in done.stderr
    assert not (workspace / ".reelmill/sweeps").exists()
