"""params.yaml, read in one place into frozen typed sections.

A function gets the section it needs, never the whole. Every rule that ties settings together
is checked here, before anything is loaded or trained.
"""

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from reelmill.errors import UserError, explain

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[float, Field(ge=0)]
Range = tuple[float, float]
Scheduler = Literal["unipc", "dpmsolver", "ddim", "euler"]
FamilyName = Literal["cogvideox", "wan", "hunyuan_video"]
OptimizerName = Literal["muon", "adamw", "adamw8bit", "schedule_free"]
LossWeighting = Literal["none", "min_snr", "logit_normal"]
Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "bf16", "fp32"]


class Section(BaseModel):
    """A frozen section: unknown keys are refused, so no setting is accepted and ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Samples(Section):
    """Drawn clips (stage make-samples). Lengths are shares of the frame's side."""

    seed: int
    num_train_clips: Positive
    num_validation_clips: Positive
    num_test_clips: Positive
    num_frames: Annotated[int, Field(ge=5)]
    resolution_px: Annotated[int, Field(ge=32, le=512)]
    fps: Positive
    shapes: list[Literal["circle", "square", "triangle", "line"]]
    colors: list[Literal["red", "green", "blue", "yellow", "magenta", "cyan", "white", "orange"]]
    motions: list[Literal["right", "left", "down", "up", "expanding", "shrinking", "clockwise", "counterclockwise"]]
    size_range: Range
    line_length_range: Range
    travel_range: Range
    growth_range: Range
    rotation_range_deg: Range
    rotation_weight: Positive
    background_range: Range
    test_share: Share
    validation_share: Share

    @model_validator(mode="after")
    def _ranges_ascend(self):
        ranges = [key for key in type(self).model_fields if "_range" in key]
        for key in ranges:
            low, high = getattr(self, key)
            if low > high:
                raise ValueError(f"{key}: the lower end {low} is above the upper end {high}")
        for key in ("shapes", "colors", "motions"):
            values = getattr(self, key)
            if len(set(values)) != len(values) or len(values) < 2:
                raise ValueError(f"{key}: at least two values, none twice; got {values}")
        return self


class Expectation(Section):
    """One rule of the data gate on one column of the clip table. ``level: off`` disables it."""

    level: Literal["error", "warning", "off"]
    min: float | None = None
    max: float | None = None


class Expectations(Section):
    """The data gate (stage validate-data): bounds per measurement, and the level of each."""

    num_frames: Expectation
    side_px: Expectation
    duration_s: Expectation
    brightness: Expectation
    contrast: Expectation
    sharpness: Expectation
    motion: Expectation
    frozen_share: Expectation
    black_share: Expectation
    caption_length: Expectation
    duplicate: Expectation


class Data(Section):
    """Which clips, and how recordings become clips (stage validate-data)."""

    source: Literal["samples", "videos", "mix"]
    samples_weight: Share
    license: str
    height_px: Annotated[int, Field(ge=32, le=2048)]
    width_px: Annotated[int, Field(ge=32, le=2048)]
    num_frames: Positive
    fps: Annotated[float, Field(gt=0, le=120)]
    resize: Literal["crop", "pad", "stretch"]
    window_stride_frames: Positive
    max_windows: Positive
    scene_threshold: Annotated[float, Field(gt=0)]
    seed: int
    validation_share: Share
    test_share: Share
    expectations: Expectations

    @property
    def clip_settings(self) -> dict:
        """The settings that decide a clip's pixels, once the manifest says where it lies."""
        return self.model_dump(mode="json", include={"height_px", "width_px", "num_frames", "fps", "resize"})


class Augment(Section):
    """Further versions of training clips, with captions that are true of them (stage encode)."""

    versions: Annotated[int, Field(ge=0, le=16)]
    flip_horizontal: bool
    flip_vertical: bool
    reverse: bool
    crop_share: Annotated[float, Field(ge=0, le=0.5)]
    color_shift: Annotated[float, Field(ge=0, le=0.5)]
    min_speed: Annotated[float, Field(ge=0.5, le=1)]
    seed: int


class Phase(Section):
    """A part of the autoencoder's training on clips of this many frames, whole or cropped."""

    frames: Positive
    crop_px: Positive | None
    steps: Annotated[int, Field(ge=0)]
    batch_size: Positive


