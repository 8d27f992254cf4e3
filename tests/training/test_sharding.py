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
    losses, weights = {}, {}
    for name, changes in (("alone", {}), ("spread", SPREAD)):
        state = Path(name)
        state.mkdir()
        shutil.copy("params.yaml", state)
        settings.change(state / "params.yaml", changes)
        output = train_by_settings(state)
        assert (state / "history.csv").exists(), output
        losses[name] = [float(row["loss"]) for row in csv.DictReader((state / "history.csv").open())]
        (checkpoint,) = (state / "checkpoints").glob("*/" + LORA_WEIGHTS)
        weights[name] = load_file(checkpoint)
    assert losses["spread"] == pytest.approx(losses["alone"], rel=tolerance / 10)
    assert weights["spread"].keys() == weights["alone"].keys()
    for key, weight in weights["alone"].items():
        # In norm and not by element: where a gradient is next to nothing, AdamW makes a whole step of its rounding.
        assert (weights["spread"][key] - weight).norm() <= tolerance * weight.norm(), key
