"""What is trained: the transformer, with its text encoder where that is trained along."""

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import CogVideoXTransformer3DModel
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, T5EncoderModel

from reelmill.config import Model, Params
from reelmill.data.latents import LatentsInfo
from reelmill.errors import UserError
from reelmill.models.cogvideox import build_transformer, rotary_embedding
from reelmill.models.text import build_text_encoder, load_text_encoder, weights_hash


@dataclass
class Denoiser:
    """Transformer and text encoder as one predictor of a batch."""

    transformer: CogVideoXTransformer3DModel
    text_encoder: T5EncoderModel
    trains_text: bool

    def parameters(self) -> dict[str, nn.Parameter]:
        """The trained parameters by name."""
        named = {f"transformer.{name}": p for name, p in self.transformer.named_parameters()}
        if self.trains_text:
            # T5 names its embedding table twice; one of the names is enough.
            named |= {f"text_encoder.{name}": p for name, p in self.text_encoder.named_parameters()}
        return named

    def predict(
        self, noisy: Float[Tensor, "b t c h w"], timestep: Float[Tensor, " b"], text: Tensor
    ) -> Float[Tensor, "b t c h w"]:
        """The prediction for noisy latents; ``text`` holds token ids [b l] or embeddings [b l d]."""
        embeddings = self.text_encoder(text.long())[0] if self.trains_text else text.to(noisy.dtype)
        return self.transformer(
            hidden_states=noisy,
            encoder_hidden_states=embeddings,
            timestep=timestep,
            image_rotary_emb=rotary_embedding(self.transformer, noisy),
            return_dict=False,
        )[0]

    def text_for(self, text: Tensor, empty: Tensor, dropped: Tensor, model: Model, long: bool) -> Tensor:
        """The batch's text with dropped captions made empty, cut to the short length where all fit.

        Embeddings of a frozen encoder always keep their length: they were made with it.
        """
        text = torch.where(dropped.view(-1, *[1] * (text.ndim - 1)), empty, text)
        if not self.trains_text or long:
            return text
        pad = self.text_encoder.config.pad_token_id
        longest = int((text != pad).sum(1).max())
        length = model.text_encoder.short_tokens if longest <= model.text_encoder.short_tokens else text.shape[1]
        return text[:, :length]


def build_denoiser(params: Params, info: LatentsInfo, latents_dir: Path, device: torch.device) -> Denoiser:
    """A new denoiser for the encoded latents, a function of ``params.train.seed``."""
    text = params.model.text_encoder
    if text.source is None:
        encoder = build_text_encoder(text, info.vocabulary_size, params.train.seed)
    else:
        _, encoder = load_text_encoder(text)
        if weights_hash(encoder) != info.text_encoder_hash:
            raise UserError(
                f"model.text_encoder.source: {text.source}: not the encoder whose embeddings are in {latents_dir}. "
                "Put its weights back, or encode anew with `dvc repro -f encode`."
            )
        encoder.requires_grad_(False)
    _, _, height, width = info.latent_shape
    if height % params.model.patch_size or width % params.model.patch_size:
        raise UserError(
            f"model.patch_size: {params.model.patch_size}: does not divide the latents' size {height}x{width} in {latents_dir}; nearest: 1"
        )
    transformer = build_transformer(
        params.model,
        info.latent_shape,
        info.num_frames,
        info.temporal_compression,
        encoder.config.d_model,
        params.train.seed,
    )
    return Denoiser(transformer.to(device), encoder.to(device), text.source is None)


def load_tokenizer(latents_dir: Path) -> PreTrainedTokenizerFast:
    """The tokenizer that made the token ids."""
    return PreTrainedTokenizerFast.from_pretrained(latents_dir / "tokenizer")
