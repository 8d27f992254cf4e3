"""The pretrained pipeline that a fine-tuning starts from."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from diffusers import SchedulerMixin

from reelmill import diffusion
from reelmill.config import Params
from reelmill.errors import UserError
from reelmill.models.families import FAMILIES
from reelmill.models.family import Family
from reelmill.models.pretrained import load_scheduler, open_source, outline_autoencoder
from reelmill.models.source import BASE, read_configuration, weights_digest
from reelmill.storage import write_json


@dataclass(frozen=True)
class Base:
    """A pipeline's directory, checked; ``source`` is what the settings call it."""

    family: Family
    source: str
    directory: Path

    @cached_property
    def scheduler(self) -> SchedulerMixin:
        """As the pipeline has it."""
        return load_scheduler(self.directory)

    @cached_property
    def transformer_config(self) -> dict:
        """The transformer's sizes."""
        return read_configuration(self.directory / "transformer")

    @cached_property
    def transformer_hash(self) -> str:
        """Of the transformer's weight files: what is trained on them belongs to them alone."""
        return weights_digest(self.directory / "transformer")

    def write_reference(self, directory: Path) -> None:
        """Say in a LoRA's directory which pipeline it belongs to."""
        record = {"source": self.source, "family": self.family.name, "transformer_hash": self.transformer_hash}
        write_json(directory / BASE, record)


def check_sources(params: Params) -> None:
    """What the settings' rules cannot know: whether clips, objective and text fit the pretrained sources.

    Only configurations are read, and of a hub id only they are downloaded.

    Raises:
        UserError: for whatever `open_base` refuses, and for an autoencoder that is of another family or cannot take the clips.
    """
    if params.autoencoder_source is None:
        return
    family, data, model = FAMILIES[params.model.family], params.data, params.model
    if model.source is not None:
        open_source(model.source, family, weights=False)  # what is no pipeline of the family is named as that
    outline = outline_autoencoder(*params.autoencoder_source)
    if not isinstance(outline, family.autoencoder_class):
        raise UserError(
            f"autoencoder.source: a {type(outline).__name__}, and family {family.name} has {family.autoencoder_class.__name__}: "
            "set model.family to the source's, or name one of its own"
        )
    compression, channels = family.compression(outline), family.latent_channels(outline)
    base = open_base(params, compression, weights=False)
    if base is not None and base.transformer_config["in_channels"] != channels:
        raise UserError(
            f"autoencoder.source: latents of {channels} channels, and {base.source} was made for "
            f"{base.transformer_config['in_channels']}: leave autoencoder.source null, or name the autoencoder that belongs to it"
        )
    if base is None:
        patch = model.patch_size * (2 if params.train.coarse_share else 1)  # half of the latents must be whole patches
        family.check_video_shape(
            data.num_frames, data.height_px, data.width_px, compression, (model.patch_size_t, patch)
        )


def open_base(params: Params, compression: tuple[int, int], weights: bool = True) -> Base | None:
    """The pipeline that ``model.source`` names, None from scratch; whatever does not fit it is found here.

    Args:
        compression: of the autoencoder, (temporal, spatial).
        weights: False: its configurations are enough.

    Raises:
        UserError: when it is missing, not whole, of another family or two transformers, or when the objective,
            guidance, the text length or the shape of the clips is not one that it can be trained with.
    """
    if params.model.source is None:
        return None
    family = FAMILIES[params.model.family]
    base = Base(family, params.model.source, open_source(params.model.source, family, weights))
    _check_objective(base, params)
    _check_guidance(base, params)
    asked = params.model.text_encoder.max_tokens
    length = family.max_tokens(base.transformer_config, asked)
    if asked != length:
        raise UserError(
            f"model.text_encoder.max_tokens: {asked}: {base.source} was made for {length} tokens, padding included; set it to {length}"
        )
    data = params.data
    patches = family.patch_sizes(base.transformer_config)
    family.check_video_shape(data.num_frames, data.height_px, data.width_px, compression, patches)
    return base


def publish_scheduler(params: Params, base: Base | None) -> SchedulerMixin:
    """The sampler that the pipeline is published with."""
    if params.sampling.scheduler == "source":
        assert base is not None  # a rule of the settings
        return base.scheduler
    passes_sigmas = FAMILIES[params.model.family].passes_sigmas
    return diffusion.scheduler(params.train.objective, params.sampling.scheduler, params.train.shift, passes_sigmas)


def _check_guidance(base: Base, params: Params) -> None:
    share = params.train.guidance.share
    if share and base.family.is_distilled(base.transformer_config):
        raise UserError(
            f"train.guidance.share: {share:g}: {base.source} is distilled: it is told the guidance and never predicts twice, "
            "so there is nothing to train so; set it to 0"
        )


def _check_objective(base: Base, params: Params) -> None:
    try:
        objective, shift = diffusion.objective_of(base.scheduler)
    except ValueError as error:
        raise UserError(f"model.source: {base.source}: its scheduler is a {error}") from None
    train = params.train
    if train.objective != objective:
        raise UserError(
            f"train.objective: {train.objective}: {base.source} was trained with {objective} (its scheduler says so); set train.objective: {objective}"
        )
    # Flow's shift decides which levels are trained on, and may differ from sampling's; the other is the schedule itself.
    if objective == "v_prediction" and train.shift != shift:
        raise UserError(
            f"train.shift: {train.shift:g}: {base.source} was trained with snr_shift_scale {shift:g}; set train.shift: {shift:g}"
        )
