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
from reelmill.sampling import Request, sample
from reelmill.storage import read_json
from reelmill.training.publish import LINEAGE, sampling_settings

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
    fps: int,
) -> str:
    """Write one video; returns what to tell. What is None is as the pipeline was trained.

    Raises:
        UserError: for a shape, a length or a checkpoint that the model cannot take.
    """
    path = checkpoint or (TRAINED if (TRAINED / "model_index.json").is_file() else None)
    if path is None:
        params = load_params()
        pipeline, defaults = random_pipeline(params, prompt), sampling_settings(params)
    else:
        pipeline = load_pipeline(path)
        defaults = read_json(path / LINEAGE)["sampling"] if (path / LINEAGE).is_file() else _own_defaults(pipeline)
    if output.suffix.lower() != ".mp4":
        raise UserError(f"--output {output}: must end in .mp4")
    request = Request(
        num_frames=num_frames or defaults["num_frames"],
        height_px=resolution or defaults["height"],
        width_px=resolution or defaults["width"],
        num_inference_steps=steps or defaults["num_inference_steps"],
        guidance_scale=guidance_scale or defaults["guidance_scale"],
        short_tokens=defaults["max_sequence_length"],
        precision="auto",
    )
    frames = next(sample(pipeline.to(choose_device("auto")), [prompt], [seed], request, 1))
    write_video(output, frames, fps)
    return f"{'' if path else UNTRAINED}{output}: {len(frames)} frames, {request.width_px}x{request.height_px}, seed {seed}, from {path or 'a random model'}"


def random_pipeline(params: Params, prompt: str) -> CogVideoXPipeline:
    """An untrained pipeline of the settings' shapes."""
    data, settings = params.data, params.autoencoder
    tokenizer = fit_tokenizer([prompt], params.encode.vocabulary_size)
    text = build_text_encoder(params.model.text_encoder, params.encode.vocabulary_size, params.train.seed)
    model = autoencoder.build(settings, data.height_px, data.width_px)
    spatial, temporal = settings.spatial_compression, settings.temporal_compression
    shape = (
        (data.num_frames - 1) // temporal + 1,
        settings.latent_channels,
        data.height_px // spatial,
        data.width_px // spatial,
    )
    transformer = build_transformer(
        params.model, shape, data.num_frames, temporal, text.config.d_model, params.train.seed
    )
    return assemble(tokenizer, text, model, transformer, diffusion.scheduler(params.train.objective, params.sampling))


def _own_defaults(pipeline: CogVideoXPipeline) -> dict:
    """What a pipeline made elsewhere is called with when nothing is said."""
    config = pipeline.transformer.config
    return {
        "num_frames": config.sample_frames,
        "height": config.sample_height * pipeline.vae_scale_factor_spatial,
        "width": config.sample_width * pipeline.vae_scale_factor_spatial,
        "num_inference_steps": 50,
        "guidance_scale": 6.0,
        "max_sequence_length": config.max_text_seq_length,
    }
