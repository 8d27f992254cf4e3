"""Latents and captions made once: memory-mapped safetensors shards with a Parquet index.

A shard holds ``latents`` [n t c h w] (half precision, normalised per channel) and what the captions
became: ``text``, token ids [n l] where the text encoder is trained along and embeddings [n l d] where
it is frozen, and by family ``mask`` [n l] and ``pooled`` [n d]. The index keeps the manifest's order.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pyarrow.parquet as pq
import torch
from jaxtyping import Float
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from reelmill.compute import generator
from reelmill.storage import read_json

INDEX, METADATA, EMPTY = "index.parquet", "metadata.json", "empty.safetensors"


@dataclass(frozen=True)
class LatentsInfo:
    """What all shards share (metadata.json)."""

    latent_shape: tuple[int, int, int, int]  # t c h w
    scaling_factor: float
    num_frames: int
    temporal_compression: int
    family: str
    text: str  # "tokens" or "embeddings"
    text_encoder_hash: str  # of the pretrained encoders' weights; empty where they are made here
    vocabulary_size: int
    manifest_hash: str
    autoencoder_hash: str


def read_info(directory: Path) -> LatentsInfo:
    """The metadata of a latents directory."""
    raw = read_json(directory / METADATA)
    return LatentsInfo(**{**raw, "latent_shape": tuple(raw["latent_shape"])})


class LatentClips:
    """The clips of one split, read row by row from the mapped shards."""

    def __init__(self, directory: Path, split: str):
        self.info = read_info(directory)
        rows = [row for row in pq.read_table(directory / INDEX).to_pylist() if row["split"] == split]
        self.clip_ids = [row["clip_id"] for row in rows]
        self.captions = [row["caption"] for row in rows]
        self.weights = torch.tensor([row["weight"] for row in rows], dtype=torch.float64)
        self._places = [(row["shard"], row["row"]) for row in rows]
        files = {
            name: safe_open(directory / name, framework="pt") for name in sorted({shard for shard, _ in self._places})
        }
        self._latents = {name: file.get_slice("latents") for name, file in files.items()}
        self.empty_text = load_file(directory / EMPTY)
        self._text = {name: {key: file.get_slice(key) for key in self.empty_text} for name, file in files.items()}

    def __len__(self) -> int:
        return len(self._places)

    @property
    def num_recorded(self) -> int:
        """How many of them are clips of the manifest, and not changed versions of one (``<clip>#<number>``)."""
        ids = set(self.clip_ids)
        return sum(clip_id.rpartition("#")[0] not in ids for clip_id in ids)

    def batch(
        self, indices: list[int], device: torch.device | str = "cpu"
    ) -> tuple[Float[Tensor, "b t c h w"], dict[str, Tensor]]:
        """Scaled latents, as the transformer takes them, and what the captions became, by name."""
        places = [self._places[index] for index in indices]
        latents = torch.stack([self._latents[shard][row] for shard, row in places]).float() * self.info.scaling_factor
        text = {
            key: torch.stack([self._text[shard][key][row] for shard, row in places]).to(device)
            for key in self.empty_text
        }
        return latents.to(device), text


def epoch_order(weights: Float[Tensor, " n"], seed: int, epoch: int) -> list[int]:
    """The clips of an epoch in their order, a function of (seed, epoch).

    As many draws as clips, each clip as often as its weight says, the fractions rounded at random
    (systematic resampling): with equal weights every clip comes once.
    """
    random = generator(seed, "epoch", epoch)
    count = len(weights)
    ends = torch.cumsum(weights / weights.sum() * count, 0)
    positions = torch.arange(count, dtype=torch.float64) + torch.rand(1, generator=random, dtype=torch.float64).clamp(
        1e-6, 1 - 1e-6
    )
    drawn = torch.searchsorted(ends, positions).clamp(max=count - 1)
    return drawn[torch.randperm(count, generator=random)].tolist()


class BatchOrder:
    """Which clips make up each batch: a function of the seed and the batch's number alone.

    Batches run on across epochs, so that all are of one size and no clip is left out.
    """

    def __init__(self, weights: Float[Tensor, " n"], seed: int):
        self.weights, self.seed = weights, seed
        self._order = lru_cache(maxsize=2)(lambda epoch: epoch_order(weights, seed, epoch))

    def batch(self, number: int, batch_size: int) -> list[int]:
        """The clips of the ``number``-th batch since the start."""
        places = (
            divmod(position, len(self.weights)) for position in range(number * batch_size, (number + 1) * batch_size)
        )
        return [self._order(epoch)[place] for epoch, place in places]
