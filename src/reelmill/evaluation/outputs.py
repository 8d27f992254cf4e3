"""What the evaluate stage writes beside its report: verdicts, accuracies, and the report's tables."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from reelmill.config import Params
from reelmill.evaluation.accuracy import Accuracy
from reelmill.evaluation.inputs import GeneratedVideo
from reelmill.evaluation.reading import Reading
from reelmill.evaluation.report import flat
from reelmill.storage import hash_path, read_json


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


def tables(
    params: Params, made_from: dict[str, Path], autoencoder_metrics: Path, training_metrics: Path
) -> dict[str, list[tuple[str, str]]]:
    """Tables for the report's end: the autoencoder's and the training's figures, lineage, settings."""
    return {
        "Reconstruction by the autoencoder": flat(read_json(autoencoder_metrics)),
        "Training figures": flat(read_json(training_metrics)),
        "Lineage (SHA-256 of the contents)": [(name, hash_path(path)) for name, path in made_from.items()],
        "Settings": flat(params.model_dump(mode="json", exclude={"tracking", "promotion", "retrain"})),
    }
