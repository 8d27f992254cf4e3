"""What a run is about: content hashes, settings and figures, read from the workspace's files."""

import csv
import hashlib
import json
import math
import os
import re
import subprocess
from pathlib import Path

from ruamel.yaml import YAML

from reelmill.config import Params
from reelmill.storage import hash_bytes, hash_path, hash_value, read_json

MANIFEST = "data/manifest.parquet"
PIPELINE = "models/pipeline"
EARLIER_STAGES = ("make-samples", "validate-data", "fit-autoencoder", "encode")
TRAINING_SECTIONS = ("samples", "data", "autoencoder", "augment", "encode", "model", "train")
VIDEO_SECTIONS = ("sampling", "generate")
# A stage's history files: what their columns become. Rows with a `step` column, one row a step.
HISTORIES = {
    "results/fit-autoencoder/history.csv": "autoencoder",
    "results/train/history.csv": "training",
    "results/train/validation.csv": "training",
}
_MAX_VALUE = 6000  # characters of a parameter, MLflow's limit


def model_hash(pipeline: Path) -> str:
    """SHA-256 of a pipeline directory's weights: every safetensors file with its name.

    The same weights have the same hash wherever they lie and whatever stands in their model card.
    """
    files = sorted(pipeline.rglob("*.safetensors"))
    assert files, f"{pipeline} holds no weights"
    return hash_bytes(*(p for f in files for p in (str(f.relative_to(pipeline)).encode(), hash_path(f).encode())))


def md5(path: Path) -> str:
    """A file's MD5, as DVC computes it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def evaluation_hash(params: Params, workspace: Path) -> str:
    """Hash of what a model is measured with: settings, prompts with seeds, and the test clips.

    It does not depend on the model, so runs that share it may be compared. Empty while the
    videos' list is not written yet.
    """
    videos = workspace / "results/generate/videos.json"
    if not videos.exists():
        return ""
    settings = params.model_dump(mode="json", include={"sampling", "generate", "evaluate"})
    for section in settings.values():
        section.pop("device", None)
    return hash_value(
        {"settings": settings, "videos": read_json(videos), "test": _split_contents(workspace).get("test")}
    )


def videos_hash(params: Params, workspace: Path) -> str:
    """Hash of the generated videos themselves and of the settings they were made with."""
    return hash_value(
        {
            "settings": params.model_dump(mode="json", include=set(VIDEO_SECTIONS)),
            "files": hash_path(workspace / "results/generate"),
        }
    )


def evidence_hash(params: Params, workspace: Path) -> str:
    """Hash of the evaluation's results and settings, and of the videos they are about."""
    return hash_value(
        {
            "settings": params.model_dump(mode="json", include={"evaluate"}),
            "videos": videos_hash(params, workspace),
            "files": hash_path(workspace / "results/evaluate"),
        }
    )


def flatten(value: object, prefix: str = "") -> dict[str, str]:
    """Nested settings as ``{"train.learning_rate": "0.004"}``; lists and null as JSON."""
    if isinstance(value, dict):
        return {k: v for key, item in value.items() for k, v in flatten(item, f"{prefix}{key}.").items()}
    return {prefix[:-1]: value if isinstance(value, str) else json.dumps(value)}


def loggable_params(params: Params, sections: tuple[str, ...]) -> dict[str, str]:
    """The sections' settings flattened; a value over MLflow's limit is cut and ends with its hash."""
    flat = flatten(params.model_dump(mode="json", include=set(sections)))
    return {key: value if len(value) <= _MAX_VALUE else _cut(value) for key, value in flat.items()}


def changed_settings(workspace: Path) -> list[str]:
    """Keys whose values in params.yaml are not those that dvc.lock was made with."""
    # YAML 1.2, as DVC writes it: PyYAML takes the lock's 1e-05 for a string.
    lock, settings = (YAML(typ="safe").load(workspace / name) for name in ("dvc.lock", "params.yaml"))
    recorded = {
        key: value
        for stage in lock.get("stages", {}).values()
        for key, value in stage.get("params", {}).get("params.yaml", {}).items()
    }
    return sorted(key for key, value in recorded.items() if _setting(settings, key) != value)


def _setting(settings: object, key: str) -> object:
    """The value under a dotted key, None where there is none."""
    for part in key.split("."):
        settings = settings.get(part) if isinstance(settings, dict) else None
    return settings


def stage_metrics(stage: str, workspace: Path) -> dict[str, float]:
    """The numbers of ``results/<stage>/metrics.json`` as ``{"<stage>/a/b": 1.0}``; none if it is not there."""
    path = workspace / "results" / stage / "metrics.json"
    return _numbers(read_json(path), f"{stage}/") if path.exists() else {}


def history_points(path: Path, prefix: str) -> list[tuple[str, int, float]]:
    """A history file's numbers as ``(metric, step, value)``; empty cells are skipped."""
    with path.open(newline="") as file:
        return [
            (metric_name(f"{prefix}/{column}"), int(float(row["step"])), float(cell))
            for row in csv.DictReader(file)
            for column, cell in row.items()
            if column != "step" and _is_number(cell)
        ]


