"""Stage evaluate: judge the generated videos, measure them against the data, write the report."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from reelmill.compute import choose_device
from reelmill.config import Params, load_params
from reelmill.data.manifest import MANIFEST, load_manifest
from reelmill.evaluation.accuracy import Accuracy
from reelmill.evaluation.assess import assess, read_videos
from reelmill.evaluation.charts import charts_of
from reelmill.evaluation.inputs import GeneratedVideo, load_videos
from reelmill.evaluation.reading import Reading
from reelmill.evaluation.report import Background, flat, write_report
from reelmill.models.autoencoder import load
from reelmill.storage import hash_path, read_json, write_json, write_text
from reelmill.training.heldout import test_losses
from reelmill.workspace import run_stage

GENERATED = Path("results/generate")
AUTOENCODER = Path("models/autoencoder")
PIPELINE = Path("models/pipeline")
LATENTS = Path("data/latents")
TRAIN = Path("results/train")
AUTOENCODER_METRICS = Path("results/fit-autoencoder/metrics.json")
RESULTS = Path("results/evaluate")


def main() -> None:
    params = load_params()
    videos = load_videos(GENERATED)
    readings = read_videos(videos)
    evidence = assess(
        videos,
        readings,
        load_manifest(MANIFEST),
        params.data,
        params.evaluate,
        load(AUTOENCODER, device=choose_device(params.evaluate.device)),
        test_losses(PIPELINE, LATENTS, params),
    )
    write_json(RESULTS / "metrics.json", evidence.metrics())
    write_json(RESULTS / "verdicts.json", verdict_rows(videos, readings))
    write_text(RESULTS / "accuracy.csv", accuracy_csv(evidence.accuracies))
    charts = charts_of("Training", TRAIN / "history.csv") + charts_of("Validation", TRAIN / "validation.csv")
    background = Background(charts, tables(params), params.evaluate.confidence)
    write_report(RESULTS / "report.html", videos, [reading.verdict for reading in readings], evidence, background)


def verdict_rows(videos: Sequence[GeneratedVideo], readings: Sequence[Reading]) -> list[dict]:
    """What the judge saw in each video, beside what was asked for."""
    rows = []
    for video, reading in zip(videos, readings, strict=True):
        wanted = None if video.wanted is None else asdict(video.wanted)
        right = None if video.wanted is None else video.wanted == reading.verdict
        prompt = {"name": video.name, "group": video.group, "prompt": video.prompt, "seed": video.seed}
        rows.append({**prompt, "wanted": wanted, "seen": asdict(reading.verdict), "right": right})
    return rows


def accuracy_csv(rows: Sequence[Accuracy]) -> str:
    """The accuracies as CSV for `dvc plots`; the header alone without labels."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Accuracy)], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(
            {key: round(value, 6) if isinstance(value, float) else value for key, value in asdict(row).items()}
        )
    return text.getvalue()


def tables(params: Params) -> dict[str, list[tuple[str, str]]]:
    """Tables for the report's end: the autoencoder's and the training's figures, lineage, settings."""
    made_from = {
        "pipeline": PIPELINE,
        "autoencoder": AUTOENCODER,
        "manifest": MANIFEST,
        "videos": GENERATED / "videos.json",
    }
    return {
        "Reconstruction by the autoencoder": flat(read_json(AUTOENCODER_METRICS)),
        "Training figures": flat(read_json(TRAIN / "metrics.json")),
        "Lineage (SHA-256 of the contents)": [(name, hash_path(path)) for name, path in made_from.items()],
        "Settings": flat(params.model_dump(mode="json", exclude={"tracking"})),
    }


if __name__ == "__main__":
    run_stage("evaluate", main)
