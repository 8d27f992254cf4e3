"""Every setting of the model and of its training does what it says: another value makes another run."""

from functools import lru_cache
from pathlib import Path

import pytest
import torch
from diffusers import CogVideoXTransformer3DModel
from test_settings_are_read import leaves
from training.short_run import AUTOENCODER, LATENTS, Heard, Interrupted, first_steps, params_with

from reelmill import diffusion
from reelmill.compute import choose_device
from reelmill.config import Model, Train, load_params
from reelmill.data.manifest import read_clip
from reelmill.errors import UserError
from reelmill.models.pretrained import load_autoencoder
from reelmill.storage import write_json
from reelmill.training import heldout
from reelmill.training.checkpoints import Checkpoints
from reelmill.training.loop import train

# (setting, another value, what it needs beside it): the weights and their average after four steps are others.
CHANGE_WEIGHTS: list[tuple[str, object, dict[str, object]]] = [
    ("model.num_layers", 2, {}),
    ("model.num_attention_heads", 4, {}),
    ("model.attention_head_dim", 32, {}),
    ("model.patch_size", 4, {}),
    ("model.patch_size_t", 1, {}),
    ("model.time_embed_dim", 64, {}),
    ("model.text_encoder.width", 64, {}),
    ("model.text_encoder.num_layers", 2, {}),
    ("model.text_encoder.num_heads", 4, {}),
    ("model.text_encoder.short_tokens", 40, {}),
    ("model.text_encoder.long_share", 1.0, {}),
    ("train.objective", "flow", {}),
    ("train.objective", "v_prediction", {}),
    ("train.timestep_sampling", "uniform", {}),
    ("train.shift", 3.0, {}),
    ("train.loss.mse", 2.0, {}),
    ("train.loss.l1", 1.0, {}),
    ("train.loss.huber", 1.0, {}),
    ("train.loss.huber_delta", 0.1, {"train.loss.huber": 1.0}),
    ("train.loss_weighting", "min_snr", {"train.objective": "v_prediction"}),
    ("train.loss_weighting", "logit_normal", {"train.timestep_sampling": "uniform"}),
    ("train.epochs", 9, {}),
    ("train.coarse_share", 0.5, {}),
    ("train.batch_size", 8, {}),
    ("train.gradient_accumulation_steps", 2, {}),
    ("train.optimizer", "adamw", {}),
    ("train.optimizer", "schedule_free", {"train.schedule": "constant", "train.ema_decay": 0.0}),
    ("train.learning_rate", 1.0e-3, {}),
    ("train.adamw_learning_rate", 1.0e-3, {}),
    ("train.weight_decay", 0.1, {}),
    ("train.warmup_steps", 4, {}),
    ("train.schedule", "linear", {}),
    ("train.max_grad_norm", 0.1, {}),
    ("train.caption_dropout", 0.9, {}),
    ("train.guidance.share", 1.0, {"train.guidance.share": 0.0, "train.guidance.start": 0.0}),
    ("train.guidance.scale", 3.0, {"train.guidance.share": 1.0, "train.guidance.start": 0.0}),
    ("train.guidance.start", 0.9, {"train.guidance.share": 1.0, "train.guidance.start": 0.0}),
    ("train.ema_decay", 0.05, {}),
    ("train.seed", 1, {}),
    ("train.precision", "bf16", {"train.precision": "fp32"}),
]
# The same for what is told, validated and kept of a whole run.
CHANGE_RUN: list[tuple[str, object]] = [
    ("train.validation_clips", 2),
    ("train.accuracy_videos", 1),
    ("train.validate_every_steps", 2),
    ("train.save_every_steps", 2),
    ("train.keep_checkpoints", 1),
    ("train.preview_every_steps", 2),
    ("train.preview_prompts", ["a red square", "a blue line"]),
]
ELSEWHERE = {
    "model.family": "test_finetuning.py",
    "model.source": "test_finetuning.py, test_base.py",
    "train.mode": "test_finetuning.py",
    "train.lora.rank": "test_finetuning.py, models/test_families.py",
    "train.lora.alpha": "test_finetuning.py: vanilla diffusers gives the same frames",
    "train.lora.targets": "models/test_families.py",
    "model.text_encoder.max_tokens": "the stage encode pads to it, and refuses longer captions",
    "model.text_encoder.source": "build_denoiser: another encoder, whose embeddings are checked by their hash",
    "model.text_encoder.subfolder": "where in the source",
    "train.gradient_checkpointing": "below: the same bytes",
    "train.compile": "below",
    "train.publish": "below",
    "train.device": "below",
    "train.num_processes": "test_processes.py: the same losses",
    "train.sharding": "test_processes.py: the same losses, and parts of the weights",
}


def test_every_setting_is_tried():
    tried = {key for key, *_ in CHANGE_WEIGHTS} | {key for key, _ in CHANGE_RUN} | set(ELSEWHERE)
    assert tried == {*leaves(Model, "model."), *leaves(Train, "train.")}


@pytest.fixture(scope="module")
def scratch(tmp_path_factory) -> Path:
    """One folder for what is computed once."""
    return tmp_path_factory.mktemp("scratch")


@pytest.mark.parametrize(("key", "value", "beside"), CHANGE_WEIGHTS)
def test_setting_changes_the_weights(in_trained, tmp_path, scratch, key, value, beside):
    others = first_steps(params_with(tmp_path, {**beside, key: value}), tmp_path, 4)[1]
    assert not _equal(_weights_with(tuple(beside.items()), scratch), others)


@lru_cache
def _weights_with(changes: tuple[tuple[str, object], ...], directory: Path) -> list[torch.Tensor]:
    return first_steps(params_with(directory, dict(changes)), directory, 4)[1]