def metric_name(name: str) -> str:
    """``name`` with what MLflow refuses in a metric's name replaced."""
    return re.sub(r"[^\w\-. :/]", "_", name)[:250]


def training_tags(params: Params, run_key: str, workspace: Path) -> dict[str, str]:
    """Tags that are known when training starts."""
    commit, dirty = _git_state(workspace)
    tags = {
        "reelmill.run_key": run_key,
        "reelmill.data_hash": data_hash(workspace),
        "reelmill.git_dirty": dirty,
        "reelmill.dvc_experiment": os.environ.get("DVC_EXP_NAME", ""),
        "mlflow.source.git.commit": commit,
        "mlflow.source.name": "stages/train.py",
        "mlflow.source.type": "LOCAL",
    }
    long = [k for k, v in flatten(params.model_dump(mode="json")).items() if len(v) > _MAX_VALUE]
    if long:
        tags["reelmill.cut_params"] = ", ".join(long)[:_MAX_VALUE]
    return {key: value for key, value in tags.items() if value}


def data_hash(workspace: Path) -> str:
    """The manifest's MD5 as DVC has it; empty without a manifest."""
    path = workspace / MANIFEST
    return md5(path) if path.exists() else ""


def datasets(workspace: Path, contexts: tuple[str, ...]) -> list[dict]:
    """The manifest's splits as dataset inputs, with DVC's MD5 as digest and the number of clips."""
    digest = data_hash(workspace)
    counts = {split: len(rows) for split, rows in _split_contents(workspace).items()}
    return [
        {"name": context, "digest": digest, "source": MANIFEST, "num_clips": counts.get(context, 0)}
        for context in contexts
        if digest
    ]


def describe_training(params: Params, run_key: str, workspace: Path) -> dict:
    """What a training's run is opened with, as plain JSON: name, params, tags, data, figures, files."""
    points = [(name, 0, value) for stage in EARLIER_STAGES for name, value in stage_metrics(stage, workspace).items()]
    history = workspace / "results/fit-autoencoder/history.csv"
    if history.exists():
        points += history_points(history, HISTORIES["results/fit-autoencoder/history.csv"])
    pages = {
        f"validation/{name}": workspace / "results/validate-data" / name for name in ("report.html", "result.json")
    }
    return {
        "name": os.environ.get("DVC_EXP_NAME") or f"train-{run_key[:8]}",
        "params": loggable_params(params, TRAINING_SECTIONS),
        "tags": training_tags(params, run_key, workspace),
        "datasets": datasets(workspace, ("train", "validation")),
        "points": points,
        "files": {name: str(path) for name, path in pages.items() if path.exists()},
    }


def training_results(workspace: Path) -> dict[str, Path]:
    """The training stage's result files by artifact path (previews are logged as they appear)."""
    root = workspace / "results/train"
    return {f"training/{p.name}": p for p in sorted(root.glob("*")) if p.is_file()}


def _split_contents(workspace: Path) -> dict[str, list]:
    """Captions and content hashes of the clips of each split."""
    path = workspace / MANIFEST
    if not path.exists():
        return {}
    import pyarrow.parquet

    splits: dict[str, list] = {}
    for row in pyarrow.parquet.read_table(path, columns=["split", "caption", "content_hash"]).to_pylist():
        splits.setdefault(row["split"], []).append([row["caption"], row["content_hash"]])
    return splits


def _numbers(value: object, prefix: str) -> dict[str, float]:
    if isinstance(value, dict):
        return {k: v for key, item in value.items() for k, v in _numbers(item, f"{prefix}{key}/").items()}
    if isinstance(value, list):
        return {k: v for i, item in enumerate(value) for k, v in _numbers(item, f"{prefix}{i}/").items()}
    if isinstance(value, int | float) and math.isfinite(value):
        return {metric_name(prefix[:-1]): float(value)}
    return {}


def _is_number(cell: str | None) -> bool:
    try:
        float(cell or "")
    except ValueError:
        return False
    return True


def _cut(value: str) -> str:
    ending = f"… (cut, sha256 {hash_bytes(value.encode())[:16]})"
    return value[: _MAX_VALUE - len(ending)] + ending


def _git_state(workspace: Path) -> tuple[str, str]:
    """The commit, and whether tracked files differ from it; dvc.lock aside, which a repro rewrites."""
    commit = _git(workspace, "rev-parse", "HEAD")
    changed = _git(workspace, "status", "--porcelain", "--untracked-files=no", "--", ".", ":!dvc.lock")
    return commit, str(bool(changed)).lower() if commit else ""


def _git(workspace: Path, *arguments: str) -> str:
    """Git's answer, or empty where there is no repository, no commit or no git."""
    try:
        answer = subprocess.run(["git", *arguments], cwd=workspace, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return answer.stdout.strip()
