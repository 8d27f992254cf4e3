"""Where a retraining starts from."""

import shutil

import pytest
from benchmarks.workspace import ROOT
from flows import start
from flows.pipeline import STAGES

from reelmill.config import load_params
from reelmill.settings import change
from reelmill.tracking.registry import Version

CHAMPION = Version("reelmill", "3", "abcdef0123456789" * 4, "run")


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """A workspace's settings that ask for the champion, and a registry that has it."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "presets/default.yaml", tmp_path / "params.yaml")
    change(tmp_path / "params.yaml", {"retrain.start": "champion"})
    monkeypatch.setattr(start.registry, "fetch", lambda _params, _version, target: target.mkdir(parents=True))
    monkeypatch.setattr(start, "first_changed", lambda: 1)
    return load_params()


def test_champion_becomes_the_source_under_its_own_hash(settings, tmp_path):
    (tmp_path / "models/start/older").mkdir(parents=True)
    trained_with = start.start_settings(settings, CHAMPION)
    assert trained_with.model.source == "models/start/abcdef012345"
    assert load_params() == trained_with
    assert [path.name for path in (tmp_path / "models/start").iterdir()] == ["abcdef012345"]


def test_without_a_champion_or_from_scratch_the_settings_stay(settings):
    assert start.start_settings(settings, None) == settings
    change(start.SETTINGS, {"retrain.start": "scratch"})
    assert start.start_settings(load_params(), CHAMPION).model.source is None


def test_a_night_without_change_stays_one(settings, monkeypatch):
    monkeypatch.setattr(start, "first_changed", lambda: len(STAGES))
    assert start.start_settings(settings, CHAMPION) == settings
