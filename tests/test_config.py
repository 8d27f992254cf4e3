from pathlib import Path

import pytest
import yaml

from reelmill.config import Params, load_params
from reelmill.errors import UserError
from reelmill.presets import names, write_preset
from reelmill.settings import change

ROOT = Path(__file__).parent.parent


def changed(tmp_path, section, **values):
    raw = yaml.safe_load((ROOT / "presets/default.yaml").read_text())
    raw[section].update(values)
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


def test_committed_settings_are_the_default_preset():
    assert yaml.safe_load((ROOT / "params.yaml").read_text()) == yaml.safe_load(
        (ROOT / "presets/default.yaml").read_text()
    )


def test_preset_does_not_replace_settings_of_the_users_own(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    path = tmp_path / "params.yaml"
    write_preset("smoke", path)
    write_preset("default", path)  # nobody's settings are lost
    change(path, {"data.license": "mine, null: no"})
    mine = path.read_text()
    with pytest.raises(UserError, match="settings of your own"):
        write_preset("smoke", path)
    assert path.read_text() == mine
    path.write_text("torn: [")
    with pytest.raises(UserError, match="settings of your own"):
        write_preset("smoke", path)
    write_preset("smoke", path, force=True)
    assert load_params(path).data.license != "mine, null: no"


def test_change_keeps_comments_and_refuses_unknown_keys_whole(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("a: # why\n  b: 1 # unit\n  c: null\n")
    change(path, {"a.b": 2})
    assert path.read_text() == "a: # why\n  b: 2 # unit\n  c: null\n"
    with pytest.raises(UserError, match=r"a\.d: no such setting"):
        change(path, {"a.b": 3, "a.d": 1})
    assert "b: 2" in path.read_text()


@pytest.mark.parametrize("name", [p.stem for p in (ROOT / "presets").glob("*.yaml")])
def test_every_preset_checks(name, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    write_preset(name, tmp_path / "params.yaml")
    assert isinstance(load_params(tmp_path / "params.yaml"), Params)
    assert name in names()


def test_sides_of_a_pretrained_model_leave_the_last_word_to_its_source(tmp_path):
    path = tmp_path / "params.yaml"
    write_preset("cogvideox-2b-lora", path)
    change(path, {"data.height_px": 484})
    with pytest.raises(UserError, match=r"multiple of 8 .*the source may ask for more, which validate-data says"):
        load_params(path)


@pytest.mark.parametrize(
    ("section", "values", "text"),
    [
        ("train", {"learning_rat": 1.0}, "train.learning_rat: unknown setting"),
        ("train", {"learning_rate": "fast"}, r"train.learning_rate: .*number.*got 'fast'"),
        ("train", {"epochs": 0}, r"train.epochs: .* \(got 0\)"),
        ("data", {"num_frames": 12}, "nearest: 9 or 16"),
        ("data", {"height_px": 60}, "data.height_px: 60: .*nearest: 48 or 64"),
        ("model", {"attention_head_dim": 24}, "nearest: 16 or 32"),
        ("train", {"loss_weighting": "min_snr"}, "min_snr is for objective v_prediction"),
        ("train", {"loss_weighting": "logit_normal"}, "count twice: set train.timestep_sampling: uniform"),
        (
            "train",
            {"loss_weighting": "logit_normal", "objective": "v_prediction", "shift": 1.0},
            "logit_normal is for objective flow",
        ),
        ("train", {"loss": {"mse": 0, "l1": 0, "huber": 0, "huber_delta": 1}}, "all weigh 0.*nearest: mse 1.0"),
        ("train", {"optimizer": "schedule_free"}, "train.schedule: linear: .*use constant"),
        ("train", {"optimizer": "schedule_free", "schedule": "constant"}, "train.ema_decay: 0.995: .*use 0"),
        ("augment", {"flip_horizontal": True}, "augment.versions: 0: .*nearest: 1"),
        ("augment", {"versions": 2}, "augment.versions: 2: none .*nearest: 0"),
        ("train", {"num_processes": 3}, "batch_size: 32: .*num_processes 3.*nearest: 30 or 33"),
        ("train", {"num_processes": 20}, "batch_size: 32: .*nearest: 20 or 40"),
        ("train", {"sharding": "full"}, "sharding: full: with num_processes 1 .*nearest: none"),
        ("train", {"sharding": "full", "num_processes": 2, "optimizer": "adamw8bit"}, "adamw8bit needs whole weights"),
        ("train", {"sharding": "full", "num_processes": 2, "compile": True}, "not with train.compile"),
        ("train", {"objective": "v_prediction", "batch_size": 0}, r"batch_size: .*nearest: 1 \(got 0\)"),
        ("generate", {"scheduler": "ddim"}, "generate.scheduler: ddim .* or euler"),
        ("model", {"num_attention_heads": 65}, r"num_attention_heads: .*nearest: 64 \(got 65\)"),
        ("model", {"patch_size_t": 3}, r"patch_size_t: .*nearest: 2 \(got 3\)"),
        ("model", {"patch_size": 3}, r"patch_size: .*nearest: 2 \(got 3\)"),
        ("autoencoder", {"temporal_compression": 8}, r"temporal_compression: .*nearest: 4 \(got 8\)"),
        ("sampling", {"scheduler": "ddim"}, "with flow_clean use unipc or dpmsolver"),
        ("autoencoder", {"block_out_channels": [16, 20, 32]}, "block_out_channels.1: 20: .*nearest: 16 or 24"),
        ("autoencoder", {"block_out_channels": [16, 32]}, "needs 3 blocks"),
        (
            "autoencoder",
            {"phases": [{"frames": 17, "steps": 1, "batch_size": 1, "crop_px": 30}]},
            "phases.0.crop_px: 30: .*nearest: 32 or 40",
        ),
        (
            "autoencoder",
            {"phases": [{"frames": 17, "steps": 1, "batch_size": 1, "crop_px": 64}]},
            "phases.0.crop_px: 64: is no crop",
        ),
        (
            "autoencoder",
            {"phases": [{"frames": 17, "steps": 1, "batch_size": 1, "crop_px": 32}]},
            "last phase with steps has crop_px 32",
        ),
        ("samples", {"fps": 12}, "samples.fps 12"),
        ("train", {"mode": "lora"}, "adapts a pretrained model, and model.source is null"),
        ("sampling", {"scheduler": "source"}, "one of a pretrained model.source, which is null"),
    ],
)
def test_wrong_setting_names_key_rule_and_nearest(tmp_path, section, values, text):
    with pytest.raises(UserError, match=text):
        load_params(changed(tmp_path, section, **values))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"model.family": "wan", "data.num_frames": 16}, r"data.num_frames: 16: must be 4k\+1.*nearest: 13 or 17"),
        (
            {"model.family": "wan", "data.height_px": 72},
            "data.height_px: 72: must be a multiple of 16.*nearest: 64 or 80",
        ),
        ({"model.family": "wan", "model.patch_size_t": 2}, "model.patch_size_t: 2: .* 17 are 5 of them; nearest: 1"),
        ({"model.family": "wan", "train.objective": "v_prediction"}, "family wan is trained with flow"),
        ({"model.family": "wan", "autoencoder.temporal_compression": 2}, "has 4 and no other; nearest: 4"),
        (
            {"model.family": "wan", "autoencoder.block_out_channels": [16, 24, 32]},
            "1: 24: .*first, 16; nearest: 16 or 32",
        ),
        (
            {"model.family": "hunyuan_video", "train.objective": "flow", "sampling.scheduler": "dpmsolver"},
            "hunyuan_video use unipc or euler",
        ),
        (
            {"train.objective": "v_prediction", "train.shift": 3.0},
            "unipc: knows no train.shift .*3: use ddim, or source, or train.shift 1",
        ),
        (
            {"train.coarse_share": 0.5, "data.height_px": 80, "data.width_px": 80},
            "data.height_px: 80: latents at half of it .*nearest: 64 or 96",
        ),
        (
            {"train.coarse_share": 0.5, "model.source": "a/b", "train.mode": "full"},
            "coarse_share: 0.5: is for training from scratch",
        ),
        (
            {"model.source": "a/b", "train.mode": "lora", "train.lora.targets": []},
            "none named, so nothing would be trained",
        ),
    ],
)
def test_setting_that_does_not_fit_the_family_names_the_rule(tmp_path, changes, text):
    path = changed(tmp_path, "train")
    change(path, changes)
    with pytest.raises(UserError, match=text):
        load_params(path)


def test_number_without_a_dot_is_a_number(tmp_path):
    """YAML 1.1 reads 1e-4 as a string; nobody should have to know."""
    assert load_params(changed(tmp_path, "train", learning_rate="1e-4")).train.learning_rate == 1e-4


def test_missing_file_says_what_to_do(tmp_path):
    with pytest.raises(UserError, match="Run from the repository's root"):
        load_params(tmp_path / "params.yaml")
