"""The champion's evidence on the challenger's evaluation set."""

import os
from collections.abc import Callable
from pathlib import Path

from flows.isolated import make_workspace, set_params
from flows.pipeline import StageFailed, run_stage
from reelmill.config import Params
from reelmill.errors import UserError
from reelmill.storage import remove
from reelmill.tracking import registry
from reelmill.tracking.registry import Version

ROOT = Path(".reelmill/champion")
# What judging takes from the checkout as it is; the champion brings its own autoencoder and words.
_LINKS = ("data/samples", "data/manifest.parquet")
_GIVEN = "models/pipeline"


def champion_evidence(params: Params, champion: Version, evaluation: str, log: Callable[[str], None]) -> Path:
    """A folder with the champion's metrics, verdicts and errors on this very set.

    Taken from MLflow where it was judged on the set before; made anew otherwise, by the same stages,
    in a workspace of its own that holds the champion's pipeline.

    Raises:
        StageFailed: when a stage of it failed.
        UserError: when its evaluation came out as one of another set.
    """
    known = ROOT / "evidence"
    if run_id := registry.evidence(params, champion.model_hash, evaluation, known):
        log(f"{champion} was judged on this set: MLflow run {run_id}")
        return known
    log(f"{champion} was never judged on evaluation set {evaluation[:12]}: it is now")
    workspace = _workspace(params, champion)
    for stage in ("fit-autoencoder", "encode", "generate", "evaluate"):
        result = _run_stage(stage, log, params, workspace)
        if result.result in ("failed", "killed"):
            raise StageFailed(f"{stage} of the champion: {result.reason}", resumable=True)
    if not registry.evidence(params, champion.model_hash, evaluation, known):
        raise UserError(
            f"{champion}: evaluated in {workspace}, and MLflow has no evidence of it on set {evaluation[:12]}. "
            "Was the tracker away? Run the retraining again."
        )
    remove(workspace)
    return known


def _workspace(params: Params, champion: Version) -> Path:
    workspace = make_workspace(Path(), ROOT / champion.model_hash[:12], _LINKS)
    (workspace / "dvc.lock").unlink(missing_ok=True)
    registry.fetch(params, champion, workspace / _GIVEN)
    registry.training_results(params, champion, workspace / "results/train")
    set_params(
        workspace,
        {
            "autoencoder.source": _GIVEN,
            "autoencoder.subfolder": "vae",
            "model.text_encoder.source": _GIVEN,
        },
    )
    return workspace


def _run_stage(stage: str, log: Callable[[str], None], params: Params, workspace: Path):
    """A stage that logs to the checkout's store, as in DVC's own temporary workspaces."""
    before = os.environ.get("DVC_ROOT")
    os.environ["DVC_ROOT"] = str(Path().resolve())
    try:
        return run_stage(stage, log, params.retrain.stage_timeout_s, workspace)
    finally:
        if before is None:
            del os.environ["DVC_ROOT"]
        else:
            os.environ["DVC_ROOT"] = before
