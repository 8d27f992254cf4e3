from pathlib import Path

from reelmill.config import load_params
from reelmill.training.heldout import test_losses as losses_of


def test_saved_pipeline_is_measured_by_its_own_objective(in_trained):
    """A champion is judged under the challenger's settings; those say nothing about how it predicts."""
    params = load_params()
    assert params.train.objective == "flow_clean"
    other = params.model_copy(update={"train": params.train.model_copy(update={"objective": "v_prediction"})})
    arguments = (Path("models/pipeline"), Path("data/latents"))
    assert losses_of(*arguments, other) == losses_of(*arguments, params)
