"""The 3D causal autoencoder: diffusers' `AutoencoderKLCogVideoX` (Yang et al. 2024, CogVideoX, sec. 2.1)."""

from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLCogVideoX
from diffusers.models.autoencoders.autoencoder_kl_cogvideox import CogVideoXResnetBlock3D
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from reelmill.compute import seed_all
from reelmill.config import Autoencoder
from reelmill.rules import NORM_GROUPS


def build(settings: Autoencoder, height_px: int, width_px: int) -> AutoencoderKLCogVideoX:
    """A new autoencoder with random weights, a function of ``settings.seed``.

    The last convolution of each residual block starts at zero, so that every block is the identity
    (or its shortcut) at first, as in Dhariwal & Nichol 2021.
    """
    seed_all(settings.seed, "autoencoder")
    blocks = len(settings.block_out_channels)
    model = AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * blocks,
        up_block_types=("CogVideoXUpBlock3D",) * blocks,
        block_out_channels=tuple(settings.block_out_channels),
        latent_channels=settings.latent_channels,
        layers_per_block=settings.layers_per_block,
        norm_num_groups=NORM_GROUPS,
        temporal_compression_ratio=settings.temporal_compression,
        sample_height=height_px,
        sample_width=width_px,
        scaling_factor=1.0,
    )
    for part in model.modules():
        if isinstance(part, CogVideoXResnetBlock3D):
            torch.nn.init.zeros_(part.conv2.conv.weight)
            torch.nn.init.zeros_(part.conv2.conv.bias)
    return model


def to_model(frames: UInt8[np.ndarray, "b f h w c"] | UInt8[Tensor, "b f h w c"]) -> Float[Tensor, "b c f h w"]:
    """8-bit frames to the autoencoder's range [-1, 1]."""
    frames = torch.tensor(frames) if isinstance(frames, np.ndarray) else frames
    return rearrange(frames, "b f h w c -> b c f h w").float() / 127.5 - 1


def to_frames(video: Float[Tensor, "b c f h w"]) -> UInt8[np.ndarray, "b f h w c"]:
    """The autoencoder's range [-1, 1] to 8-bit frames, rounded to the nearest."""
    video = ((video.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return rearrange(video, "b c f h w -> b f h w c").cpu().numpy()


@torch.no_grad()
def reconstruct(model: Any, frames: UInt8[np.ndarray, "b f h w c"]) -> UInt8[np.ndarray, "b f h w c"]:
    """Frames encoded to the latents' mean and decoded again by an autoencoder of any family, at full precision."""
    mean = model.encode(to_model(frames).to(model.device)).latent_dist.mode()
    return to_frames(model.decode(mean).sample)


@torch.no_grad()
def fold_normalisation(model: AutoencoderKLCogVideoX, mean: Float[Tensor, " c"], std: Float[Tensor, " c"]) -> None:
    """Make the latents ``(z - mean) / std`` by changing the weights on both sides of them.

    `CogVideoXPipeline` knows one scalar `scaling_factor`; a normalisation per channel has to live in
    the weights. The encoder's last convolution gives (z - mean) / std exactly. Everything in the
    decoder that reads z is linear in it and takes std * z + mean instead: exact but for the outermost
    latent pixels of `conv_in`, whose zero padding now stands for the mean (measured: 0.0001 dB).
    """
    out = model.encoder.conv_out.conv
    channels = mean.numel()
    out.weight[:channels] /= std.view(-1, 1, 1, 1, 1)
    out.bias[:channels] = (out.bias[:channels] - mean) / std
    out.bias[channels:] -= 2 * std.log()
    readers = [model.decoder.conv_in.conv]
    readers += [part.conv for name, part in model.decoder.named_modules() if name.endswith(("conv_y", "conv_b"))]
    for conv in readers:
        conv.bias += torch.einsum("oithw,i->o", conv.weight, mean)
        conv.weight *= std.view(1, -1, 1, 1, 1)
