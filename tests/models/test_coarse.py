"""Transformers made from scratch take latents at half their height and width too (`train.coarse_share`)."""

import pytest
import torch
from benchmarks.workspace import ROOT

from reelmill import diffusion
from reelmill.config import load_params
from reelmill.models.families import FAMILIES


@pytest.mark.parametrize("name", ["wan", "hunyuan_video"])  # cogvideox: training/test_knobs.py trains on them
def test_new_transformer_predicts_pooled_latents(name):
    family = FAMILIES[name]
    model = load_params(ROOT / "presets/default.yaml").model.model_copy(update={"family": name, "patch_size_t": 1})
    text = family.encode_text(family.build_text(model.text_encoder, ["a red square moving left"], 1024), ["a"] * 2, 32)
    transformer = family.build_transformer(model, (5, 8, 16, 16), 17, 4, text, 0)
    noisy = diffusion.pool(torch.randn(2, 5, 8, 16, 16))
    assert family.predict(transformer, noisy, torch.tensor([500.0, 100.0]), text).shape == (2, 5, 8, 8, 8)
