"""The CogVideoX family (Yang et al. 2024) through diffusers' own classes."""

from pathlib import Path

import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXPipeline, CogVideoXTransformer3DModel, SchedulerMixin
from diffusers.models.embeddings import get_3d_rotary_pos_embed
from diffusers.pipelines.cogvideo.pipeline_cogvideox import get_resize_crop_region_for_grid
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedTokenizerBase, T5EncoderModel

from reelmill.compute import seed_all
from reelmill.config import Model
from reelmill.errors import UserError

SIDE_MULTIPLE_PX = 8  # CogVideoXPipeline refuses other sizes, whatever the compression


def build_transformer(
    settings: Model,
    latent_shape: tuple[int, int, int, int],
    num_frames: int,
    temporal_compression: int,
    text_width: int,
    seed: int,
) -> CogVideoXTransformer3DModel:
    """A new transformer for latents of ``latent_shape`` (t, c, h, w), a function of ``seed``.

    Its last projection starts at zero, and so does each block's modulation (adaLN-Zero, Peebles &
    Xie 2023, sec. 3.2): every block is the identity at first.
    """
    _, channels, height, width = latent_shape
    seed_all(seed, "transformer")
    model = CogVideoXTransformer3DModel(
        num_attention_heads=settings.num_attention_heads,
        attention_head_dim=settings.attention_head_dim,
        in_channels=channels,
        out_channels=channels,
        time_embed_dim=settings.time_embed_dim,
        text_embed_dim=text_width,
        num_layers=settings.num_layers,
        sample_width=width,
        sample_height=height,
        sample_frames=num_frames,
        patch_size=settings.patch_size,
        temporal_compression_ratio=temporal_compression,
        max_text_seq_length=settings.text_encoder.max_tokens,
        use_rotary_positional_embeddings=True,
    )
    for block in model.transformer_blocks:
        for norm in (block.norm1, block.norm2):
            torch.nn.init.zeros_(norm.linear.weight)
            torch.nn.init.zeros_(norm.linear.bias)
    torch.nn.init.zeros_(model.proj_out.weight)
    torch.nn.init.zeros_(model.proj_out.bias)
    return model


def rotary_embedding(model: CogVideoXTransformer3DModel, latents: Float[Tensor, "b t c h w"]) -> tuple[Tensor, Tensor]:
    """Cosines and sines [n, head_dim] of the positions of the latents' patches, as the pipeline makes them."""
    config = model.config
    patch = config.patch_size
    grid = (latents.shape[3] // patch, latents.shape[4] // patch)
    crops = get_resize_crop_region_for_grid(grid, config.sample_width // patch, config.sample_height // patch)
    return get_3d_rotary_pos_embed(
        embed_dim=config.attention_head_dim,
        crops_coords=crops,
        grid_size=grid,
        temporal_size=latents.shape[1],
        device=latents.device,
    )


def assemble(
    tokenizer: PreTrainedTokenizerBase,
    text_encoder: T5EncoderModel,
    autoencoder: AutoencoderKLCogVideoX,
    transformer: CogVideoXTransformer3DModel,
    scheduler: SchedulerMixin,
) -> CogVideoXPipeline:
    """The parts as the family's vanilla pipeline."""
    pipeline = CogVideoXPipeline(
        tokenizer=tokenizer, text_encoder=text_encoder, vae=autoencoder, transformer=transformer, scheduler=scheduler
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def load_pipeline(path: Path, device: torch.device | str = "cpu") -> CogVideoXPipeline:
    """A saved pipeline's directory.

    Raises:
        UserError: when it is missing, not whole, or of another family.
    """
    index = path / "model_index.json"
    if not index.is_file():
        raise UserError(
            f"{path}: no model_index.json in it, so it is no diffusers pipeline. Run `dvc repro train`, or name a pipeline's directory."
        )
    try:
        pipeline = CogVideoXPipeline.from_pretrained(str(path), use_safetensors=True)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}: not loaded as a CogVideoXPipeline: {error}\nRestore it with `dvc checkout {path}` or train it again with `dvc repro -f train`."
        ) from None
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def check_video_shape(num_frames: int, height_px: int, width_px: int, temporal: int, spatial: int, patch: int) -> None:
    """Raise `UserError`, with the rule and the nearest valid values, for a shape that the model cannot take."""
    valid = [frames for frames in range(1, max(num_frames, 1) + 17) if round_trip_frames(frames, temporal) == frames]
    if num_frames not in valid:
        below, above = [f for f in valid if f < num_frames], [f for f in valid if f > num_frames]
        near = " or ".join(map(str, below[-1:] + above[:1]))
        raise UserError(
            f"num_frames: {num_frames}: the autoencoder gives back 1, 8k and 8k+1 frames unchanged (temporal compression {temporal}) and no others; nearest: {near}."
        )
    multiple = max(SIDE_MULTIPLE_PX, spatial * patch)
    for name, side in (("height_px", height_px), ("width_px", width_px)):
        if side % multiple or side <= 0:
            low = max(multiple, side // multiple * multiple)
            raise UserError(
                f"{name}: {side}: must be a multiple of {multiple} (spatial compression {spatial} x patch {patch}, and 8 for the pipeline); nearest: {low} or {low + multiple}."
            )


def round_trip_frames(num_frames: int, temporal: int) -> int:
    """How many frames come back when ``num_frames`` are encoded and decoded.

    The autoencoder works on chunks of 8 frames, the first of which takes the remainder along;
    within a chunk with an odd number of frames the first one is not compressed. Halving drops an
    odd rest, so other counts come back shorter. Compression 1 gives back 8k + r for any r if there
    is at least one chunk.
    """
    chunks = max(num_frames // 8, 1)
    rest = num_frames % 8
    sizes = [(8 if num_frames >= 8 else 0) + rest] + [8] * (chunks - 1)
    latents = sum(_compressed(size, temporal) for size in sizes)
    return sum(_expanded(size, temporal) for size in _latent_chunks(latents))


def _compressed(frames: int, temporal: int) -> int:
    while temporal > 1:
        frames = 1 + (frames - 1) // 2 if frames % 2 else frames // 2
        temporal //= 2
    return frames


def _latent_chunks(latents: int) -> list[int]:
    chunks = max(latents // 2, 1)
    return [(2 if latents >= 2 else 0) + latents % 2] + [2] * (chunks - 1)


def _expanded(latents: int, temporal: int) -> int:
    while temporal > 1:
        latents = 1 + 2 * (latents - 1) if latents % 2 else 2 * latents
        temporal //= 2
    return latents
