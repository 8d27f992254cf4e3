"""Prompts to frames: batches through the family's vanilla pipeline."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import CogVideoXPipeline
from jaxtyping import UInt8

from reelmill.compute import autocast
from reelmill.config import Precision
from reelmill.errors import UserError
from reelmill.models.cogvideox import check_video_shape


@dataclass(frozen=True)
class Request:
    """How to sample. ``short_tokens``: text length used where all prompts of a batch fit into it."""

    num_frames: int
    height_px: int
    width_px: int
    num_inference_steps: int
    guidance_scale: float
    short_tokens: int
    precision: Precision


def check_request(pipeline: CogVideoXPipeline, request: Request, prompts: Sequence[str]) -> None:
    """Raise `UserError`, with the rule and the nearest valid values, before anything is computed."""
    check_video_shape(
        request.num_frames,
        request.height_px,
        request.width_px,
        pipeline.vae_scale_factor_temporal,
        pipeline.vae_scale_factor_spatial,
        pipeline.transformer.config.patch_size,
    )
    longest = pipeline.transformer.config.max_text_seq_length
    for prompt in prompts:
        tokens = len(pipeline.tokenizer(prompt)["input_ids"])
        if tokens > longest:
            raise UserError(f"prompt of {tokens} tokens, the model takes {longest}: {prompt[:80]!r}...: shorten it")


def sample(
    pipeline: CogVideoXPipeline, prompts: Sequence[str], seeds: Sequence[int], request: Request, batch_size: int
) -> Iterator[UInt8[np.ndarray, "f h w c"]]:
    """A video for each (prompt, seed), in order.

    The noise of a video is a function of its seed alone, the one that the vanilla pipeline draws
    for ``generator=torch.Generator().manual_seed(seed)``; batching does not change it.
    """
    assert len(prompts) == len(seeds)
    check_request(pipeline, request, sorted(set(prompts)))
    for start in range(0, len(prompts), batch_size):
        batch = list(prompts[start : start + batch_size])
        longest = max(len(ids) for ids in pipeline.tokenizer(batch)["input_ids"])
        limit = pipeline.transformer.config.max_text_seq_length
        with torch.no_grad(), autocast(pipeline.device, request.precision):
            frames = pipeline(
                prompt=batch,
                num_frames=request.num_frames,
                height=request.height_px,
                width=request.width_px,
                num_inference_steps=request.num_inference_steps,
                guidance_scale=request.guidance_scale,
                generator=[torch.Generator().manual_seed(seed) for seed in seeds[start : start + batch_size]],
                max_sequence_length=request.short_tokens if longest <= request.short_tokens else limit,
                output_type="np",
            ).frames
        yield from np.rint(np.asarray(frames, dtype=np.float32) * 255).astype(np.uint8)
