"""Prompts to frames: batches through the family's vanilla pipeline."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import CogVideoXPipeline
from jaxtyping import UInt8

from reelmill.compute import autocast
from reelmill.config import Params, Precision
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

    @classmethod
    def of(cls, arguments: dict, precision: Precision) -> "Request":
        """From the arguments of the vanilla pipeline's call (`call_arguments`)."""
        return cls(
            arguments["num_frames"],
            arguments["height"],
            arguments["width"],
            arguments["num_inference_steps"],
            arguments["guidance_scale"],
            arguments["max_sequence_length"],
            precision,
        )


def call_arguments(params: Params) -> dict:
    """The arguments of the vanilla pipeline's call that give what `reelmill generate` gives."""
    text = params.model.text_encoder
    return {
        "num_frames": params.data.num_frames,
        "height": params.data.height_px,
        "width": params.data.width_px,
        "num_inference_steps": params.sampling.num_inference_steps,
        "guidance_scale": params.sampling.guidance_scale,
        "max_sequence_length": text.short_tokens if text.source is None else text.max_tokens,
    }


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
    limit = pipeline.transformer.config.max_text_seq_length
    for batch, batch_seeds, fits in _batches(pipeline, prompts, seeds, request.short_tokens, batch_size):
        with torch.no_grad(), autocast(pipeline.device, request.precision):
            frames = pipeline(
                prompt=batch,
                num_frames=request.num_frames,
                height=request.height_px,
                width=request.width_px,
                num_inference_steps=request.num_inference_steps,
                guidance_scale=request.guidance_scale,
                generator=[torch.Generator().manual_seed(seed) for seed in batch_seeds],
                max_sequence_length=request.short_tokens if fits else limit,
                output_type="np",
            ).frames
        yield from np.rint(np.asarray(frames, dtype=np.float32) * 255).astype(np.uint8)


def _batches(
    pipeline: CogVideoXPipeline, prompts: Sequence[str], seeds: Sequence[int], short_tokens: int, batch_size: int
) -> Iterator[tuple[list[str], list[int], bool]]:
    """Neighbours of the same text length together: a long prompt must not change its batch mates' videos."""
    lengths = [len(ids) for ids in pipeline.tokenizer(list(prompts))["input_ids"]]
    rows = zip(prompts, seeds, lengths, strict=True)
    for fits, run in itertools.groupby(rows, key=lambda row: row[2] <= short_tokens):
        while batch := list(itertools.islice(run, batch_size)):
            yield [prompt for prompt, _, _ in batch], [seed for _, seed, _ in batch], fits
