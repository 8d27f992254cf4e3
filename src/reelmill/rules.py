"""Rules that tie settings together, checked before anything is loaded or trained."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reelmill.config import Params

STARTS = Path("models/start")  # where a retraining puts the champion's weights to go on from
NORM_GROUPS = 8  # of the autoencoder's group normalisation
_FRAMES = {"cogvideox": (8, (0, 1)), "wan": (4, (1,)), "hunyuan_video": (4, (1,))}  # counts' remainders by a modulus
_SIDE_PX = {"cogvideox": 8, "wan": 16, "hunyuan_video": 16}  # what the pipeline asks sides to be multiples of
_OBJECTIVES = {
    "cogvideox": ("flow", "flow_clean", "v_prediction"),
    "wan": ("flow", "flow_clean"),
    "hunyuan_video": ("flow",),  # the Euler sampler that its pipeline is published with knows velocities alone
}
_SAMPLERS = {
    "cogvideox": ("unipc", "dpmsolver", "euler", "ddim"),
    "wan": ("unipc", "dpmsolver", "euler"),
    "hunyuan_video": ("unipc", "euler"),  # its pipeline hands over noise levels, which the others do not take
}


def check_rules(params: "Params") -> None:
    """Raise ``ValueError`` with the rule, the value and the nearest valid one."""
    _check_family(params)
    _check_autoencoder(params)
    _check_shape(params)
    _check_model(params)
    _check_augment(params)
    _check_coarse(params)
    _check_loss(params)
    _check_optimizer(params)
    _check_processes(params)
    _check_schedulers(params)
    _check_sources(params)


def _check_family(params: "Params") -> None:
    family, model, train = params.model.family, params.model, params.train
    if train.objective not in _OBJECTIVES[family]:
        raise ValueError(
            f"train.objective: {train.objective}: family {family} is trained with {' or '.join(_OBJECTIVES[family])}: set flow"
        )
    if train.mode == "lora" and params.retrain.start == "champion":
        raise ValueError(
            "retrain.start: champion: goes on with all of its weights, and train.mode is lora, which trains a new adapter: use scratch, or mode full"
        )
    if train.mode == "lora" and model.source is None:
        raise ValueError(
            "train.mode: lora: adapts a pretrained model, and model.source is null: name a pipeline there, or use mode full"
        )
    for key, sampler in (
        ("sampling.scheduler", params.sampling.scheduler),
        ("generate.scheduler", params.generate.scheduler),
    ):
        if sampler is None or (sampler == "source" and model.source is not None):
            continue
        if sampler not in _SAMPLERS[family]:
            nearest = "one of a pretrained model.source, which is null" if sampler == "source" else "not one of its own"
            raise ValueError(f"{key}: {sampler}: {nearest}; for family {family} use {' or '.join(_SAMPLERS[family])}")
        if train.objective == "v_prediction" and train.shift != 1 and sampler != "ddim":
            raise ValueError(
                f"{key}: {sampler}: knows no train.shift of the v_prediction schedule, which is {train.shift:g}: use ddim, or source, or train.shift 1"
            )
    if family != "cogvideox" and params.autoencoder_source is None and params.autoencoder.temporal_compression != 4:
        raise ValueError(
            f"autoencoder.temporal_compression: {params.autoencoder.temporal_compression}: family {family} has 4 and no other; nearest: 4"
        )


def _fits(frames: int, family: str) -> bool:
    modulus, remainders = _FRAMES[family]
    return frames == 1 or frames % modulus in remainders


def _check_shape(params: "Params") -> None:
    data, autoencoder, family = params.data, params.autoencoder, params.model.family
    frames = data.num_frames
    counts = "1, 8k or 8k+1" if family == "cogvideox" else "4k+1"
    if not _fits(frames, family):
        low = next(count for count in range(frames, 0, -1) if count % _FRAMES[family][0] == 1)
        high = next(count for count in range(frames, frames + 9) if _fits(count, family))
        raise ValueError(
            f"data.num_frames: {frames}: must be {counts}, or the autoencoder gives back other counts; nearest: {low} or {high}"
        )
    # A pretrained model's compression stands in its configuration: validate-data looks there before it cuts clips.
    multiple, reason = _SIDE_PX[family], "the pipeline's; the source may ask for more, which validate-data says"
    if params.autoencoder_source is None:
        spatial, patch = autoencoder.spatial_compression, params.model.patch_size
        multiple = max(multiple, spatial * patch)
        reason = f"{_SIDE_PX[family]}, and spatial compression {spatial} x patch_size {patch}"
    for key in ("height_px", "width_px"):
        side = getattr(data, key)
        if side % multiple:
            low = max(multiple, side // multiple * multiple)
            raise ValueError(
                f"data.{key}: {side}: must be a multiple of {multiple} ({reason}); nearest: {low} or {low + multiple}"
            )
    _check_latent_frames(params)
    for index, phase in enumerate(autoencoder.phases):
        if params.autoencoder_source is None and (phase.frames > frames or not _fits(phase.frames, family)):
            raise ValueError(
                f"autoencoder.phases.{index}.frames: {phase.frames}: must be {counts} and at most data.num_frames {frames}"
            )
    if params.autoencoder_source is None:
        _check_crops(params)


def _check_latent_frames(params: "Params") -> None:
    model = params.model
    if params.autoencoder_source is not None:
        return  # its compression stands in its configuration: validate-data looks there
    latents = (params.data.num_frames - 1) // params.autoencoder.temporal_compression + 1
    # CogVideoX's pipeline fills up what is not whole patches.
    if model.family != "cogvideox" and latents % model.patch_size_t:
        raise ValueError(
            f"model.patch_size_t: {model.patch_size_t}: family {model.family} needs whole patches of latent frames, and "
            f"data.num_frames {params.data.num_frames} are {latents} of them; nearest: 1"
        )


def _check_crops(params: "Params") -> None:
    autoencoder = params.autoencoder
    spatial = autoencoder.spatial_compression
    least, larger = 4 * spatial, max(params.data.height_px, params.data.width_px)
    for index, phase in enumerate(autoencoder.phases):
        if phase.crop_px is None:
            continue
        key = f"autoencoder.phases.{index}.crop_px: {phase.crop_px}"
        if phase.crop_px % spatial or phase.crop_px < least:
            low = max(least, phase.crop_px // spatial * spatial)
            raise ValueError(
                f"{key}: must be a multiple of the spatial compression {spatial}, at least {least}; "
                f"nearest: {low} or {low + spatial}"
            )
        if phase.crop_px >= larger:
            raise ValueError(
                f"{key}: is no crop of a frame whose larger side is {larger}: use null, or less than {larger}"
            )
    last = next((phase for phase in reversed(autoencoder.phases) if phase.steps), None)
    if last is not None and last.crop_px is not None:
        raise ValueError(
            f"autoencoder.phases: the last phase with steps has crop_px {last.crop_px}: it must be null, for group "
            "normalisation sees other statistics in a crop than in the whole frame"
        )


def _check_autoencoder(params: "Params") -> None:
    settings, first = params.autoencoder, params.autoencoder.block_out_channels[0]
    for index, channels in enumerate(settings.block_out_channels):
        if channels % NORM_GROUPS:
            raise ValueError(
                f"autoencoder.block_out_channels.{index}: {channels}: must be a multiple of {NORM_GROUPS} (group normalisation); "
                f"nearest: {max(NORM_GROUPS, channels // NORM_GROUPS * NORM_GROUPS)} or {channels // NORM_GROUPS * NORM_GROUPS + NORM_GROUPS}"
            )
        if params.model.family == "wan" and channels % first:
            raise ValueError(
                f"autoencoder.block_out_channels.{index}: {channels}: family wan has whole multiples of the first, {first}; "
                f"nearest: {max(1, channels // first) * first} or {(channels // first + 1) * first}"
            )
    halvings = {1: 0, 2: 1, 4: 2}[settings.temporal_compression]
    if len(settings.block_out_channels) - 1 < halvings:
        raise ValueError(
            f"autoencoder.temporal_compression: {settings.temporal_compression}: needs {halvings + 1} blocks, block_out_channels has "
            f"{len(settings.block_out_channels)}; nearest: temporal_compression {2 ** (len(settings.block_out_channels) - 1)}"
        )
    if params.autoencoder_source is None and not any(phase.steps for phase in settings.phases):
        raise ValueError("autoencoder.phases: no steps in any phase: an autoencoder made from scratch must be trained")


def _check_model(params: "Params") -> None:
    model, text = params.model, params.model.text_encoder
    if model.attention_head_dim % 16:
        low = model.attention_head_dim // 16 * 16
        raise ValueError(
            f"model.attention_head_dim: {model.attention_head_dim}: must be a multiple of 16 (rotary positions of three axes); "
            f"nearest: {max(16, low)} or {low + 16}"
        )
    if text.width % text.num_heads:
        raise ValueError(f"model.text_encoder.width: {text.width}: must be a multiple of num_heads {text.num_heads}")
    if text.short_tokens > text.max_tokens:
        raise ValueError(
            f"model.text_encoder.short_tokens: {text.short_tokens}: must be at most max_tokens {text.max_tokens}"
        )


def _check_augment(params: "Params") -> None:
    augment = params.augment
    flips = augment.flip_horizontal or augment.flip_vertical or augment.reverse
    changes = flips or augment.crop_share > 0 or augment.color_shift > 0 or augment.min_speed < 1
    if changes and not augment.versions:
        raise ValueError("augment.versions: 0: so no clip is changed, but a change is set; nearest: 1")
    if augment.versions and not changes:
        raise ValueError(f"augment.versions: {augment.versions}: none of augment's changes is set; nearest: 0")


def _check_coarse(params: "Params") -> None:
    share = params.train.coarse_share
    if not share:
        return
    # A retraining writes the champion there by itself, over settings that are meant for scratch: it has no coarse steps.
    source = params.model.source
    if source is not None and not Path(source).is_relative_to(STARTS):
        raise ValueError(
            f"train.coarse_share: {share:g}: is for training from scratch, and model.source is pretrained; nearest: 0"
        )
    # A pretrained model's compression stands in its configuration: validate-data looks there before it cuts clips.
    if params.autoencoder_source is None:
        multiple = 2 * params.autoencoder.spatial_compression * params.model.patch_size
        for key in ("height_px", "width_px"):
            side = getattr(params.data, key)
            if side % multiple:
                low = max(multiple, side // multiple * multiple)
                raise ValueError(
                    f"data.{key}: {side}: latents at half of it (train.coarse_share) must be whole patches: a multiple of "
                    f"{multiple}; nearest: {low} or {low + multiple}, or coarse_share 0"
                )


def _check_loss(params: "Params") -> None:
    train = params.train
    if not (train.loss.mse or train.loss.l1 or train.loss.huber):
        raise ValueError("train.loss: mse, l1 and huber all weigh 0: at least one must be above it; nearest: mse 1.0")
    if train.loss_weighting == "min_snr" and train.objective != "v_prediction":
        raise ValueError(
            "train.loss_weighting: min_snr is for objective v_prediction; with flow and flow_clean, timestep_sampling does the weighting: use none"
        )
    if train.loss_weighting == "logit_normal" and train.objective == "v_prediction":
        raise ValueError(
            "train.loss_weighting: logit_normal is for objective flow or flow_clean; with v_prediction use min_snr or none"
        )
    if train.loss_weighting == "logit_normal" and train.timestep_sampling != "uniform":
        raise ValueError(
            "train.loss_weighting: logit_normal: timestep_sampling logit_normal draws by that density already and it would "
            "count twice: set train.timestep_sampling: uniform, or loss_weighting: none"
        )


def _check_optimizer(params: "Params") -> None:
    train = params.train
    if train.optimizer != "schedule_free":
        return
    if train.schedule != "constant":
        raise ValueError(
            f"train.schedule: {train.schedule}: optimizer schedule_free takes the place of a falling rate: use constant (after the warm-up)"
        )
    if train.ema_decay:
        raise ValueError(
            f"train.ema_decay: {train.ema_decay}: optimizer schedule_free averages the weights itself, and that average is "
            "validated and published: use 0"
        )


def _check_processes(params: "Params") -> None:
    batch, processes = params.train.batch_size, params.train.num_processes
    if batch % processes:
        low = batch // processes * processes
        near = f"{low} or {low + processes}" if low else f"{processes}"
        raise ValueError(
            f"train.batch_size: {batch}: must be a multiple of num_processes {processes}, each takes an equal part; nearest: {near}"
        )
    if params.train.sharding == "none":
        return
    if processes == 1:
        raise ValueError("train.sharding: full: with num_processes 1 there is nobody to share with; nearest: none")
    if params.train.optimizer not in ("muon", "adamw"):
        raise ValueError(
            f"train.sharding: full: optimizer {params.train.optimizer} needs whole weights: use muon or adamw, or sharding: none"
        )
    if params.train.compile:
        raise ValueError("train.sharding: full: not with train.compile: true; set one of them to none or false")


def _check_schedulers(params: "Params") -> None:
    for key, scheduler in (
        ("sampling.scheduler", params.sampling.scheduler),
        ("generate.scheduler", params.generate.scheduler),
    ):
        if scheduler == "ddim" and params.train.objective != "v_prediction":
            raise ValueError(
                f"{key}: ddim is for objective v_prediction; with {params.train.objective} use unipc or dpmsolver or euler"
            )
        if scheduler == "euler" and params.train.objective == "v_prediction":
            raise ValueError(
                f"{key}: euler is for objective flow or flow_clean; with v_prediction use ddim, its step of first order"
            )


def _check_sources(params: "Params") -> None:
    if params.autoencoder.source is None and params.autoencoder.subfolder:
        raise ValueError(
            "autoencoder.subfolder: is of autoencoder.source, which is null: give the source, or null here too"
        )
    if params.model.text_encoder.source is None and params.model.text_encoder.subfolder:
        raise ValueError(
            "model.text_encoder.subfolder: is of its source, which is null: give the source, or null here too"
        )
    data = params.data
    if data.source != "videos" and (params.samples.fps != data.fps or params.samples.num_frames < data.num_frames):
        raise ValueError(
            f"samples.fps {params.samples.fps} and samples.num_frames {params.samples.num_frames} must give one window of data.num_frames "
            f"{data.num_frames} at data.fps {data.fps}: set them to the same values"
        )
