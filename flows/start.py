"""Where a retraining starts from: nothing, or the champion's weights (`retrain.start`)."""

from pathlib import Path

from flows.pipeline import STAGES, first_changed
from reelmill.config import Params, load_params
from reelmill.settings import change
from reelmill.storage import remove
from reelmill.tracking import registry
from reelmill.tracking.registry import Version

STARTS = Path("models/start")
SETTINGS = Path("params.yaml")


def start_settings(params: Params, champion: Version | None) -> Params:
    """The settings that this retraining runs with: those of params.yaml, where the champion is written as its source.

    The weights lie under their own hash, so that the same settings always mean the same start; it moves
    on to a newer champion only when there is something to train, or no night would be without change.
    """
    if params.retrain.start == "scratch" or champion is None or first_changed() == len(STAGES):
        return params
    source = STARTS / champion.model_hash[:12]
    registry.fetch(params, champion, source)
    change(SETTINGS, {"model.source": str(source), "autoencoder.source": None, "model.text_encoder.source": None})
    for old in STARTS.iterdir():
        if old != source:
            remove(old)
    return load_params()
