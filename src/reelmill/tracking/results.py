"""Videos and evidence: one run for each pair of a model and an evaluation of it.

All is read from the workspace's files and may be said again: a run is found by the content hashes
of weights, videos and evidence, so other settings or other results open a run of their own, which
carries the training's settings and figures along and points at the same model. Nothing that is
there is changed.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reelmill.config import Params
from reelmill.errors import UserError
from reelmill.storage import hash_path
from reelmill.tracking import lineage
from reelmill.tracking.runs import (
    MODEL_HASH,
    RUN_KEY,
    copy_points,
    ensure_model,
    find_runs,
    log_datasets,
    log_files,
    log_params,
    log_points,
    open_run,
)
from reelmill.tracking.sender import catch_up, warn
from reelmill.tracking.store import Store, connect, first_line, plain_uri, store_uri, tracker_errors

if TYPE_CHECKING:
    from mlflow.entities import Run

VIDEOS, EVIDENCE, EVALUATION = "reelmill.videos_hash", "reelmill.evidence_hash", "reelmill.evaluation_hash"
LOCK, LOGGED = "reelmill.dvc_lock_hash", "reelmill.logged"
_CARRIED = ("training/", "autoencoder/", "train/", *(f"{stage}/" for stage in lineage.EARLIER_STAGES))


@dataclass(frozen=True)
class Pair:
    """A model and what is known of it so far: content hashes, the evidence's None before evaluate."""

    model: str
    videos: str
    evidence: str | None


def log_generation(params: Params, workspace: Path = Path(".")) -> str | None:
    """Log the generate stage from its written files; the run's id, None if the tracker is away (said in a warning)."""
    return _when_reachable(params, workspace, with_evidence=False)


def log_evaluation(params: Params, workspace: Path = Path(".")) -> str | None:
    """Log the evaluate stage from its written files; the run's id, None if the tracker is away (said in a warning)."""
    return _when_reachable(params, workspace, with_evidence=True)


def record(params: Params, workspace: Path = Path(".")) -> str:
    """Close a pipeline run: log what is not logged yet, tag dvc.lock's hash; says where the run is.

    Raises:
        UserError: when there is no trained pipeline or no dvc.lock, or when params.yaml has changed
            since: the results would be said to come of settings that did not make them.
    """
    for needed in (workspace / lineage.PIPELINE, workspace / "results/generate", workspace / "dvc.lock"):
        if not needed.exists():
            raise UserError(f"{needed}: not found, so there is no run to record. Run `make repro` first.")
    if changed := lineage.changed_settings(workspace):
        raise UserError(
            f"params.yaml: {', '.join(changed)}: not as dvc.lock was made with, so the results are not those of "
            "these settings. Run `dvc repro` first, or take the change back."
        )
    with_evidence = (workspace / "results/evaluate/metrics.json").exists()
    try:
        store, run_id = _log(params, workspace, with_evidence)
        lock_hash = hash_path(workspace / "dvc.lock")
        # The file too, by its hash: a later lock of the same pair does not replace an earlier one.
        log_files(store, run_id, {f"lineage/dvc-{lock_hash[:12]}.lock": workspace / "dvc.lock"})
        store.client.set_tag(run_id, LOCK, lock_hash)
    except tracker_errors() as error:
        return f"MLflow run: not recorded, {_away(error)} `reelmill record` catches up."
    return f"MLflow run {run_id}: {store.link(run_id)}"


def ensure_logged(params: Params, workspace: Path = Path(".")) -> str:
    """The id of this workspace's run, its videos and evidence logged.

    Raises:
        one of `store.tracker_errors`: when the tracker is away.
    """
    return _log(params, workspace, with_evidence=True)[1]


def _when_reachable(params: Params, workspace: Path, with_evidence: bool) -> str | None:
    try:
        return _log(params, workspace, with_evidence)[1]
    except tracker_errors() as error:
        warn(f"{_away(error)} The results are in their files; `reelmill record` logs them later.")
        return None


def _away(error: Exception) -> str:
    return f"MLflow at {plain_uri(store_uri())} did not take the record: {first_line(error)}."


def _log(params: Params, workspace: Path, with_evidence: bool) -> tuple[Store, str]:
    catch_up()
    pair = Pair(
        model=lineage.model_hash(workspace / lineage.PIPELINE),
        videos=lineage.videos_hash(params, workspace),
        evidence=lineage.evidence_hash(params, workspace) if with_evidence else None,
    )
    store = connect(params.tracking.experiment)
    same_model = _by_settings(find_runs(store, MODEL_HASH, pair.model), params)
    run = _matching(same_model, pair) or _open(store, params, workspace, pair, same_model)
    done = run.data.tags.get(LOGGED, "").split()
    if "generate" not in done:
        _log_videos(store, run, params, workspace, pair)
        done = [*done, "generate"]
    if with_evidence and "evaluate" not in done:
        _log_evidence(store, run, params, workspace, pair)
        done = [*done, "evaluate"]
    store.client.set_tag(run.info.run_id, LOGGED, " ".join(done))
    if run.info.status == "RUNNING":
        store.client.set_terminated(run.info.run_id)
    return store, run.info.run_id


