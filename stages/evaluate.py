"""Stage evaluate: judge the generated videos, measure them against the data, write the report."""

from pathlib import Path

from reelmill.config import load_params
from reelmill.data.manifest import MANIFEST, load_manifest
from reelmill.storage import write_json, write_text
from reelmill.workspace import run_stage

GENERATED, AUTOENCODER, PIPELINE, LATENTS = (
    Path(name) for name in ("results/generate", "models/autoencoder", "models/pipeline", "data/latents")
)
AUTOENCODER_METRICS, TRAIN, RESULTS = (
    Path(name) for name in ("results/fit-autoencoder/metrics.json", "results/train", "results/evaluate")
)


def main() -> None:
    """Assess the videos and write metrics, verdicts, accuracies and the report."""
    # Imported here: clips are read by processes that import this file too, and they need none of it.
    from reelmill import tracking
    from reelmill.compute import choose_device, make_deterministic
    from reelmill.evaluation.assess import assess, read_videos
    from reelmill.evaluation.charts import charts_of
    from reelmill.evaluation.inputs import load_videos
    from reelmill.evaluation.outputs import accuracy_csv, tables, verdict_rows
    from reelmill.evaluation.report import Background, write_report
    from reelmill.models.pretrained import load_autoencoder
    from reelmill.training.heldout import test_losses

    params = load_params()
    make_deterministic(params.compute.deterministic)
    videos = load_videos(GENERATED)
    readings = read_videos(videos)
    autoencoder = load_autoencoder(AUTOENCODER, None, choose_device(params.evaluate.device), params.autoencoder.tiling)
    losses, test_clips = test_losses(PIPELINE, LATENTS, params)
    evidence = assess(videos, readings, load_manifest(MANIFEST), params.data, params.evaluate, autoencoder, losses)
    write_json(RESULTS / "metrics.json", evidence.metrics())
    write_json(RESULTS / "verdicts.json", verdict_rows(videos, readings))
    write_json(RESULTS / "test_clips.json", test_clips)
    write_text(RESULTS / "accuracy.csv", accuracy_csv(evidence.accuracies))
    charts = charts_of("Training", TRAIN / "history.csv") + charts_of("Validation", TRAIN / "validation.csv")
    made_from = {
        "pipeline": PIPELINE,
        "autoencoder": AUTOENCODER,
        "manifest": MANIFEST,
        "videos": GENERATED / "videos.json",
    }
    background = Background(
        charts, tables(params, made_from, AUTOENCODER_METRICS, TRAIN / "metrics.json"), params.evaluate.confidence
    )
    write_report(RESULTS / "report.html", videos, [reading.verdict for reading in readings], evidence, background)
    tracking.log_evaluation(params)


if __name__ == "__main__":
    run_stage("evaluate", main)
