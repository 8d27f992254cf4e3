"""One video from a prompt, for the command line."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from diffusers import DiffusionPipeline

from reelmill.compute import choose_device
from reelmill.config import Params, load_params
from reelmill.data.video import write_video
from reelmill.errors import UserError
from reelmill.models.families import FAMILIES, family_of
from reelmill.models.pretrained import is_pipeline, load_pipeline
from reelmill.models.text import build_text_encoder
from reelmill.sampling import Request, call_arguments, sample
from reelmill.storage import read_json
from reelmill.training.base import publish_scheduler
from reelmill.workspace import LINEAGE

TRAINED = Path("models/pipeline")
UNTRAINED = "UNTRAINED: there is no models/pipeline, so these are the patterns of a random model. Train one with `make repro`, or name one with --checkpoint.\n"


def generate_one(
    prompt: str,
    output: Path,
    checkpoint: Path | None,
    num_frames: int | None,
    resolution: int | None,
    steps: int | None,
    guidance_scale: float | None,
    seed: int,
    fps: int | None,
) -> str:
    """Write one video; returns what to tell. What is None is as the pipeline was trained.

    Raises:
        UserError: for a shape, a length or a checkpoint that the model cannot take.
    """
    if not prompt.strip():
        raise UserError("--prompt: is empty: say what the video shows")
    if output.suffix.lower() != ".mp4":
        raise UserError(f"--output {output}: must end in .mp4")
    path = checkpoint or (TRAINED if is_pipeline(TRAINED) else None)
    if path is None:
        params = load_params()
        pipeline = random_pipeline(params, prompt)
        published: dict = {"sampling": call_arguments(params), "fps": params.sampling.fps}
    else:
        pipeline = load_pipeline(path, choose_device("auto"))
        published = read_json(path / LINEAGE) if (path / LINEAGE).is_file() else _own_defaults(pipeline)
    given: dict[str, Any] = {"num_frames": num_frames, "height_px": resolution, "width_px": resolution}
    given |= {"num_inference_steps": steps, "guidance_scale": guidance_scale}
    request = Request.of(published["sampling"], "auto")
    request = replace(request, **{key: value for key, value in given.items() if value is not None})
    pipeline.set_progress_bar_config(disable=False, desc="sample", unit="step")
    frames = next(sample(pipeline.to(choose_device("auto")), [prompt], [seed], request, 1))
    write_video(output, frames, published["fps"] if fps is None else fps)
    return f"{'' if path else UNTRAINED}{output}: {len(frames)} frames, {request.width_px}x{request.height_px}, seed {seed}, from {path or 'a random model'}"


def random_pipeline(params: Params, prompt: str) -> DiffusionPipeline:
    """An untrained pipeline of the settings' shapes."""
    family, data, seed = FAMILIES[params.model.family], params.data, params.train.seed
    if params.model.source is not None:
        raise UserError(
            f"{TRAINED}: not there yet. Train it with `make repro`, or name the pretrained pipeline with --checkpoint {params.model.source}."
        )
    settings, vocabulary_size = params.model.text_encoder, params.encode.vocabulary_size
    text = family.build_text(settings, [prompt], vocabulary_size)
    if params.trains_text:
        text["text_encoder"] = build_text_encoder(settings, vocabulary_size, seed)
    empty = family.encode_text(text, [""], settings.max_tokens)
    autoencoder = family.build_autoencoder(params.autoencoder, data.height_px, data.width_px)
    shape = family.latent_shape(autoencoder, data.num_frames, data.height_px, data.width_px)
    compression, _ = family.compression(autoencoder)
    transformer = family.build_transformer(params.model, shape, data.num_frames, compression, empty, seed)
    return family.assemble(text, autoencoder, transformer, publish_scheduler(params, None))


def _own_defaults(pipeline: DiffusionPipeline) -> dict:
    """What a pipeline made elsewhere is called with when nothing is said."""
    arguments, fps = family_of(pipeline).call_defaults(pipeline)
    return {"sampling": arguments, "fps": fps}
