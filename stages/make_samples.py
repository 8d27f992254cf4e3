"""Stage make-samples: draw the labelled sample clips."""

from pathlib import Path

from reelmill.config import load_params
from reelmill.data.samples import make_samples
from reelmill.storage import write_json
from reelmill.workspace import run_stage


def main() -> None:
    metrics = make_samples(load_params().samples, Path("data/samples"))
    write_json(Path("results/make-samples/metrics.json"), metrics)


if __name__ == "__main__":
    run_stage("make-samples", main)
