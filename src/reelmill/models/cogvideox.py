"""The CogVideoX family (Yang et al. 2024) through diffusers' own classes."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXPipeline, CogVideoXTransformer3DModel
from diffusers.models.embeddings import get_3d_rotary_pos_embed
from diffusers.pipelines.cogvideo.pipeline_cogvideox import get_resize_crop_region_for_grid
from jaxtyping import Float
from torch import Tensor
from transformers import T5EncoderModel

from reelmill.compute import seed_all
from reelmill.config import Autoencoder, Model, TextEncoder
from reelmill.models import autoencoder as cogvideox_autoencoder
from reelmill.models.family import Family, Text, TextParts
from reelmill.models.text import fit_tokenizer, token_ids

NEARBY_FREQUENCIES = 2  # a rotary axis: in a head of 64, one patch away weighs half as much, two a tenth
NEARBY_CONTENT = 0.3  # of a new layer's weights


class CogVideoX(Family):
    """2B, 5B and 1.5: v-prediction as published, flow as well from scratch; T5 embeddings without a mask."""

    name = "cogvideox"
    pipeline_class = CogVideoXPipeline
    transformer_class = CogVideoXTransformer3DModel
    autoencoder_class = AutoencoderKLCogVideoX
    encoder_classes = {"text_encoder": T5EncoderModel}  # noqa: RUF012
    blocks = ("transformer_blocks",)
    lora_targets = ("to_q", "to_k", "to_v", "to_out.0")
    side_multiple_px = 8
    pads_frames = True

    def build_transformer(
        self,
        settings: Model,
        latent_shape: tuple[int, int, int, int],
        num_frames: int,
        temporal_compression: int,
        empty_text: Text,
        seed: int,
    ) -> CogVideoXTransformer3DModel:
        """See `build_transformer`. Token ids stand for embeddings of the width that the settings give."""
        text = empty_text["text"]
        width = text.shape[-1] if text.is_floating_point() else settings.text_encoder.width
        return build_transformer(settings, latent_shape, num_frames, temporal_compression, width, seed)

    def build_autoencoder(self, settings: Autoencoder, height_px: int, width_px: int) -> AutoencoderKLCogVideoX:
        """See `autoencoder.build`."""
        return cogvideox_autoencoder.build(settings, height_px, width_px)

    def build_text(self, settings: TextEncoder, captions: Sequence[str], vocabulary_size: int) -> TextParts:
        """A tokenizer alone: the encoder is trained along with the transformer (`text.build_text_encoder`)."""
        return {"tokenizer": fit_tokenizer(captions, vocabulary_size)}

    def encode_text(self, parts: TextParts, captions: list[str], max_tokens: int) -> Text:
        """``text``: embeddings [b l d], padding unmasked; token ids [b l] where there is no encoder yet."""
        if "text_encoder" not in parts:
            return {"text": token_ids(parts["tokenizer"], captions, max_tokens).to(torch.int32)}
        return super().encode_text(parts, captions, max_tokens)

    def call_defaults(self, pipeline: Any) -> tuple[dict[str, Any], int]:
        """The shape that the transformer was made for."""
        config = pipeline.transformer.config
        arguments = {
            "num_frames": config.sample_frames,
            "height": config.sample_height * pipeline.vae_scale_factor_spatial,
            "width": config.sample_width * pipeline.vae_scale_factor_spatial,
            "num_inference_steps": 50,
            "guidance_scale": 6.0,
            "max_sequence_length": config.max_text_seq_length,
        }
        return arguments, 8

    def predict(
        self,
        transformer: Any,
        noisy: Float[Tensor, "b t c h w"],
        timestep: Float[Tensor, " b"],
        text: Text,
        stride: int = 1,
    ) -> Float[Tensor, "b t c h w"]:
        """The velocity, or the clean latents with objective flow_clean."""
        rotary = (
            rotary_embedding(transformer, noisy, stride)
            if transformer.config.use_rotary_positional_embeddings
            else None
        )
        return transformer(
            hidden_states=noisy,
            encoder_hidden_states=text["text"].to(noisy.dtype),
            timestep=timestep,
            image_rotary_emb=rotary,
            return_dict=False,
        )[0]

    def compression(self, autoencoder: Any) -> tuple[int, int]:
        """Every block but the last halves height and width."""
        config = autoencoder.config
        return int(config.temporal_compression_ratio), 2 ** (len(config.block_out_channels) - 1)

    def patch_sizes(self, config: Mapping[str, Any]) -> tuple[int, int]:
        """1.5 has patches of two latent frames."""
        return int(config.get("patch_size_t") or 1), int(config["patch_size"])

    def max_tokens(self, config: Mapping[str, Any], asked: int) -> int:
        """Padding is not masked, and 2B has positions for one length alone."""
        return int(config["max_text_seq_length"])

    def round_trip_frames(self, num_frames: int, temporal: int) -> int:
        """See `round_trip_frames`."""
        return round_trip_frames(num_frames, temporal)

    def frames_rule(self, temporal: int) -> str:
        """In words."""
        return "1, 8k and 8k+1"

    def fold_normalisation(self, autoencoder: Any, mean: Float[Tensor, " c"], std: Float[Tensor, " c"]) -> None:
        """See `autoencoder.fold_normalisation`."""
        cogvideox_autoencoder.fold_normalisation(autoencoder, mean, std)


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
    Xie 2023, sec. 3.2): every block is the identity at first. Half of the heads start by looking
    nearby (`look_nearby`).
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
        patch_size_t=None if settings.patch_size_t == 1 else settings.patch_size_t,
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
    look_nearby(model)
    return model


@torch.no_grad()
def look_nearby(model: CogVideoXTransformer3DModel) -> None:
    """Make half of each block's heads attend to neighbouring patches at first, as a convolution does.

    A new transformer must learn that neighbours matter, which takes much of a short training (Zheng et
    al. 2024, "Structured Initialization for Attention in Vision Transformers"). Queries and keys of
    these heads start nearly alike everywhere: a bias on the fastest rotary frequencies of each axis,
    so that what tells two apart is their rotation, and that grows with their distance.
    """
    size, heads = model.config.attention_head_dim, model.config.num_attention_heads // 2
    time, space = size // 4, size // 8 * 3  # as `get_3d_rotary_pos_embed` divides a head
    bias = torch.zeros(size)
    for start in (0, time, time + space):
        bias[start : start + 2 * NEARBY_FREQUENCIES] = torch.tensor([1.0, -1.0] * NEARBY_FREQUENCIES)  # mean 0
    for block in model.transformer_blocks:
        for linear in (block.attn1.to_q, block.attn1.to_k):
            linear.weight[: heads * size] *= NEARBY_CONTENT
            linear.bias[: heads * size] = bias.repeat(heads)


def rotary_embedding(
    model: CogVideoXTransformer3DModel, latents: Float[Tensor, "b t c h w"], stride: int = 1
) -> tuple[Tensor, Tensor]:
    """Cosines and sines [n, head_dim] of the positions of the latents' patches, as the pipeline makes them.

    1.0 stretches the positions of other sizes to those it was made for; 1.5 counts on, in space and time,
    and here in steps of ``stride`` in space.
    """
    config = model.config
    patch, patch_t = config.patch_size, config.patch_size_t
    grid = (latents.shape[3] // patch, latents.shape[4] // patch)
    base = (config.sample_height // patch, config.sample_width // patch)
    if patch_t is None:
        crops = get_resize_crop_region_for_grid(grid, base[1], base[0])
        return get_3d_rotary_pos_embed(config.attention_head_dim, crops, grid, latents.shape[1], device=latents.device)
    frames, reach = latents.shape[1] // patch_t, (grid[0] * stride, grid[1] * stride)
    cos, sin = get_3d_rotary_pos_embed(
        config.attention_head_dim, None, reach, frames, grid_type="slice", max_size=reach, device=latents.device
    )
    return _every(cos, frames, reach, stride), _every(sin, frames, reach, stride)


def _every(table: Float[Tensor, "n d"], frames: int, grid: tuple[int, int], stride: int) -> Float[Tensor, "m d"]:
    """The rows of every ``stride``-th place of a grid in height and width."""
    return table.view(frames, *grid, -1)[:, ::stride, ::stride].flatten(0, 2)


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
