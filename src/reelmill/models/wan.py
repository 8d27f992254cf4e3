"""The Wan family (Wan Team 2025): 2.1, and 2.2 with one transformer, through diffusers' own classes."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanPipeline, WanTransformer3DModel
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from transformers import UMT5Config, UMT5EncoderModel

from reelmill.compute import seed_all
from reelmill.config import Autoencoder, Model, TextEncoder
from reelmill.models.family import Family, Text, TextParts
from reelmill.models.text import fit_tokenizer, quieten_branches, t5_sizes


class Wan(Family):
    """Rectified flow; UMT5 embeddings, zero beyond the caption; latents normalised per channel."""

    name = "wan"
    pipeline_class = WanPipeline
    transformer_class = WanTransformer3DModel
    autoencoder_class = AutoencoderKLWan
    encoder_classes = {"text_encoder": UMT5EncoderModel}  # noqa: RUF012
    blocks = ("blocks",)
    lora_targets = ("to_q", "to_k", "to_v", "to_out.0")
    side_multiple_px = 16
    normalises_channels = True

    def build_transformer(
        self,
        settings: Model,
        latent_shape: tuple[int, int, int, int],
        num_frames: int,
        temporal_compression: int,
        empty_text: Text,
        seed: int,
    ) -> WanTransformer3DModel:
        """A new transformer whose last projection starts at zero; its feed-forward layers are four times its width."""
        seed_all(seed, "transformer")
        channels, width = latent_shape[1], settings.num_attention_heads * settings.attention_head_dim
        model = WanTransformer3DModel(
            patch_size=(settings.patch_size_t, settings.patch_size, settings.patch_size),
            num_attention_heads=settings.num_attention_heads,
            attention_head_dim=settings.attention_head_dim,
            in_channels=channels,
            out_channels=channels,
            text_dim=empty_text["text"].shape[-1],
            freq_dim=settings.time_embed_dim,
            ffn_dim=4 * width,
            num_layers=settings.num_layers,
        )
        torch.nn.init.zeros_(model.proj_out.weight)
        torch.nn.init.zeros_(model.proj_out.bias)
        return model

    def build_autoencoder(self, settings: Autoencoder, height_px: int, width_px: int) -> AutoencoderKLWan:
        """A new autoencoder. It halves time in its last blocks, as the published ones do."""
        seed_all(settings.seed, "autoencoder")
        base, *_ = channels = settings.block_out_channels
        halvings, blocks = int(math.log2(settings.temporal_compression)), len(channels) - 1
        return AutoencoderKLWan(
            base_dim=base,
            z_dim=settings.latent_channels,
            dim_mult=[width // base for width in channels],
            num_res_blocks=settings.layers_per_block,
            temperal_downsample=[block >= blocks - halvings for block in range(blocks)],
            latents_mean=[0.0] * settings.latent_channels,
            latents_std=[1.0] * settings.latent_channels,
            scale_factor_temporal=settings.temporal_compression,
            scale_factor_spatial=settings.spatial_compression,
        )

    def build_text(self, settings: TextEncoder, captions: Sequence[str], vocabulary_size: int) -> TextParts:
        """A UMT5 whose residual branches are small."""
        tokenizer = fit_tokenizer(captions, vocabulary_size)
        seed_all("frozen text encoder")
        encoder = UMT5EncoderModel(UMT5Config(**t5_sizes(settings, len(tokenizer))))
        quieten_branches(encoder)
        return {"tokenizer": tokenizer, "text_encoder": encoder.eval().requires_grad_(False)}

    def call_defaults(self, pipeline: Any) -> tuple[dict[str, Any], int]:
        """The class's own."""
        arguments = {
            "num_frames": 81,
            "height": 480,
            "width": 832,
            "num_inference_steps": 50,
            "guidance_scale": 5.0,
            "max_sequence_length": 512,
        }
        return arguments, 16

    def predict(
        self,
        transformer: Any,
        noisy: Float[Tensor, "b t c h w"],
        timestep: Float[Tensor, " b"],
        text: Text,
        stride: int = 1,
    ) -> Float[Tensor, "b t c h w"]:
        """The velocity."""
        prediction = transformer(
            hidden_states=rearrange(noisy, "b t c h w -> b c t h w"),
            timestep=timestep,
            encoder_hidden_states=text["text"].to(noisy.dtype),
            return_dict=False,
        )[0]
        return rearrange(prediction, "b c t h w -> b t c h w")

    def compression(self, autoencoder: Any) -> tuple[int, int]:
        """As its configuration says."""
        return int(autoencoder.config.scale_factor_temporal), int(autoencoder.config.scale_factor_spatial)

    def latent_channels(self, autoencoder: Any) -> int:
        """Channels of a latent."""
        return int(autoencoder.config.z_dim)

    def patch_sizes(self, config: Mapping[str, Any]) -> tuple[int, int]:
        """Of three axes; height's and width's are the same."""
        return int(config["patch_size"][0]), int(config["patch_size"][1])

    def scaling_factor(self, autoencoder: Any) -> float:
        """None: the mean and the deviation of each channel do it all."""
        return 1.0

    def normalise(self, autoencoder: Any, latents: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        """``(z - mean) / std`` with the autoencoder's own."""
        mean, std = _statistics(autoencoder, latents)
        return (latents - mean) / std

    def denormalise(self, autoencoder: Any, latents: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        """``z std + mean``."""
        mean, std = _statistics(autoencoder, latents)
        return latents * std + mean

    def fold_normalisation(self, autoencoder: Any, mean: Float[Tensor, " c"], std: Float[Tensor, " c"]) -> None:
        """Into the configuration, which the pipeline reads."""
        autoencoder.register_to_config(latents_mean=mean.tolist(), latents_std=std.tolist())

    def untrainable(self, index: dict) -> str | None:
        """Wan 2.2's large models have two transformers."""
        boundary, second = index.get("boundary_ratio"), index.get("transformer_2") or [None]
        if boundary is None and second[0] is None:
            return None
        return (
            f"Wan 2.2 with two transformers (boundary_ratio {boundary}): each knows one part of the noise levels, and one "
            "trained on all of them would unlearn its own. Use Wan 2.1, or Wan2.2-TI2V-5B, which has one."
        )


def _statistics(autoencoder: Any, latents: Tensor) -> tuple[Tensor, Tensor]:
    shape = (1, -1, 1, 1, 1)
    config = autoencoder.config
    mean, std = (torch.tensor(values).view(shape).to(latents) for values in (config.latents_mean, config.latents_std))
    return mean, std
