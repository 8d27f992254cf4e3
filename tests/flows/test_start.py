"""Where a retraining starts from."""

import shutil

import pytest
from benchmarks.workspace import ROOT
from flows import start
from flows.pipeline import STAGES

from reelmill.config import load_params
from reelmill.errors import UserError
from reelmill.settings import change
from reelmill.tracking.registry import Version

CHAMPION = Version("reelmill", "3", "abcdef0123456789" * 4, "run")


def _fetch(_params, _version, target, file: str = "model_index.json") -> None:
    target.mkdir(parents=True)
    (target / file).write_text("{}")


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """A workspace's settings that ask for the champion, and a registry that has it."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "presets/default.yaml", tmp_path / "params.yaml")
    change(tmp_path / "params.yaml", {"retrain.start": "champion"})
    monkeypatch.setattr(start.registry, "fetch", _fetch)
    return load_params()


def test_champion_becomes_the_source_under_its_own_hash(settings, tmp_path):
    (tmp_path / "models/start/older").mkdir(parents=True)
    trained_with = start.start_settings(settings, CHAMPION, begin=1)
    assert trained_with.model.source == "models/start/abcdef012345"
    assert load_params() == trained_with
    assert [path.name for path in (tmp_path / "models/start").iterdir()] == ["abcdef012345"]


def test_without_a_champion_or_from_scratch_the_settings_stay(settings):
    assert start.start_settings(settings, None, begin=1) == settings
    change(start.SETTINGS, {"retrain.start": "scratch"})
    assert start.start_settings(load_params(), CHAMPION, begin=1).model.source is None


def test_a_night_without_change_stays_one(settings):
    assert start.start_settings(settings, CHAMPION, begin=len(STAGES)) == settings


def test_settings_after_the_training_move_on_to_no_newer_champion(settings):
    assert start.start_settings(settings, CHAMPION, begin=STAGES.index("generate")) == settings


def test_scratch_takes_the_champion_out_again(settings):
    start.start_settings(settings, CHAMPION, begin=1)
    change(start.SETTINGS, {"retrain.start": "scratch"})
    assert start.start_settings(load_params(), CHAMPION, begin=1).model.source is None
    assert load_params().model.source is None


def test_a_source_of_the_users_own_gives_way_with_its_subfolder(settings):
    change(start.SETTINGS, {"autoencoder.source": "somewhere", "autoencoder.subfolder": "vae"})
    assert start.start_settings(load_params(), CHAMPION, begin=1).autoencoder.subfolder is None


def test_a_lora_is_no_start(settings, monkeypatch):
    monkeypatch.setattr(start.registry, "fetch", lambda *arguments: _fetch(*arguments, file="base.json"))
    with pytest.raises(UserError, match="is a LoRA"):
        start.start_settings(settings, CHAMPION, begin=1)
    assert load_params() == settings