def _equal(these: list[torch.Tensor], those: list[torch.Tensor]) -> bool:
    return len(these) == len(those) and all(map(torch.equal, these, those))


@pytest.fixture(scope="session")
def usual_run(trained, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(trained)
        return _whole_run(tmp_path_factory.mktemp("usual"), {}, patch)


@pytest.mark.parametrize(("key", "value"), CHANGE_RUN)
def test_setting_changes_the_run(in_trained, tmp_path, monkeypatch, usual_run, key, value):
    assert _whole_run(tmp_path, {key: value}, monkeypatch) != usual_run


def _whole_run(directory: Path, changes: dict[str, object], patch: pytest.MonkeyPatch) -> tuple:
    """What was told, validated and kept of one epoch."""
    patch.setattr(heldout, "read_clips", lambda clips, data: (read_clip(clip, data) for clip in clips))
    log = Heard()
    usual = {"train.epochs": 1, "train.validation_clips": 1, "train.accuracy_videos": 0, "train.preview_every_steps": 3}
    usual |= {"train.validate_every_steps": 3, "train.save_every_steps": 3, "sampling.num_inference_steps": 1}
    params = params_with(directory, usual | changes)
    _, record = train(params, LATENTS, load_autoencoder(AUTOENCODER), None, directory, log)
    kept = sorted(str(path.relative_to(directory)) for path in directory.glob("*/step-*"))
    return [row for row in log.told if row[1] not in ("iterations_per_s", "memory_mb")], record, kept


def test_nothing_is_validated_or_previewed_on_coarse_latents_alone(in_trained, tmp_path, monkeypatch):
    every_second = {"train.validate_every_steps": 2, "train.preview_every_steps": 2}
    told, record, _ = _whole_run(tmp_path, {**every_second, "train.coarse_share": 0.5}, monkeypatch)
    assert [row["step"] for row in record.validation] == [4, 6]  # three of the six steps are coarse
    assert {step for step, name in told if name.endswith(".mp4")} == {4, 6}


def test_gradient_checkpointing_keeps_fewer_activations_and_the_same_bytes(in_trained, tmp_path):
    _, weights = first_steps(load_params(), tmp_path)
    run, checkpointed = first_steps(params_with(tmp_path, {"train.gradient_checkpointing": True}), tmp_path)
    assert run.denoiser.transformer.is_gradient_checkpointing
    assert run.denoiser.text_encoder.is_gradient_checkpointing
    assert _equal(weights, checkpointed)


def test_compile_compiles_the_transformer(in_trained, tmp_path, monkeypatch):
    """With a stand-in for the compiler: torch's own takes minutes on the CPU."""
    graphs = []

    def compiler(graph: torch.fx.GraphModule, _: list) -> object:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(
        CogVideoXTransformer3DModel, "compile", lambda self: torch.nn.Module.compile(self, backend=compiler)
    )
    _, weights = first_steps(load_params(), tmp_path, 1)
    _, compiled = first_steps(params_with(tmp_path, {"train.compile": True}), tmp_path, 1)
    assert graphs
    for mine, theirs in zip(weights, compiled, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=0)


def test_publish_chooses_the_checkpoint(in_trained, tmp_path):
    checkpoints = Checkpoints(tmp_path, 2, diffusion.scheduler("flow", "unipc"), None)
    for step in (1, 2):
        write_json(checkpoints.path(step) / "figures.json", {"step": step})
    checkpoints.best = {"step": 1, "loss": 0.5}
    assert checkpoints.copy("best", tmp_path / "best") == {"step": 1}
    assert checkpoints.copy("last", tmp_path / "last") == {"step": 2}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to use")
def test_device_that_is_not_there_is_refused(in_trained, tmp_path):
    with pytest.raises(UserError, match=r"device: cuda: .*no GPU"):
        choose_device(params_with(tmp_path, {"train.device": "cuda"}).train.device)


@pytest.mark.parametrize(
    "changes",
    [
        {"train.optimizer": "schedule_free", "train.schedule": "constant", "train.ema_decay": 0.0},
        {"train.loss": {"mse": 0.5, "l1": 0.2, "huber": 1.0, "huber_delta": 0.1}, "train.gradient_checkpointing": True},
        {"train.coarse_share": 0.7},
        {"train.guidance": {"share": 0.5, "scale": 6.0, "start": 0.5}},
    ],
    ids=["schedule_free", "losses", "coarse", "guidance"],
)
def test_interrupted_run_ends_as_if_it_never_was(in_trained, tmp_path, monkeypatch, changes):
    monkeypatch.setattr(heldout, "read_clips", lambda clips, data: (read_clip(clip, data) for clip in clips))
    usual = {"train.epochs": 1, "train.validation_clips": 1, "train.accuracy_videos": 0, "train.save_every_steps": 2}
    params = params_with(tmp_path, {**usual, "train.validate_every_steps": 3, **changes})
    straight, resumed = tmp_path / "straight", tmp_path / "resumed"
    _, expected = train(params, LATENTS, load_autoencoder(AUTOENCODER), None, straight, Heard())
    with pytest.raises(Interrupted):
        train(params, LATENTS, load_autoencoder(AUTOENCODER), None, resumed, Heard(until=5))
    _, record = train(params, LATENTS, load_autoencoder(AUTOENCODER), None, resumed, Heard())
    assert record == expected
    weights = "checkpoints/step-00000006/transformer/diffusion_pytorch_model.safetensors"
    assert (resumed / weights).read_bytes() == (straight / weights).read_bytes()
