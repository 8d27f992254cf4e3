"""A real retraining, on a server of Prefect's own and MLflow's store: refused, promoted, rolled back.

One story, for each retraining costs real stages: first model refused, then promoted; nothing new; a worse one
refused on a changed evaluation set; a better one promoted; the tracker away; back again.
"""

import shutil
import subprocess

import pytest
from benchmarks.workspace import flow_environment

from reelmill.settings import change
from reelmill.tracking.lineage import model_hash

# Six test clips' errors decide; the guards on looks are not what is tested, and noise would trip them.
BY_ERRORS = {
    "promotion.metric": "clean_error",
    "promotion.max_flicker_ratio": 1000.0,
    "promotion.min_diversity_ratio": 0.0,
}


def _phases(steps: int) -> list[dict]:
    return [
        {"frames": 1, "crop_px": 16, "steps": steps, "batch_size": 4},
        {"frames": 9, "crop_px": None, "steps": steps, "batch_size": 2},
    ]


@pytest.fixture(scope="module")
def workspace(trained, tmp_path_factory):
    target = tmp_path_factory.mktemp("retraining") / "workspace"
    shutil.copytree(trained, target, symlinks=True)
    return target


def _retrain(workspace, flow: str = "retrain", **variables) -> subprocess.CompletedProcess:
    settings = flow_environment(workspace, **variables)
    return subprocess.run(
        ["python", "-m", f"flows.{flow}"], cwd=workspace, env=settings, capture_output=True, text=True
    )


def _last(done: subprocess.CompletedProcess) -> str:
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip().splitlines()[-1]


@pytest.mark.pipeline
def test_retraining_from_the_first_model_to_the_rollback(workspace):
    champion, pipeline = workspace / "models/champion", workspace / "models/pipeline"

    refused = _last(_retrain(workspace))
    assert refused.startswith("refused: reelmill version 1: first model: accuracy 0.")
    assert not champion.exists()

    change(workspace / "params.yaml", {"promotion.min_accuracy": 0.0})
    assert _last(_retrain(workspace)).startswith("promoted: reelmill version 1")
    first = model_hash(champion)
    assert first == model_hash(pipeline)
    assert _last(_retrain(workspace)).startswith("unchanged: the pipeline still makes the champion")

    # Worse on purpose (an autoencoder of two steps), on a set on which the champion was never judged.
    change(workspace / "params.yaml", {**BY_ERRORS, "evaluate.loss_clips": 6, "autoencoder.phases": _phases(1)})
    worse = _retrain(workspace)
    assert _last(worse).startswith("refused: reelmill version 2: clean_error")
    assert "reelmill version 1 was never judged on evaluation set" in worse.stdout + worse.stderr
    assert model_hash(champion) == first

    change(workspace / "params.yaml", {"autoencoder.phases": _phases(60)})
    away = _retrain(workspace, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert away.returncode == 1
    assert model_hash(champion) == first

    better = _last(_retrain(workspace))
    assert better.startswith("promoted: reelmill version 3: clean_error")
    assert model_hash(champion) == model_hash(pipeline) != first

    assert "reelmill version 1 is the champion again" in _last(_retrain(workspace, "rollback"))
    assert model_hash(champion) == first
    shutil.rmtree(champion)  # whatever happens to it, the next start puts it right from the alias
    again = _last(_retrain(workspace))  # and what was rolled back is not promoted a second time
    assert again.startswith("unchanged: reelmill version 3 was judged before")
    assert model_hash(champion) == first


@pytest.mark.pipeline
def test_rollback_without_a_previous_champion_says_so(trained, tmp_path):
    workspace = shutil.copytree(trained, tmp_path / "workspace", symlinks=True)
    done = _retrain(workspace, "rollback")
    assert done.returncode == 1
    assert "no champion before the present one" in done.stderr