class Autoencoder(Section):
    """The 3D causal autoencoder (stage fit-autoencoder)."""

    source: str | None
    subfolder: str | None
    latent_channels: Positive
    block_out_channels: list[Positive]
    layers_per_block: Positive
    temporal_compression: Literal[1, 2, 4]
    phases: list[Phase]
    max_clips: Positive
    learning_rate: Annotated[float, Field(gt=0)]
    warmup_steps: Annotated[int, Field(ge=0)]
    l1_weight: Annotated[float, Field(ge=0)]
    kl_weight: Annotated[float, Field(ge=0)]
    save_every_steps: Positive
    tiling: bool
    seed: int
    precision: Precision
    device: Device

    @property
    def spatial_compression(self) -> int:
        """Pixels per latent along height and width: every block but the last halves both."""
        return 2 ** (len(self.block_out_channels) - 1)


class Encode(Section):
    """Latents and captions made once (stage encode)."""

    shard_clips: Positive
    batch_size: Positive
    vocabulary_size: Annotated[int, Field(ge=64)]
    precision: Precision
    device: Device


class TextEncoder(Section):
    """The family's text encoders: a path or hub id is frozen.

    ``source: null`` takes those of `Model.source`, or makes new ones: CogVideoX's is trained along, others are frozen.
    """

    source: str | None
    subfolder: str | None
    width: Positive
    num_layers: Positive
    num_heads: Positive
    max_tokens: Positive
    short_tokens: Positive
    long_share: Share


class Model(Section):
    """The transformer and its text encoder. ``source``: a pretrained pipeline, whose shapes replace the sizes here."""

    family: FamilyName
    source: str | None
    num_layers: Annotated[int, Field(ge=1, le=64)]
    num_attention_heads: Annotated[int, Field(ge=1, le=64)]
    attention_head_dim: Annotated[int, Field(ge=16)]
    patch_size: Literal[1, 2, 4]
    patch_size_t: Literal[1, 2]
    time_embed_dim: Positive
    text_encoder: TextEncoder


class Lora(Section):
    """Low-rank adapters (Hu et al. 2021): ``alpha / rank`` scales what they add. ``targets: null``: the attention's."""

    rank: Positive
    alpha: Positive
    targets: list[str] | None

    @field_validator("targets")
    @classmethod
    def _some_targets(cls, targets: list[str] | None) -> list[str] | None:
        if targets is not None and not targets:
            raise ValueError("none named, so nothing would be trained: use null for the attention's projections")
        return targets


class Loss(Section):
    """The weights of the training loss's terms, and where Huber's goes from squared to absolute."""

    mse: NotNegative
    l1: NotNegative
    huber: NotNegative
    huber_delta: Annotated[float, Field(gt=0)]


class Guidance(Section):
    """Predictions that are trained as a sampler's guidance makes them: `reelmill.training.guidance`.

    ``share`` and ``start`` are shares, from 0 to 1, of the clips and of the steps; a scale of 1 would be no guidance.
    """

    share: Share
    scale: Annotated[float, Field(gt=1)]
    start: Annotated[float, Field(ge=0, lt=1)]


class Train(Section):
    """Training of the transformer (stage train). The schedule counts optimizer steps."""

    mode: Literal["full", "lora"]
    lora: Lora
    objective: Literal["flow", "flow_clean", "v_prediction"]
    timestep_sampling: Literal["uniform", "logit_normal"]
    shift: Annotated[float, Field(gt=0)]
    loss: Loss
    loss_weighting: LossWeighting
    epochs: Positive
    coarse_share: Annotated[float, Field(ge=0, lt=1)]
    batch_size: Positive
    gradient_accumulation_steps: Positive
    optimizer: OptimizerName
    learning_rate: Annotated[float, Field(gt=0)]
    adamw_learning_rate: Annotated[float, Field(gt=0)]
    weight_decay: Annotated[float, Field(ge=0)]
    warmup_steps: Annotated[int, Field(ge=0)]
    schedule: Literal["constant", "linear", "cosine"]
    max_grad_norm: Annotated[float, Field(gt=0)]
    gradient_checkpointing: bool
    compile: bool
    num_processes: Positive
    sharding: Literal["none", "full"]
    caption_dropout: Share
    guidance: Guidance
    ema_decay: Annotated[float, Field(ge=0, lt=1)]
    validation_clips: Positive
    accuracy_videos: Annotated[int, Field(ge=0)]
    validate_every_steps: Annotated[int, Field(ge=0)]
    save_every_steps: Positive
    keep_checkpoints: Positive
    publish: Literal["best", "last"]
    preview_every_steps: Annotated[int, Field(ge=0)]
    preview_prompts: list[str]
    seed: int
    precision: Precision
    device: Device


