import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from finetuning import MODEL_STAGES, Workspace
from safetensors.torch import load_file

FAMILIES = ["cogvideox", "wan", "hunyuan_video"]


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    return Workspace(monkeypatch, tmp_path)


def vanilla_frames(pipeline, prompt: str, **guidance) -> np.ndarray:
    """8-bit frames of a vanilla call with the arguments that were published."""
    arguments = json.loads(Path("models/pipeline/reelmill.json").read_text())["sampling"] | guidance
    frames = pipeline(prompt, generator=torch.Generator().manual_seed(0), output_type="np", **arguments).frames[0]
    return np.rint(frames * 255).astype(int)


def our_frames() -> tuple[str, np.ndarray]:
    """The prompt and the 8-bit frames of the one video of stage generate."""
    (video,) = json.loads(Path("results/generate/videos.json").read_text())
    return video["prompt"], load_file(f"results/generate/frames/{video['name']}.safetensors")["frames"].numpy().astype(
        int
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_lora_gives_in_vanilla_diffusers_what_the_stages_give(workspace, family):
    workspace.use_pretrained(family, train__mode="lora", train__learning_rate=0.05)
    workspace.run(*MODEL_STAGES)
    prompt, ours = our_frames()
    pipeline = DiffusionPipeline.from_pretrained("base")
    before = vanilla_frames(pipeline, prompt)
    pipeline.load_lora_weights("models/pipeline")
    after = vanilla_frames(pipeline, prompt)
    assert abs(after - ours).max() <= 1
    assert abs(after - before).mean() > 1
