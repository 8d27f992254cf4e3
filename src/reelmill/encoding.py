"""Encoding each clip and caption once, shard by shard; a killed run goes on at its last shard."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from reelmill.compute import autocast, choose_device, weights_dtype
from reelmill.config import Data, Encode, Params
from reelmill.data.augmentation import read_versions
from reelmill.data.latents import EMPTY, INDEX, METADATA
from reelmill.data.manifest import Clip
from reelmill.errors import UserError
from reelmill.models.autoencoder import to_model
from reelmill.models.families import FAMILIES, family_of
from reelmill.models.family import Family, TextParts
from reelmill.models.source import resolve
from reelmill.storage import atomic_path, write_json


def text_parts(params: Params, clips: Sequence[Clip], device: torch.device) -> tuple[TextParts, str]:
    """Tokenizers and encoders on the device, made for the training captions or pretrained, and the latter's digest."""
    family, settings = FAMILIES[params.model.family], params.encode
    if params.text_source is None:
        captions = [clip.caption for clip in clips if clip.split == "train"]
        parts, digest = family.build_text(params.model.text_encoder, captions, settings.vocabulary_size), ""
    else:
        source, subfolder = params.text_source
        directory = resolve(source, "model.text_encoder.source", family.text_folder_names(subfolder))
        parts = family.load_text(directory, subfolder, weights_dtype(device, settings.precision))
        digest = family.text_digest(directory, subfolder)
    for name in family.encoder_classes.keys() & parts.keys():
        parts[name].to(device)
    return parts, digest


class CaptionEncoder:
    """Captions to what the shards hold of them, by name (`models.family.Text`)."""

    def __init__(self, family: Family, parts: TextParts, max_tokens: int, batch_size: int):
        self.family = family
        self.parts = parts
        self.max_tokens = max_tokens
        self.batch_size = batch_size

    def check(self, clips: Sequence[Clip]) -> None:
        """Raise `UserError` naming every clip whose caption does not fit, before anything is encoded."""
        lengths = self.family.num_tokens(self.parts, [clip.caption for clip in clips])
        faults = [
            f"{clip.path} ({clip.clip_id}): its caption has {length} tokens, the model takes {self.max_tokens}: {clip.caption[:60]!r}..."
            for clip, length in zip(clips, lengths, strict=True)
            if length > self.max_tokens
        ]
        if faults:
            raise UserError("\n".join([*faults, "Shorten them, or raise model.text_encoder.max_tokens."]))

    @torch.no_grad()
    def __call__(self, captions: list[str]) -> dict[str, Tensor]:
        """Tensors of a row a caption; embeddings in half precision."""
        batches = [
            self.family.encode_text(self.parts, captions[start : start + self.batch_size], self.max_tokens)
            for start in range(0, len(captions), self.batch_size)
        ]
        return {key: torch.cat([_stored(batch[key]) for batch in batches]) for key in batches[0]}


def _stored(tensor: Tensor) -> Tensor:
    return (tensor.half() if tensor.is_floating_point() else tensor).cpu()


def encode_shards(
    clips: Sequence[Clip],
    data: Data,
    settings: Encode,
    autoencoder: Any,
    encode_captions: CaptionEncoder,
    state_directory: Path,
) -> list[Path]:
    """Write every shard that the state directory lacks; returns all shards in order."""
    device = choose_device(settings.device)
    autoencoder = autoencoder.to(device)
    groups = [clips[start : start + settings.shard_clips] for start in range(0, len(clips), settings.shard_clips)]
    paths = [state_directory / f"latents-{index:05d}.safetensors" for index in range(len(groups))]
    missing = [(path, group) for path, group in zip(paths, groups, strict=True) if not path.exists()]
    frames = read_versions([clip for _, group in missing for clip in group], data)
    with tqdm(
        total=len(clips), initial=len(clips) - sum(len(g) for _, g in missing), desc="encode", unit="clip"
    ) as bar:
        for path, group in missing:
            latents = [
                _encode_batch(autoencoder, list(itertools.islice(frames, size)), settings, device, bar)
                for size in _batch_sizes(len(group), settings.batch_size)
            ]
            text = encode_captions([clip.caption for clip in group])
            with atomic_path(path) as temporary:
                save_file({"latents": torch.cat(latents), **text}, temporary)
    return paths


@torch.no_grad()
def _encode_batch(
    autoencoder: Any, frames: list[np.ndarray], settings: Encode, device: torch.device, bar: tqdm
) -> Float[Tensor, "b t c h w"]:
    """The latents' mean, normalised per channel, half precision."""
    video = to_model(np.stack(frames)).to(device)
    with autocast(device, settings.precision):
        latents = family_of(autoencoder).encode_clips(autoencoder, video)
    bar.update(len(frames))
    return latents.half().cpu().contiguous()


def _batch_sizes(count: int, batch_size: int) -> Iterator[int]:
    yield from (min(batch_size, count - start) for start in range(0, count, batch_size))


def latents_spread(paths: Sequence[Path], clips: Sequence[Clip], shard_clips: int) -> float:
    """Standard deviation of the training clips' latents about zero, in one pass over the shards."""
    squares, count = 0.0, 0
    for index, path in enumerate(paths):
        group = clips[index * shard_clips : (index + 1) * shard_clips]
        rows = [row for row, clip in enumerate(group) if clip.split == "train"]
        latents = load_file(path)["latents"][rows].double()
        squares += latents.square().sum().item()
        count += latents.numel()
    return (squares / count) ** 0.5


def write_latents(
    output: Path,
    paths: Sequence[Path],
    clips: Sequence[Clip],
    shard_clips: int,
    empty_text: dict[str, Tensor],
    metadata: dict,
    parts: TextParts,
) -> None:
    """The latents directory from finished shards: shards, index, metadata and the given text parts; whole or absent."""
    index = {
        "clip_id": [clip.clip_id for clip in clips],
        "caption": [clip.caption for clip in clips],
        "split": [clip.split for clip in clips],
        "weight": [clip.weight for clip in clips],
        "shard": [paths[row // shard_clips].name for row in range(len(clips))],
        "row": [row % shard_clips for row in range(len(clips))],
    }
    with atomic_path(output) as temporary:
        temporary.mkdir()
        for path in paths:
            (temporary / path.name).hardlink_to(path)
        pq.write_table(pa.table(index), temporary / INDEX)
        save_file(empty_text, temporary / EMPTY)
        write_json(temporary / METADATA, metadata)
        for name, part in parts.items():
            part.save_pretrained(temporary / name)
