"""Where a retraining starts from: nothing, or the champion's weights (`retrain.start`)."""

from pathlib import Path

from flows.pipeline import STAGES
from reelmill.config import Params, load_params
from reelmill.errors import UserError
from reelmill.rules import STARTS
from reelmill.settings import change
from reelmill.storage import remove
from reelmill.tracking import registry
from reelmill.tracking.registry import Version

SETTINGS = Path("params.yaml")
# What a source's own autoencoder and text encoders stand for.
_WITH_IT = ("autoencoder.source", "autoencoder.subfolder", "model.text_encoder.source", "model.text_encoder.subfolder")


def start_settings(params: Params, champion: Version | None, begin: int) -> Params:
    """The settings that this retraining runs with: those of params.yaml, where the champion is written as its source.

    The weights lie under their own hash, so that the same settings always mean the same start; it moves
    on to a newer champion only when there is something to train, or no night would be without change.
    With ``scratch`` a source that was written here before is taken out again.

    Args:
        begin: place in `STAGES` of the first stage that has something to do.

    Raises:
        UserError: when the champion is a LoRA.
    """
    if params.retrain.start == "scratch":
        return _from_scratch(params)
    if champion is None or begin > STAGES.index("train"):
        return params
    source = STARTS / champion.model_hash[:12]
    registry.fetch(params, champion, source)
    if not (source / "model_index.json").is_file():
        raise UserError(
            f"retrain.start: champion: {champion} is a LoRA, and training does not go on from one: use scratch"
        )
    change(SETTINGS, {"model.source": str(source), **dict.fromkeys(_WITH_IT)})
    for old in STARTS.iterdir():
        if old != source:
            remove(old)
    return load_params()


def _from_scratch(params: Params) -> Params:
    if params.model.source is None or not Path(params.model.source).is_relative_to(STARTS):
        return params
    change(SETTINGS, {"model.source": None})
    return load_params()
