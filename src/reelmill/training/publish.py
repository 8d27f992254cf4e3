"""The trained pipeline as it is handed on: a checkpoint with lineage and model card."""

import json
from pathlib import Path

from reelmill.config import Params
from reelmill.data.latents import LatentsInfo
from reelmill.models.comfyui import COMFYUI_WEIGHTS
from reelmill.models.families import FAMILIES
from reelmill.models.source import hub_id
from reelmill.sampling import call_arguments
from reelmill.storage import atomic_path, hash_path, hash_value, read_json, write_json, write_text
from reelmill.training.checkpoints import Checkpoints
from reelmill.workspace import LINEAGE


def publish(checkpoints: Checkpoints, output: Path, params: Params, info: LatentsInfo, num_clips: int) -> dict:
    """Write the pipeline directory, or the LoRA's, whole or absent; returns the checkpoint's figures."""
    family, base = FAMILIES[params.model.family], checkpoints.lora_of
    with atomic_path(output) as temporary:
        figures = checkpoints.copy(params.train.publish, temporary)
        weights = {
            str(file.relative_to(temporary)): hash_path(file) for file in sorted(temporary.rglob("*.safetensors"))
        }
        transformer = base.transformer_config if base else read_json(temporary / "transformer" / "config.json")
        guidance = family.guidance_arguments(transformer, params.sampling.guidance_scale)
        lineage = {
            "weights": weights,
            "settings_hash": hash_value(training_settings(params)),
            "manifest_hash": info.manifest_hash,
            "autoencoder_hash": info.autoencoder_hash,
            "training_clips": num_clips,
            "figures": figures,
            "family": params.model.family,
            "objective": params.train.objective,
            "shift": params.train.shift,
            "fps": params.sampling.fps,
            "sampling": call_arguments(params) | guidance,
        }
        write_json(temporary / LINEAGE, lineage)
        write_text(
            temporary / "README.md", _model_card(params, lineage, num_clips, type(checkpoints.scheduler).__name__)
        )
    return figures


def training_settings(params: Params) -> dict:
    """The settings that the published weights are made with: not over how many processes they and the batches were spread."""
    sections = params.model_dump(
        mode="json", include={"augment", "model", "train", "sampling"}, exclude={"train": {"num_processes", "sharding"}}
    )
    return {**sections, "data": params.data.clip_settings}


def _model_card(params: Params, lineage: dict, num_clips: int, scheduler: str) -> str:
    arguments = ", ".join(f"{key}={value!r}" for key, value in lineage["sampling"].items())
    prompt = params.train.preview_prompts[0] if params.train.preview_prompts else "a caption like those of the data"
    rows = "\n".join(f"| `{name}` | `{digest}` |" for name, digest in lineage["weights"].items())
    figures = "\n".join(f"| {key} | {value} |" for key, value in lineage["figures"].items())
    scope = "\nIt knows what its clips show and nothing else." if params.model.source is None else ""
    return f"""---
library_name: diffusers
pipeline_tag: text-to-video
license: other
license_name: {json.dumps(params.data.license)}
---
# A text-to-video model made by Reelmill

{_what_it_is(params)} ({params.train.objective}, {params.train.epochs} epochs) on {num_clips} clips of
{params.data.num_frames} frames, {params.data.width_px}x{params.data.height_px}, {params.data.fps:g} frames a second.{scope}

## Sampling
```python
import torch
from diffusers import DiffusionPipeline
from diffusers.utils import export_to_video

{_how_to_load(params, scheduler)}
frames = pipe({prompt!r}, generator=torch.Generator().manual_seed(0), {arguments}).frames[0]
export_to_video(frames, "video.mp4", fps={params.sampling.fps})
```

## Data
Autoencoder: {_origin(params.autoencoder_source) or "trained from scratch on these clips"}. Text encoder:
{_origin(params.text_source) or _new_text(params)}.
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


def _what_it_is(params: Params) -> str:
    lora, source = params.train.lora, params.model.source
    if params.train.mode == "lora":
        return f"LoRA (rank {lora.rank}, alpha {lora.alpha}) of {source}, trained"
    return "Transformer trained from scratch" if source is None else f"Transformer of {source}, fine-tuned whole"


def _how_to_load(params: Params, scheduler: str) -> str:
    """The lines of Python that load the pipeline."""
    if params.train.mode == "full":
        return 'pipe = DiffusionPipeline.from_pretrained("path/to/this/directory")'
    comfyui = f"# In ComfyUI: {COMFYUI_WEIGHTS}."
    if params.model.family == "cogvideox":
        comfyui = "# Not tried in ComfyUI: diffusers has no converter that would prove a file for it."
    assert params.model.source is not None  # a rule of the settings
    return f"""from diffusers import {scheduler}
pipe = DiffusionPipeline.from_pretrained({_in_python(params.model.source)})
pipe.load_lora_weights("path/to/this/directory")
pipe.scheduler = {scheduler}.from_pretrained("path/to/this/directory", subfolder="scheduler")
{comfyui}"""


def _in_python(source: str) -> str:
    """A source as vanilla diffusers is told of it."""
    name, revision = hub_id(source) or (source, None)
    return repr(name) if revision is None else f"{name!r}, revision={revision!r}"


def _origin(source: tuple[str, str | None] | None) -> str | None:
    return "/".join(filter(None, source)) if source else None


def _new_text(params: Params) -> str:
    return "trained from scratch with the transformer" if params.trains_text else "made at random, and not trained"