def _matching(runs: list["Run"], pair: Pair) -> "Run | None":
    """The run of this pair, or else one of the model that has no other videos or evidence yet."""

    def fit(run: "Run") -> int | None:
        """How well a run fits, 0 best; None when it holds something else."""
        videos, evidence = run.data.tags.get(VIDEOS), run.data.tags.get(EVIDENCE)
        if videos is None:
            return 2
        if videos != pair.videos or (pair.evidence and evidence not in (None, pair.evidence)):
            return None
        return 0 if evidence == pair.evidence else 1

    return min((run for run in runs if fit(run) is not None), key=fit, default=None)  # type: ignore[arg-type]


def _by_settings(runs: list["Run"], params: Params) -> list["Run"]:
    """First the runs that were made with the settings of now, then those that saw the training."""
    current = lineage.loggable_params(params, lineage.TRAINING_SECTIONS)

    def rank(run: "Run") -> tuple[bool, bool]:
        return any(run.data.params.get(k) != v for k, v in current.items()), RUN_KEY not in run.data.tags

    return sorted(runs, key=rank)


def _open(store: Store, params: Params, workspace: Path, pair: Pair, same_model: list["Run"]) -> "Run":
    """A new run of a known model: from the run that has it, or from files if no run ever saw it."""
    description = lineage.describe_training(params, "", workspace)
    description["tags"][MODEL_HASH] = pair.model
    description["name"] += f"-{(pair.evidence or pair.videos)[:6]}"
    last_step = 0
    if same_model:
        source = same_model[0]
        upstream = tuple(f"{section}." for section in lineage.TRAINING_SECTIONS)
        carried = {k: v for k, v in source.data.params.items() if k.startswith(upstream)}
        # The gate's bounds may change without changing a clip: those of now belong to the page of now.
        gate = {k: v for k, v in description["params"].items() if k.startswith("data.expectations.")}
        description["params"] = carried | gate
        description["points"] = []
        description["tags"]["reelmill.training_run"] = source.data.tags.get("reelmill.training_run", source.info.run_id)
        description["name"] = f"{source.info.run_name}-{(pair.evidence or pair.videos)[:6]}"
    else:
        history = _training_history(workspace)
        last_step = max((step for _, step, _ in history), default=0)
        description["points"] += history
        description["files"] |= _training_files(workspace)
    run_id = open_run(store, description)
    if same_model:
        copy_points(store, same_model[0], run_id, _CARRIED)
    tags = {MODEL_HASH: pair.model}
    ensure_model(store, run_id, "pipeline", tags, workspace / lineage.PIPELINE, last_step)
    return store.client.get_run(run_id)


def _training_history(workspace: Path) -> list[tuple[str, int, float]]:
    points = [(name, 0, value) for name, value in lineage.stage_metrics("train", workspace).items()]
    for source, prefix in lineage.HISTORIES.items():
        if prefix == "training" and (workspace / source).exists():
            points += lineage.history_points(workspace / source, prefix)
    return points


def _training_files(workspace: Path) -> dict[str, str]:
    previews = workspace / "results/train/previews"
    files = {f"previews/{p.relative_to(previews)}": str(p) for p in sorted(previews.rglob("*")) if p.is_file()}
    return files | {name: str(path) for name, path in lineage.training_results(workspace).items()}


def _log_videos(store: Store, run: "Run", params: Params, workspace: Path, pair: Pair) -> None:
    """Claim the run for these videos, then log settings, MP4s with contact sheets, and figures."""
    run_id = run.info.run_id
    store.client.set_tag(run_id, VIDEOS, pair.videos)
    log_params(store, run, lineage.loggable_params(params, lineage.VIDEO_SECTIONS))
    folder = workspace / "results/generate"
    log_files(store, run_id, {f"videos/{p.name}": p for p in sorted(folder.glob("*")) if p.is_file()})
    _log_stage_metrics(store, run, "generate", workspace, pair)


def _log_evidence(store: Store, run: "Run", params: Params, workspace: Path, pair: Pair) -> None:
    """Claim the run for this evaluation, then log settings, the test clips, report and figures."""
    run_id = run.info.run_id
    assert pair.evidence is not None
    store.client.set_tag(run_id, EVIDENCE, pair.evidence)
    store.client.set_tag(run_id, EVALUATION, lineage.evaluation_hash(params, workspace))
    log_params(store, run, lineage.loggable_params(params, ("evaluate",)))
    log_datasets(store, run_id, lineage.datasets(workspace, ("test",)))
    folder = workspace / "results/evaluate"
    log_files(store, run_id, {f"evaluation/{p.name}": p for p in sorted(folder.iterdir())})
    _log_stage_metrics(store, run, "evaluate", workspace, pair)


def _log_stage_metrics(store: Store, run: "Run", stage: str, workspace: Path, pair: Pair) -> None:
    """Log a stage's figures on the run, and on its model for the data it was measured on."""
    points = [(name, 0, value) for name, value in lineage.stage_metrics(stage, workspace).items()]
    tags = {MODEL_HASH: pair.model}
    model_id = ensure_model(store, run.info.run_id, "pipeline", tags, workspace / lineage.PIPELINE, 0)
    dataset = next(iter(lineage.datasets(workspace, ("test",))), None)
    log_points(store, run.info.run_id, points, run.info.start_time, model_id, dataset)
