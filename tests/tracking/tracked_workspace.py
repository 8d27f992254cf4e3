"""What the tests of tracking write as stages would, and how they read a store back."""

from pathlib import Path

import pyarrow
import pyarrow.parquet
from mlflow import MlflowClient

from reelmill.config import Params
from reelmill.storage import write_json, write_text
from reelmill.tracking import TrainingLog

PIPELINE = Path("models/pipeline")


def train(params: Params, steps: range, run_key: str = "k1", model_hash: str = "m1") -> None:
    """A training that is over in no time."""
    with TrainingLog(params, run_key) as log:
        for step in steps:
            log.metrics(step, {"loss": 2.0 / step, "learning rate|": 0.5})
        log.finish(PIPELINE, model_hash)


def write_manifest(clips: dict[str, int]) -> None:
    splits = [split for split, count in clips.items() for _ in range(count)]
    columns = {"split": splits, "caption": [f"clip {i}" for i in range(len(splits))], "content_hash": splits}
    Path("data").mkdir(exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table(columns), "data/manifest.parquet")


def write_generated(content: str) -> None:
    write_json(Path("results/generate/videos.json"), [{"name": "a", "prompt": "a green circle", "seed": 0}])
    write_text(Path("results/generate/a.mp4"), content)
    write_text(Path("results/generate/frames/a.safetensors"), "raw " + content)
    write_json(Path("results/generate/metrics.json"), {"num_videos": 1})


def write_evaluated(accuracy: float) -> None:
    write_json(Path("results/evaluate/metrics.json"), {"held_out": {"joint_accuracy": accuracy}})
    write_text(Path("results/evaluate/report.html"), f"<p>{accuracy}</p>")


def with_settings(params: Params, section: str, **settings) -> Params:
    return params.model_copy(update={section: getattr(params, section).model_copy(update=settings)})


def runs(client: MlflowClient) -> list:
    experiment = client.get_experiment_by_name("reelmill")
    return client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])


def history(client: MlflowClient, run_id: str, name: str) -> list[tuple[int, float]]:
    return sorted((m.step, m.value) for m in client.get_metric_history(run_id, name))


def artifacts(client: MlflowClient, run_id: str, folder: str | None = None) -> set[str]:
    found: set[str] = set()
    for item in client.list_artifacts(run_id, folder):
        found |= artifacts(client, run_id, item.path) if item.is_dir else {item.path}
    return found
