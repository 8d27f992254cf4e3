"""The trained pipeline as it is handed on: a checkpoint with lineage and model card."""

import json
from pathlib import Path

from reelmill.config import Params
from reelmill.data.latents import LatentsInfo
from reelmill.sampling import call_arguments
from reelmill.storage import atomic_path, hash_path, hash_value, write_json, write_text
from reelmill.training.checkpoints import Checkpoints

LINEAGE = "reelmill.json"


def publish(checkpoints: Checkpoints, output: Path, params: Params, info: LatentsInfo, num_clips: int) -> dict:
    """Write the pipeline directory, whole or absent; returns the checkpoint's figures."""
    with atomic_path(output) as temporary:
        figures = checkpoints.copy(params.train.publish, temporary)
        weights = {
            str(file.relative_to(temporary)): hash_path(file) for file in sorted(temporary.rglob("*.safetensors"))
        }
        lineage = {
            "weights": weights,
            "settings_hash": hash_value(training_settings(params)),
            "manifest_hash": info.manifest_hash,
            "autoencoder_hash": info.autoencoder_hash,
            "training_clips": num_clips,
            "figures": figures,
            "objective": params.train.objective,
            "fps": params.sampling.fps,
            "sampling": call_arguments(params),
        }
        write_json(temporary / LINEAGE, lineage)
        write_text(temporary / "README.md", _model_card(params, lineage, num_clips))
    return figures


def training_settings(params: Params) -> dict:
    """The settings that the published weights are made with: not over how many processes the batches were spread."""
    sections = params.model_dump(
        mode="json", include={"model", "train", "sampling"}, exclude={"train": {"num_processes"}}
    )
    return {**sections, "data": params.data.clip_settings}


def _model_card(params: Params, lineage: dict, num_clips: int) -> str:
    arguments = ", ".join(f"{key}={value}" for key, value in lineage["sampling"].items())
    prompt = params.train.preview_prompts[0] if params.train.preview_prompts else "a caption like those of the data"
    rows = "\n".join(f"| `{name}` | `{digest}` |" for name, digest in lineage["weights"].items())
    figures = "\n".join(f"| {key} | {value} |" for key, value in lineage["figures"].items())
    return f"""---
library_name: diffusers
pipeline_tag: text-to-video
license: other
license_name: {json.dumps(params.data.license)}
---
# A text-to-video model made by Reelmill

Transformer trained from scratch ({params.train.objective}, {params.train.epochs} epochs) on {num_clips} clips of
{params.data.num_frames} frames, {params.data.width_px}x{params.data.height_px}, {params.data.fps:g} frames a second.
It knows what its clips show and nothing else.

## Sampling
```python
import torch
from diffusers import DiffusionPipeline
from diffusers.utils import export_to_video

pipe = DiffusionPipeline.from_pretrained("path/to/this/directory")
frames = pipe({prompt!r}, generator=torch.Generator().manual_seed(0), {arguments}).frames[0]
export_to_video(frames, "video.mp4", fps={params.sampling.fps})
```

## Data
Autoencoder: {params.autoencoder.source or "trained from scratch on these clips"}. Text encoder:
{params.model.text_encoder.source or "trained from scratch with the transformer"}.
Clips: {params.data.source}. Licence of the data, as stated by the user: {params.data.license}.

## Lineage
| what | SHA-256 |
|---|---|
| manifest of the clips | `{lineage["manifest_hash"]}` |
| autoencoder | `{lineage["autoencoder_hash"]}` |
| settings | `{lineage["settings_hash"]}` |
{rows}

## Validation at the chosen checkpoint
| figure | value |
|---|---|
{figures}
"""
