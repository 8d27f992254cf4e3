"""What is trained: the transformer or its adapter, with its text encoder where that is trained along."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, T5EncoderModel

from reelmill import diffusion
from reelmill.compute import weights_dtype
from reelmill.config import Model, Params
from reelmill.data.latents import LatentClips, LatentsInfo
from reelmill.errors import UserError
from reelmill.models.families import FAMILIES
from reelmill.models.family import Family, Text, TextParts
from reelmill.models.lora import add_adapter
from reelmill.models.source import resolve
from reelmill.models.text import build_text_encoder, rate_scales
from reelmill.sampling import PromptEncoder
from reelmill.training.base import Base


@dataclass
class Denoiser:
    """Transformer and, where it is trained along, text encoder as one predictor of a batch."""

    family: Family
    transformer: Any
    text_encoder: T5EncoderModel | None
    objective: diffusion.Objective

    def parameters(self) -> dict[str, nn.Parameter]:
        """The trained parameters by name."""
        named = {f"transformer.{name}": p for name, p in self.transformer.named_parameters() if p.requires_grad}
        if self.text_encoder is not None:
            # T5 names its embedding table twice; one of the names is enough.
            named |= {f"text_encoder.{name}": p for name, p in self.text_encoder.named_parameters()}
        return named

    def rate_scales(self) -> dict[str, float]:
        """How much of the learning rate a parameter is to have, by name; 1 for those that are not named."""
        if self.text_encoder is None:
            return {}
        return {f"text_encoder.{name}": scale for name, scale in rate_scales(self.text_encoder).items()}

    def to(self, device: torch.device) -> None:
        """Move to a device."""
        self.transformer.to(device)
        if self.text_encoder is not None:
            self.text_encoder.to(device)

    def predict(
        self, noisy: Float[Tensor, "b t c h w"], timestep: Float[Tensor, " b"], text: Text, stride: int = 1
    ) -> Float[Tensor, "b t c h w"]:
        """The prediction for noisy latents; ``text`` holds what the shards do, token ids or embeddings.

        With objective flow_clean, the velocity to the clean latents that the transformer says. See `Family.predict`.
        """
        if self.text_encoder is not None:
            text = {"text": self.text_encoder(text["text"].long())[0]}
        prediction = self.family.predict(self.transformer, noisy, timestep, text, stride)
        if self.objective == "flow_clean":
            return diffusion.velocity(noisy, prediction.float(), timestep / diffusion.NUM_TRAIN_TIMESTEPS)
        return prediction

    def whole_patches(self, latents: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t' c h w"]:
        """See `Family.whole_patches`."""
        return self.family.whole_patches(self.transformer, latents)

    def video_tokens(self, latent_shape: tuple[int, int, int, int]) -> int:
        """How many patches the transformer makes of latents of shape (t, c, h, w)."""
        frames, _, height, width = latent_shape
        patch_t, patch = self.family.patch_sizes(self.transformer.config)
        return -(-frames // patch_t) * (height // patch) * (width // patch)

    def text_for(self, text: Text, empty: Text, dropped: Bool[Tensor, " b"], model: Model, long: bool) -> Text:
        """The batch's text with dropped captions made empty, cut to the short length where all fit.

        Embeddings of a frozen encoder always keep their length: they were made with it.
        """
        text = {
            key: torch.where(dropped.view(-1, *[1] * (rows.ndim - 1)), empty[key].to(rows.device), rows)
            for key, rows in text.items()
        }
        if self.text_encoder is None or long:
            return text
        ids = text["text"]
        longest = int((ids != self.text_encoder.config.pad_token_id).sum(1).max())
        length = model.text_encoder.short_tokens if longest <= model.text_encoder.short_tokens else ids.shape[1]
        return {"text": ids[:, :length]}


def build_denoiser(
    params: Params, clips: LatentClips, latents_dir: Path, base: Base | None, device: torch.device
) -> Denoiser:
    """A denoiser for the encoded latents, new or pretrained; what is new in it is a function of ``params.train.seed``.

    It lies in main memory; ``device`` is what it will be computed on, which decides what frozen weights are kept in.
    """
    family, info = FAMILIES[params.model.family], clips.info
    check_text_source(params, info, latents_dir)
    encoder = None
    if info.text == "tokens":
        encoder = build_text_encoder(params.model.text_encoder, info.vocabulary_size, params.train.seed)
    transformer = _new(params, clips, latents_dir, family) if base is None else _pretrained(params, base, device)
    return Denoiser(family, transformer, encoder, params.train.objective)


def _new(params: Params, clips: LatentClips, latents_dir: Path, family: Family) -> Any:
    info, patch = clips.info, params.model.patch_size
    frames, _, height, width = info.latent_shape
    if frames % params.model.patch_size_t and not family.pads_frames:
        raise UserError(
            f"model.patch_size_t: {params.model.patch_size_t}: does not divide the {frames} latent frames in {latents_dir}; nearest: 1"
        )
    if height % patch or width % patch:
        raise UserError(
            f"model.patch_size: {patch}: does not divide the latents' size {height}x{width} in {latents_dir}; nearest: 1"
        )
    if params.train.coarse_share and (height % (2 * patch) or width % (2 * patch)):
        raise UserError(
            f"train.coarse_share: {params.train.coarse_share:g}: half of the latents' size {height}x{width} in {latents_dir} is not "
            f"whole patches of {patch}; nearest: 0"
        )
    return family.build_transformer(
        params.model,
        info.latent_shape,
        info.num_frames,
        info.temporal_compression,
        clips.empty_text,
        params.train.seed,
    )


def _pretrained(params: Params, base: Base, device: torch.device) -> Any:
    """Trained weights are kept in full precision, frozen ones in what they are computed with."""
    train = params.train
    if train.mode == "full":
        return base.family.load_transformer(base.directory)
    transformer = base.family.load_transformer(base.directory, weights_dtype(device, train.precision))
    add_adapter(transformer, train.lora, base.family, train.seed)
    return transformer


def check_text_source(params: Params, info: LatentsInfo, latents_dir: Path) -> None:
    """Raise `UserError` when the pretrained text encoders are not those whose embeddings were made."""
    if params.text_source is None:
        return
    source, subfolder = params.text_source
    family = FAMILIES[params.model.family]
    directory = resolve(source, "model.text_encoder.source", family.text_folder_names(subfolder))
    if family.text_digest(directory, subfolder) != info.text_encoder_hash:
        raise UserError(
            f"model.text_encoder.source: {source}: not the encoder whose embeddings are in {latents_dir}. "
            "Put its weights back, or encode anew with `dvc repro -f encode`."
        )


def frozen_text(params: Params, latents_dir: Path) -> PromptEncoder:
    """The encoders that made the embeddings: from their source, or from the latents' directory where they were made."""
    family, max_tokens = FAMILIES[params.model.family], params.model.text_encoder.max_tokens

    def load() -> TextParts:
        source, subfolder = params.text_source or (str(latents_dir), None)
        directory = resolve(source, "model.text_encoder.source", family.text_folder_names(subfolder))
        return family.load_text(directory, subfolder, dtype="auto")

    return PromptEncoder(family, load, max_tokens)


def load_tokenizer(latents_dir: Path) -> PreTrainedTokenizerFast:
    """The tokenizer that made the token ids."""
    return PreTrainedTokenizerFast.from_pretrained(latents_dir / "tokenizer")
