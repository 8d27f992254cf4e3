import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from finetuning import MODEL_STAGES, SilentLog, Workspace
from safetensors.torch import load_file

from reelmill import tracking
from reelmill.errors import UserError
from reelmill.models.comfyui import COMFYUI_WEIGHTS
from reelmill.models.lora import LORA_WEIGHTS
from reelmill.models.source import weights_digest
from reelmill.storage import hash_path

PIPELINE = Path("models/pipeline")
RATE = {"train__learning_rate": 0.1}  # so that six steps are seen


@pytest.fixture(scope="module", params=["cogvideox", "wan", "hunyuan_video"])
def family(request):
    """Of the tiny pretrained pipeline."""
    return request.param


@pytest.fixture(scope="module")
def adapted(family, tmp_path_factory):
    """A workspace in which a LoRA of a tiny pipeline was trained and sampled."""
    with pytest.MonkeyPatch.context() as patch:
        workspace = Workspace(patch, tmp_path_factory.mktemp(family))
        workspace.use_pretrained(family, train__mode="lora", **RATE)
        workspace.run(*MODEL_STAGES)
        yield workspace


def vanilla_frames(pipeline) -> np.ndarray:
    """8-bit frames of a vanilla call with the prompt of stage generate and the arguments that were published."""
    (video,) = json.loads(Path("results/generate/videos.json").read_text())
    arguments = json.loads((PIPELINE / "reelmill.json").read_text())["sampling"]
    noise = torch.Generator().manual_seed(video["seed"])
    return np.rint(pipeline(video["prompt"], generator=noise, output_type="np", **arguments).frames[0] * 255).astype(
        int
    )


def our_frames() -> np.ndarray:
    """8-bit frames of the one video of stage generate."""
    (video,) = json.loads(Path("results/generate/videos.json").read_text())
    return load_file(f"results/generate/frames/{video['name']}.safetensors")["frames"].numpy().astype(int)


def test_lora_gives_in_vanilla_diffusers_what_the_stages_give(adapted):
    pipeline = DiffusionPipeline.from_pretrained("base")
    before = vanilla_frames(pipeline)
    pipeline.load_lora_weights(PIPELINE)
    after = vanilla_frames(pipeline)
    assert abs(after - our_frames()).max() <= 1
    assert abs(after - before).mean() > 1


def test_lora_in_comfyuis_format_gives_the_same_frames(adapted, family):
    if family != "wan":  # HunyuanVideo's converter knows one width alone: see models/test_comfyui.py
        assert (PIPELINE / COMFYUI_WEIGHTS).exists() == (family == "hunyuan_video")
        return
    pipeline = DiffusionPipeline.from_pretrained("base")
    pipeline.load_lora_weights(PIPELINE, weight_name=COMFYUI_WEIGHTS)
    assert abs(vanilla_frames(pipeline) - our_frames()).max() <= 1


@pytest.mark.parametrize("family", ["hunyuan_video"], indirect=True)
def test_lora_is_published_without_its_base(adapted):
    files = {str(path.relative_to(PIPELINE)) for path in PIPELINE.rglob("*") if path.is_file()}
    files.discard(COMFYUI_WEIGHTS)
    assert files == {LORA_WEIGHTS, "base.json", "reelmill.json", "README.md", "scheduler/scheduler_config.json"}
    assert json.loads((PIPELINE / "base.json").read_text())["source"] == "base"


class KilledLog(SilentLog):
    """Ends the training after its fourth step, as a kill would."""

    def metrics(self, step, values):
        if step == 4:
            raise KeyboardInterrupt


@pytest.mark.parametrize("family", ["hunyuan_video"], indirect=True)
def test_killed_lora_training_ends_with_the_same_bytes(adapted, monkeypatch, capsys):
    before = hash_path(PIPELINE)
    monkeypatch.setattr(tracking, "TrainingLog", KilledLog)
    with pytest.raises(KeyboardInterrupt):
        adapted.run("train")
    (state,) = Path(".reelmill/state/train").glob("*/state/step-*/state.safetensors")
    assert all(".lora_" in name for name in load_file(state))
    monkeypatch.setattr(tracking, "TrainingLog", SilentLog)
    adapted.run("train")
    assert "going on after step 3 of 6" in capsys.readouterr().out
    assert hash_path(PIPELINE) == before


@pytest.mark.parametrize("family", ["hunyuan_video"], indirect=True)
def test_lora_of_other_weights_is_refused(adapted):
    (weights,) = Path("base/transformer").glob("*.safetensors")
    kept = weights.read_bytes()
    weights.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    with pytest.raises(UserError, match="whose transformer has other weights now"):
        adapted.run("generate")
    weights.write_bytes(kept)


def test_full_fine_tuning_saves_what_vanilla_diffusers_loads(adapted):
    adapted.set({"train.mode": "full", "train.learning_rate": 0.001})
    adapted.run("train", "generate")
    pipeline = DiffusionPipeline.from_pretrained(PIPELINE)
    assert abs(vanilla_frames(pipeline) - our_frames()).max() <= 1
    (base,), (tuned,) = (Path(root, "transformer").glob("*.safetensors") for root in ("base", PIPELINE))
    assert base.read_bytes() != tuned.read_bytes()
    for part in {"vae", "text_encoder", "text_encoder_2"} & {path.name for path in Path("base").iterdir()}:
        assert weights_digest(Path("base", part)) == weights_digest(PIPELINE / part)


@pytest.mark.parametrize("scratch", ["wan", "hunyuan_video"])
def test_new_model_of_a_family_trains_and_gives_its_frames_in_vanilla_diffusers(scratch, tmp_path, monkeypatch):
    workspace = Workspace(monkeypatch, tmp_path)
    sampler = "euler" if scratch == "hunyuan_video" else "unipc"
    objective = "flow" if scratch == "hunyuan_video" else "flow_clean"
    settings = {"model.family": scratch, "model.patch_size_t": 1, "train.objective": objective}
    workspace.set({**settings, "sampling.scheduler": sampler, "encode.vocabulary_size": 1200})
    workspace.run(*MODEL_STAGES)
    assert abs(vanilla_frames(DiffusionPipeline.from_pretrained(PIPELINE)) - our_frames()).max() <= 1