class Sampling(Section):
    """How videos are sampled: written into the model card, used by previews and generate."""

    scheduler: Scheduler | Literal["source"]
    num_inference_steps: Positive
    guidance_scale: Annotated[float, Field(ge=1)]
    fps: Positive


class Generate(Section):
    """The evaluated videos (stage generate)."""

    prompts: list[str]
    num_seen: Annotated[int, Field(ge=0)]
    num_held_out: Annotated[int, Field(ge=0)]
    num_rephrased: Annotated[int, Field(ge=0)]
    seeds: list[int]
    scheduler: Scheduler | None
    num_inference_steps: Positive | None
    guidance_scale: Annotated[float, Field(ge=1)] | None
    batch_size: Positive
    precision: Precision
    device: Device

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) != len(seeds):
            raise ValueError(f"each seed once: a repeated one gives the same video and counts twice; got {seeds}")
        return seeds


class Evaluate(Section):
    """Evidence (stage evaluate)."""

    clip_model: str | None
    num_calibration_clips: Positive
    loss_clips: Positive
    confidence: Annotated[float, Field(gt=0.5, lt=1)]
    seed: int
    device: Device


class Promotion(Section):
    """When a challenger takes the champion's place (flow retrain)."""

    metric: Literal["auto", "accuracy", "clean_error"]
    group: Literal["held_out", "seen", "rephrased"]
    confidence: Annotated[float, Field(gt=0.5, lt=1)]
    min_gain: float
    min_accuracy: Share
    max_clean_error: Annotated[float, Field(gt=0)]
    max_flicker_ratio: Annotated[float, Field(gt=0)]
    max_clean_error_ratio: Annotated[float, Field(gt=0)]
    min_diversity_ratio: Annotated[float, Field(ge=0)]


class Retrain(Section):
    """The flow that keeps the model current."""

    model_name: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    start: Literal["scratch", "champion"]
    stage_timeout_s: Positive
    wait_s: Annotated[int, Field(ge=0)]
    commit_lock: bool
    lock_branch: Annotated[str, Field(pattern=r"^[\w./-]+$")]
    cron: str
    watch_interval_s: Positive
    settle_s: Annotated[int, Field(ge=0)]


class Compute(Section):
    """What all computing stages share."""

    deterministic: bool


class Tracking(Section):
    """MLflow. ``MLFLOW_TRACKING_URI`` overrides where the store is."""

    experiment: str
    flush_every_s: Annotated[float, Field(gt=0)]


class Params(Section):
    """The whole params.yaml."""

    samples: Samples
    data: Data
    augment: Augment
    autoencoder: Autoencoder
    encode: Encode
    model: Model
    train: Train
    sampling: Sampling
    generate: Generate
    evaluate: Evaluate
    promotion: Promotion
    retrain: Retrain
    compute: Compute
    tracking: Tracking

    @property
    def autoencoder_source(self) -> tuple[str, str | None] | None:
        """Source and subfolder of a pretrained autoencoder; None where it is made from scratch."""
        if self.autoencoder.source is not None:
            return self.autoencoder.source, self.autoencoder.subfolder
        return None if self.model.source is None else (self.model.source, "vae")

    @property
    def text_source(self) -> tuple[str, str | None] | None:
        """Source and subfolder of pretrained text encoders; None where they are made from scratch."""
        text = self.model.text_encoder
        if text.source is not None:
            return text.source, text.subfolder
        return None if self.model.source is None else (self.model.source, None)

    @property
    def trains_text(self) -> bool:
        """Whether the text encoder is trained along with the transformer."""
        return self.model.family == "cogvideox" and self.text_source is None

    @model_validator(mode="after")
    def _rules_between_sections(self):
        from reelmill.rules import check_rules

        check_rules(self)
        return self


def load_params(path: Path = Path("params.yaml")) -> Params:
    """Read and check every setting.

    Raises:
        UserError: naming the file and each offending key, what was given and what is allowed.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{path}: not found. Run from the repository's root, or restore it with `git checkout {path}`."
        ) from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {error}") from None
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        raise UserError(explain(path, error)) from None
