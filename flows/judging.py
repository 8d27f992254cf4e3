"""The champion's evidence on the challenger's evaluation set."""

from collections.abc import Callable
from pathlib import Path

from flows.isolated import make_workspace
from flows.pipeline import require_success, run_stage
from reelmill.config import Params
from reelmill.errors import UserError
from reelmill.settings import change
from reelmill.storage import read_json, remove
from reelmill.tracking import registry
from reelmill.tracking.registry import Version
from reelmill.workspace import LINEAGE

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
        result = run_stage(stage, log, params.retrain.stage_timeout_s, workspace, checkout=Path())
        require_success(result, " of the champion")
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
    change(
        workspace / "params.yaml",
        {
            "model.family": read_json(workspace / _GIVEN / LINEAGE).get("family", params.model.family),
            # The sampler belongs to the evaluation set's settings; one of a source's own needs the source.
            "model.source": _GIVEN if params.sampling.scheduler == "source" else None,
            "train.mode": "full",
            "autoencoder.source": _GIVEN,
            "autoencoder.subfolder": "vae",
            "model.text_encoder.source": _GIVEN,
            "model.text_encoder.subfolder": None,
        },
    )
    return workspace
