"""Encoding each clip and caption once, shard by shard; a killed run goes on at its last shard."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from diffusers import AutoencoderKLCogVideoX
from einops import rearrange
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase, T5EncoderModel

from reelmill.compute import autocast, choose_device
from reelmill.config import Data, Encode, TextEncoder
from reelmill.data.augmentation import read_versions
from reelmill.data.latents import EMPTY, INDEX, METADATA
from reelmill.data.manifest import Clip
from reelmill.errors import UserError
from reelmill.models.autoencoder import to_model
from reelmill.models.text import token_ids
from reelmill.storage import atomic_path, write_json


class CaptionEncoder:
    """Captions to what the shards hold of them: token ids, or a frozen encoder's embeddings."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, settings: TextEncoder, frozen: T5EncoderModel | None):
        self.tokenizer = tokenizer
        self.max_tokens = settings.max_tokens
        self.frozen = frozen

    def check(self, clips: Sequence[Clip]) -> None:
        """Raise `UserError` naming every clip whose caption does not fit, before anything is encoded."""
        lengths = [len(ids) for ids in self.tokenizer([clip.caption for clip in clips])["input_ids"]]
        faults = [
            f"{clip.path} ({clip.clip_id}): its caption has {length} tokens, the model takes {self.max_tokens}: {clip.caption[:60]!r}..."
            for clip, length in zip(clips, lengths, strict=True)
            if length > self.max_tokens
        ]
        if faults:
            raise UserError("\n".join([*faults, "Shorten them, or raise model.text_encoder.max_tokens."]))

    @torch.no_grad()
    def __call__(self, captions: list[str]) -> Tensor:
        """Token ids [b l], or embeddings [b l d] as the pipeline computes them (padding unmasked)."""
        ids = token_ids(self.tokenizer, captions, self.max_tokens)
        if self.frozen is None:
            return ids.to(torch.int32)
        return self.frozen(ids.to(self.frozen.device))[0].to(torch.float16).cpu()


def encode_shards(
    clips: Sequence[Clip],
    data: Data,
    settings: Encode,
    autoencoder: AutoencoderKLCogVideoX,
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
                save_file({"latents": torch.cat(latents), "text": text}, temporary)
    return paths


@torch.no_grad()
def _encode_batch(
    model: AutoencoderKLCogVideoX, frames: list[np.ndarray], settings: Encode, device: torch.device, bar: tqdm
) -> Tensor:
    """The latents' mean [b t c h w], half precision."""
    video = to_model(np.stack(frames)).to(device)
    with autocast(device, settings.precision):
        mean = model.encode(video).latent_dist.mode()
    bar.update(len(frames))
    return rearrange(mean, "b c t h w -> b t c h w").half().cpu().contiguous()


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
    empty_text: Tensor,
    metadata: dict,
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    """The latents directory from finished shards: shards, index, metadata, tokenizer; whole or absent."""
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
        save_file({"text": empty_text}, temporary / EMPTY)
        write_json(temporary / METADATA, metadata)
        tokenizer.save_pretrained(temporary / "tokenizer")
