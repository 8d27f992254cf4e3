"""Prompts to frames: batches through the family's vanilla pipeline."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from jaxtyping import UInt8

from reelmill.compute import autocast
from reelmill.config import Params, Precision
from reelmill.errors import UserError
from reelmill.models.families import family_of
from reelmill.models.family import Family, Text, TextParts


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
        """From the arguments of the vanilla pipeline's call (`call_arguments`), or those that were published."""
        return cls(
            arguments["num_frames"],
            arguments["height"],
            arguments["width"],
            arguments["num_inference_steps"],
            arguments.get("true_cfg_scale", arguments["guidance_scale"]),
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
        "max_sequence_length": text.short_tokens if params.trains_text else text.max_tokens,
    }


class PromptEncoder:
    """Frozen text encoders away from the device: loaded when a prompt is first asked for, each prompt encoded once."""

    def __init__(self, family: Family, load: Callable[[], TextParts], max_tokens: int):
        self.family = family
        self.max_tokens = max_tokens
        self._load = load
        self._known: dict[str, Text] = {}

    @cached_property
    def parts(self) -> TextParts:
        """Tokenizers and encoders, in host memory."""
        return self._load()

    @torch.no_grad()
    def __call__(self, prompts: Sequence[str]) -> Text:
        """What `Family.encode_text` makes of the prompts. Raises `UserError` for one that is too long."""
        for prompt in prompts:
            if prompt not in self._known:
                _check_length(self.family, self.parts, prompt, self.max_tokens)
                self._known[prompt] = self.family.encode_text(self.parts, [prompt], self.max_tokens)
        return {key: torch.cat([self._known[prompt][key] for prompt in prompts]) for key in self._known[prompts[0]]}


def check_request(pipeline: DiffusionPipeline, request: Request) -> None:
    """Raise `UserError`, with the rule and the nearest valid values, before anything is computed."""
    family = family_of(pipeline)
    family.check_video_shape(
        request.num_frames,
        request.height_px,
        request.width_px,
        family.compression(pipeline.vae),
        family.patch_sizes(pipeline.transformer.config),
    )


def _check_length(family: Family, parts: TextParts, prompt: str, longest: int) -> None:
    (tokens,) = family.num_tokens(parts, [prompt])
    if tokens > longest:
        raise UserError(f"prompt of {tokens} tokens, the model takes {longest}: {prompt[:80]!r}...: shorten it")


def sample(
    pipeline: DiffusionPipeline,
    prompts: Sequence[str],
    seeds: Sequence[int],
    request: Request,
    batch_size: int,
    encode: PromptEncoder | None = None,
) -> Iterator[UInt8[np.ndarray, "f h w c"]]:
    """A video for each (prompt, seed), in order.

    The noise of a video is a function of its seed alone, the one that the vanilla pipeline draws
    for ``generator=torch.Generator().manual_seed(seed)``; batching does not change it.

    Args:
        encode: what stands for the text encoders of a pipeline that was put together without.
    """
    assert len(prompts) == len(seeds)
    check_request(pipeline, request)
    family = family_of(pipeline)
    limit = family.max_tokens(pipeline.transformer.config, request.short_tokens)
    if encode is None:
        for prompt in sorted(set(prompts)):
            _check_length(family, {"tokenizer": pipeline.tokenizer}, prompt, limit)
    guidance = family.guidance_arguments(pipeline.transformer.config, request.guidance_scale)
    for batch, batch_seeds, fits in _batches(pipeline, prompts, seeds, request.short_tokens, batch_size):
        text = {"prompt": batch} if encode is None else _embeddings(pipeline, encode, batch)
        with torch.no_grad(), autocast(pipeline.device, request.precision):
            frames = pipeline(
                **text,
                **{key: [value] * len(batch) if isinstance(value, str) else value for key, value in guidance.items()},
                num_frames=request.num_frames,
                height=request.height_px,
                width=request.width_px,
                num_inference_steps=request.num_inference_steps,
                generator=[torch.Generator().manual_seed(seed) for seed in batch_seeds],
                max_sequence_length=request.short_tokens if fits else limit,
                output_type="np",
            ).frames
        yield from np.rint(np.asarray(frames, dtype=np.float32) * 255).astype(np.uint8)


def _embeddings(pipeline: DiffusionPipeline, encode: PromptEncoder, prompts: list[str]) -> dict[str, Any]:
    arguments = encode.family.prompt_arguments(encode(prompts), encode([""] * len(prompts)))
    transformer = pipeline.transformer
    return {key: tensor.to(transformer.device, transformer.dtype) for key, tensor in arguments.items()}


def _batches(
    pipeline: DiffusionPipeline, prompts: Sequence[str], seeds: Sequence[int], short_tokens: int, batch_size: int
) -> Iterator[tuple[list[str], list[int], bool]]:
    """Neighbours of the same text length together: a long prompt must not change its batch mates' videos."""
    if pipeline.tokenizer is None:
        lengths = [short_tokens] * len(prompts)
    else:
        lengths = family_of(pipeline).num_tokens({"tokenizer": pipeline.tokenizer}, list(prompts))
    rows = zip(prompts, seeds, lengths, strict=True)
    for fits, run in itertools.groupby(rows, key=lambda row: row[2] <= short_tokens):
        while batch := list(itertools.islice(run, batch_size)):
            yield [prompt for prompt, _, _ in batch], [seed for _, seed, _ in batch], fits
