"""A LoRA whose frozen weights are spread over two processes is the one that a process alone trains."""

import csv
import shutil
from pathlib import Path

import pytest
from finetuning import Workspace
from safetensors.torch import load_file
from training.team_run import train_by_settings

from reelmill import settings
from reelmill.models.lora import LORA_WEIGHTS

SPREAD = {"train.num_processes": 2, "train.sharding": "full"}


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-3), ("bf16", 2e-2)])
def test_lora_on_spread_weights_is_that_of_one_process(precision, tolerance, tmp_path, monkeypatch):
    """HunyuanVideo has two kinds of blocks, and three text inputs; with bf16 its frozen weights are kept in it."""
    workspace = Workspace(monkeypatch, tmp_path)
    workspace.use_pretrained("hunyuan_video", train__mode="lora", train__batch_size=2)
    workspace.set({"train.optimizer": "adamw", "train.learning_rate": 1.0e-2, "train.gradient_checkpointing": True})
    workspace.set({"train.gradient_accumulation_steps": 2, "train.device": "cpu", "train.precision": precision})
    workspace.run("fit_autoencoder", "encode")
    rows, held_out, weights = {}, {}, {}
    for name, changes in (("alone", {}), ("spread", SPREAD)):
        state = Path(name)
        state.mkdir()
        shutil.copy("params.yaml", state)
        settings.change(state / "params.yaml", changes)
        output = train_by_settings(state)
        assert (state / "history.csv").exists(), output
        rows[name] = list(csv.DictReader((state / "history.csv").open()))
        (validation,) = csv.DictReader((state / "validation.csv").open())
        held_out[name] = {key: float(value) for key, value in validation.items()}
        (checkpoint,) = (state / "checkpoints").glob("*/" + LORA_WEIGHTS)
        weights[name] = load_file(checkpoint)
    for key, bound in (("loss", tolerance / 10), ("grad_norm", tolerance)):
        alone, spread = ([float(row[key]) for row in rows[name]] for name in ("alone", "spread"))
        assert spread == pytest.approx(alone, rel=bound), key
    for key in ("validation_loss", "validation_clean_error_at_0.8"):  # what the adapters do, whatever the precision
        assert held_out["spread"][key] == pytest.approx(held_out["alone"][key], rel=tolerance / 10), key
    assert weights["spread"].keys() == weights["alone"].keys()
    if precision == "bf16":  # AdamW makes a whole step of the rounding of a gradient that is next to nothing
        return
    for key, weight in weights["alone"].items():
        assert (weights["spread"][key] - weight).norm() <= tolerance * weight.norm(), key
