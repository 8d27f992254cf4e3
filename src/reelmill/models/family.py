"""What a family of models has of its own: how it is built, loaded, fed and put together.

One module a family fills this in through diffusers' own classes; `families` finds it by name or by
what it has made. Everywhere else latents are ``b t c h w`` and a batch's text is a `Text`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import DiffusionPipeline, ModelMixin
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from transformers import AutoTokenizer

from reelmill.config import Autoencoder, Model, TextEncoder
from reelmill.errors import UserError
from reelmill.models.source import loading, weights_digest
from reelmill.storage import hash_value

# What a transformer is conditioned on, by name: ``text`` [b l d], and by family ``mask`` [b l] and ``pooled`` [b d].
Text = dict[str, Tensor]
# A pipeline's tokenizers and text encoders, by the names that the pipeline has for them.
TextParts = dict[str, Any]


def tokenizer_of(encoder: str) -> str:
    """The pipeline's name of an encoder's tokenizer: ``text_encoder_2`` has ``tokenizer_2``."""
    return encoder.replace("text_encoder", "tokenizer")


class Family(ABC):
    """A family. Its objects hold no state."""

    name: ClassVar[str]
    pipeline_class: ClassVar[type]
    transformer_class: ClassVar[type]
    autoencoder_class: ClassVar[type]
    encoder_classes: ClassVar[dict[str, type]]  # by the pipeline's name of the encoder
    blocks: ClassVar[tuple[str, ...]]  # the transformer's lists of them
    lora_targets: ClassVar[tuple[str, ...]]  # the layers of a block's attention
    side_multiple_px: ClassVar[int]  # that the pipeline asks for, whatever the compression
    normalises_channels: ClassVar[bool] = False  # whether the pipeline knows each latent channel's mean and spread
    passes_sigmas: ClassVar[bool] = False  # whether the pipeline hands its noise levels to the scheduler
    pads_frames: ClassVar[bool] = False  # whether the pipeline fills up what is not whole patches of frames

    @abstractmethod
    def build_transformer(
        self,
        settings: Model,
        latent_shape: tuple[int, int, int, int],
        num_frames: int,
        temporal_compression: int,
        empty_text: Text,
        seed: int,
    ) -> ModelMixin:
        """A new transformer for latents of ``latent_shape`` (t, c, h, w) and text shaped like ``empty_text``."""

    @abstractmethod
    def build_autoencoder(self, settings: Autoencoder, height_px: int, width_px: int) -> ModelMixin:
        """A new autoencoder with random weights, a function of ``settings.seed``."""

    @abstractmethod
    def build_text(self, settings: TextEncoder, captions: Sequence[str], vocabulary_size: int) -> TextParts:
        """New tokenizers, fitted on the captions, and new encoders: frozen, each token near an embedding of its own.

        No encoder where the family trains it along with the transformer.
        """

    def encode_text(self, parts: TextParts, captions: list[str], max_tokens: int) -> Text:
        """What the pipeline makes of captions, by its own code; by default ``text`` [b l d] of its one encoder."""
        pipeline: Any = self.assemble(parts, None, None, None)
        embeddings, _ = pipeline.encode_prompt(
            captions,
            do_classifier_free_guidance=False,
            max_sequence_length=max_tokens,
            device=parts["text_encoder"].device,
        )
        return {"text": embeddings}

    @abstractmethod
    def call_defaults(self, pipeline: Any) -> tuple[dict[str, Any], int]:
        """What a pipeline made elsewhere is called with when nothing is said, and the frames a second of its videos."""

    def prompt_arguments(self, text: Text, empty: Text) -> dict[str, Tensor]:
        """`encode_text` of prompts, and of nothing for guidance, as arguments of the pipeline's call."""
        return {"prompt_embeds": text["text"], "negative_prompt_embeds": empty["text"]}

    @abstractmethod
    def predict(
        self,
        transformer: ModelMixin,
        noisy: Float[Tensor, "b t c h w"],
        timestep: Float[Tensor, " b"],
        text: Text,
        stride: int = 1,
    ) -> Float[Tensor, "b t c h w"]:
        """The transformer's prediction for noisy latents of whole patches (`whole_patches`).

        Args:
            stride: how far apart, in latents of the model's own size, those of ``noisy`` are: 2 for
                pooled ones. A transformer that places its patches itself counts them on.
        """

    @abstractmethod
    def compression(self, autoencoder: Any) -> tuple[int, int]:
        """How many frames become a latent frame, and how many pixels of a side a latent pixel."""

    def round_trip_frames(self, num_frames: int, temporal: int) -> int:
        """How many frames come back when ``num_frames`` are encoded and decoded.

        By default the first frame stands alone and the others go in whole groups.
        """
        return (num_frames - 1) // temporal * temporal + 1

    def frames_rule(self, temporal: int) -> str:
        """The frame counts that come back unchanged, in words."""
        return f"{temporal}k+1"

    @abstractmethod
    def fold_normalisation(self, autoencoder: Any, mean: Float[Tensor, " c"], std: Float[Tensor, " c"]) -> None:
        """Make the normalised latents ``(z - mean) / std``, in whichever way the family's pipeline undoes."""

    def normalise(self, autoencoder: Any, latents: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        """What the pipeline undoes per channel before it decodes; by default nothing, for a scalar does it all."""
        return latents

    def denormalise(self, autoencoder: Any, latents: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        """The inverse of `normalise`."""
        return latents

    def scaling_factor(self, autoencoder: Any) -> float:
        """What latents are multiplied by, beside `normalise`."""
        return float(autoencoder.config.scaling_factor)

    @abstractmethod
    def patch_sizes(self, config: Mapping[str, Any]) -> tuple[int, int]:
        """Latent frames and latent pixels of a side that make up a token, by a transformer's configuration."""

    def is_distilled(self, config: Mapping[str, Any]) -> bool:
        """Whether a transformer of this configuration is told the guidance's scale, and so never asked without the caption."""
        return False

    def guidance_arguments(self, config: Mapping[str, Any], scale: float) -> dict[str, Any]:
        """Guidance of ``scale`` as arguments of the pipeline's call with one prompt, by a transformer's configuration."""
        return {"guidance_scale": scale}

    def max_tokens(self, config: Mapping[str, Any], asked: int) -> int:
        """The text length that a transformer of this configuration was made for; ``asked`` where it takes any."""
        return asked

    def num_tokens(self, parts: TextParts, captions: list[str]) -> list[int]:
        """Tokens of each caption, which must not be more than `max_tokens`."""
        return [len(ids) for ids in parts["tokenizer"](captions)["input_ids"]]

    def untrainable(self, index: dict) -> str | None:
        """Why a pipeline with this model_index.json cannot be trained, though it is of the class; None where it can."""
        return None

    def load_text(
        self, directory: Path, subfolder: str | None = None, dtype: torch.dtype | str = torch.float32
    ) -> TextParts:
        """Tokenizers and text encoders from a pipeline's directory, or one encoder and tokenizer from their own.

        Raises:
            UserError: when one of them is not there, or not whole.
        """
        parts: TextParts = {}
        for name, (folder, tokenizer_folder) in self._text_folders(directory, subfolder).items():
            encoder_class = self.encoder_classes[name]
            with loading(f"{encoder_class.__name__} with its tokenizer", folder):
                parts[tokenizer_of(name)] = AutoTokenizer.from_pretrained(tokenizer_folder)
                parts[name] = encoder_class.from_pretrained(folder, use_safetensors=True, dtype=dtype)  # type: ignore[attr-defined]
            parts[name].eval().requires_grad_(False)
        return parts

    def text_digest(self, directory: Path, subfolder: str | None = None) -> str:
        """SHA-256 of the encoders' weight files: embeddings belong to the encoders that made them."""
        return hash_value([weights_digest(folder) for folder, _ in self._text_folders(directory, subfolder).values()])

    def text_folder_names(self, subfolder: str | None = None) -> list[str]:
        """The folders of a source that `load_text` reads."""
        here = Path()
        return sorted({str(folder) for pair in self._text_folders(here, subfolder).values() for folder in pair})

    def _text_folders(self, directory: Path, subfolder: str | None) -> dict[str, tuple[Path, Path]]:
        """Of each encoder and its tokenizer. A family's only encoder may lie apart from a pipeline, with its tokenizer."""
        if len(self.encoder_classes) == 1 and (subfolder or (directory / "config.json").is_file()):
            (name,) = self.encoder_classes
            return {name: (directory / (subfolder or ""), directory / (tokenizer_of(name) if subfolder else ""))}
        return {name: (directory / name, directory / tokenizer_of(name)) for name in self.encoder_classes}

    def load_transformer(self, directory: Path, dtype: torch.dtype = torch.float32) -> Any:
        """The transformer of a pipeline's directory. Raises `UserError` when it is not there, or not whole."""
        with loading(self.transformer_class.__name__, directory / "transformer"):
            return self.transformer_class.from_pretrained(  # type: ignore[attr-defined]
                directory, subfolder="transformer", use_safetensors=True, dtype=dtype
            )

    def assemble(self, text: TextParts, autoencoder: Any, transformer: Any, scheduler: Any) -> DiffusionPipeline:
        """The parts as the family's vanilla pipeline; absent text encoders leave it without."""
        absent = {part: None for name in self.encoder_classes for part in (name, tokenizer_of(name))}
        pipeline = self.pipeline_class(**(absent | text), vae=autoencoder, transformer=transformer, scheduler=scheduler)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def latent_shape(
        self, autoencoder: Any, num_frames: int, height_px: int, width_px: int
    ) -> tuple[int, int, int, int]:
        """Shape (t, c, h, w) of the latents of a clip."""
        temporal, spatial = self.compression(autoencoder)
        return (
            (num_frames - 1) // temporal + 1,
            self.latent_channels(autoencoder),
            height_px // spatial,
            width_px // spatial,
        )

    def whole_patches(self, transformer: Any, latents: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t' c h w"]:
        """The latents with copies of the first frame before it, until they are whole patches of frames.

        As CogVideoX 1.5 is trained; its pipeline generates these frames too, and drops them.
        """
        patch_t, _ = self.patch_sizes(transformer.config)
        missing = -latents.shape[1] % patch_t
        return torch.cat([latents[:, :1]] * missing + [latents], dim=1) if missing else latents

    def latent_channels(self, autoencoder: Any) -> int:
        """Channels of a latent."""
        return int(autoencoder.config.latent_channels)

    def encode_clips(self, autoencoder: Any, video: Float[Tensor, "b c f h w"]) -> Float[Tensor, "b t c h w"]:
        """The latents' means, normalised per channel and not yet multiplied by `scaling_factor`."""
        mean = autoencoder.encode(video).latent_dist.mode()
        return rearrange(self.normalise(autoencoder, mean), "b c t h w -> b t c h w")

    def decode_latents(self, autoencoder: Any, latents: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b c f h w"]:
        """The inverse of `encode_clips`, in the range [-1, 1]."""
        return autoencoder.decode(self.denormalise(autoencoder, rearrange(latents, "b t c h w -> b c t h w"))).sample

    def check_video_shape(
        self, num_frames: int, height_px: int, width_px: int, compression: tuple[int, int], patches: tuple[int, int]
    ) -> None:
        """Raise `UserError`, with the rule and the nearest valid values, for a shape that the model cannot take.

        Args:
            compression: of the autoencoder, (temporal, spatial).
            patches: of the transformer, (temporal, spatial).
        """
        (temporal, spatial), (patch_t, patch) = compression, patches
        valid = [f for f in range(1, max(num_frames, 1) + 17 * patch_t) if self._fits(f, temporal, patch_t)]
        if num_frames not in valid:
            below, above = [f for f in valid if f < num_frames], [f for f in valid if f > num_frames]
            near = " or ".join(map(str, below[-1:] + above[:1]))
            whole = f", in whole patches of {patch_t} latent frames" if patch_t > 1 and not self.pads_frames else ""
            raise UserError(
                f"num_frames: {num_frames}: the autoencoder gives back {self.frames_rule(temporal)} frames unchanged "
                f"(temporal compression {temporal}) and no others{whole}; nearest: {near}."
            )
        multiple = max(self.side_multiple_px, spatial * patch)
        for name, side in (("height_px", height_px), ("width_px", width_px)):
            if side % multiple or side <= 0:
                low = max(multiple, side // multiple * multiple)
                raise UserError(
                    f"{name}: {side}: must be a multiple of {multiple} (spatial compression {spatial} x patch {patch}, "
                    f"and {self.side_multiple_px} for the pipeline); nearest: {low} or {low + multiple}."
                )

    def _fits(self, num_frames: int, temporal: int, patch_t: int) -> bool:
        whole = self.pads_frames or ((num_frames - 1) // temporal + 1) % patch_t == 0
        return self.round_trip_frames(num_frames, temporal) == num_frames and whole
