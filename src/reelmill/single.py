"""One video from a prompt, for the command line."""

from pathlib import Path

from diffusers import CogVideoXPipeline

from reelmill import diffusion
from reelmill.compute import choose_device
from reelmill.config import Params, load_params
from reelmill.data.video import write_video
from reelmill.errors import UserError
from reelmill.models import autoencoder
from reelmill.models.cogvideox import assemble, build_transformer, load_pipeline
from reelmill.models.text import build_text_encoder, fit_tokenizer
from reelmill.sampling import Request, call_arguments, sample
from reelmill.storage import read_json
from reelmill.training.publish import LINEAGE

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
    path = checkpoint or (TRAINED if (TRAINED / "model_index.json").is_file() else None)
    if path is None:
        params = load_params()
        pipeline = random_pipeline(params, prompt)
        published: dict = {"sampling": call_arguments(params), "fps": params.sampling.fps}
    else:
        pipeline = load_pipeline(path)
        published = read_json(path / LINEAGE) if (path / LINEAGE).is_file() else _own_defaults(pipeline)
    given: dict[str, float | None] = {"num_frames": num_frames, "height": resolution, "width": resolution}
    given |= {"num_inference_steps": steps, "guidance_scale": guidance_scale}
    arguments = {**published["sampling"], **{key: value for key, value in given.items() if value is not None}}
    request = Request.of(arguments, "auto")
    pipeline.set_progress_bar_config(disable=False, desc="sample", unit="step")
    frames = next(sample(pipeline.to(choose_device("auto")), [prompt], [seed], request, 1))
    write_video(output, frames, published["fps"] if fps is None else fps)
    return f"{'' if path else UNTRAINED}{output}: {len(frames)} frames, {request.width_px}x{request.height_px}, seed {seed}, from {path or 'a random model'}"


def random_pipeline(params: Params, prompt: str) -> CogVideoXPipeline:
    """An untrained pipeline of the settings' shapes."""
    data, settings = params.data, params.autoencoder
    tokenizer = fit_tokenizer([prompt], params.encode.vocabulary_size)
    text = build_text_encoder(params.model.text_encoder, params.encode.vocabulary_size, params.train.seed)
    model = autoencoder.build(settings, data.height_px, data.width_px)
    temporal = settings.temporal_compression
    shape = autoencoder.latent_shape(model, data.num_frames, data.height_px, data.width_px)
    transformer = build_transformer(
        params.model, shape, data.num_frames, temporal, text.config.d_model, params.train.seed
    )
    return assemble(
        tokenizer, text, model, transformer, diffusion.scheduler(params.train.objective, params.sampling.scheduler)
    )


def _own_defaults(pipeline: CogVideoXPipeline) -> dict:
    """What a pipeline made elsewhere is called with when nothing is said."""
    config = pipeline.transformer.config
    arguments = {
        "num_frames": config.sample_frames,
        "height": config.sample_height * pipeline.vae_scale_factor_spatial,
        "width": config.sample_width * pipeline.vae_scale_factor_spatial,
        "num_inference_steps": 50,
        "guidance_scale": 6.0,
        "max_sequence_length": config.max_text_seq_length,
    }
    return {"sampling": arguments, "fps": 8}
