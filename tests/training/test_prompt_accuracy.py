"""The share of prompts that are obeyed, on the way of training."""

import numpy as np
import pytest
from benchmarks.workspace import ROOT

from reelmill.config import load_params
from reelmill.data.manifest import load_manifest
from reelmill.data.samples import Combination, draw_clip
from reelmill.training import prompt_accuracy
from reelmill.training.prompt_accuracy import PromptAccuracy


@pytest.fixture
def measured(in_trained):
    return PromptAccuracy(load_params())


def test_prompts_are_of_validation_clips_alone(measured):
    captions = {clip.caption for clip in load_manifest() if clip.split == "validation"}
    assert len(measured.prompts) == 2
    assert set(measured.prompts) <= captions


def test_obedient_videos_count_as_right_and_blank_ones_as_wrong(measured, monkeypatch):
    samples = load_params(ROOT / "presets/default.yaml").samples
    drawn = [draw_clip(samples, Combination(w.shape, w.color, w.motion), str(w)) for w in measured.wanted]
    monkeypatch.setattr(prompt_accuracy, "sample", lambda *_: iter(drawn))
    assert set(measured.measure(None, None).values()) == {1.0}
    monkeypatch.setattr(prompt_accuracy, "sample", lambda *_: iter([drawn[0], np.zeros_like(drawn[1])]))
    assert measured.measure(None, None)["joint_accuracy"] == 0.5


def test_history_and_checkpoints_carry_the_accuracies(in_trained):
    header = (in_trained / "results/train/validation.csv").read_text().splitlines()[0].split(",")
    assert {f"validation_{name}_accuracy" for name in ("color", "motion", "shape", "joint")} <= set(header)


def test_few_videos_are_in_memory_at_once(in_trained):
    params = load_params()
    large = params.model_copy(update={"train": params.train.model_copy(update={"batch_size": 64})})
    assert PromptAccuracy(large).batch_size == prompt_accuracy.MAX_AT_ONCE


def test_no_videos_wanted_no_figures(in_trained):
    params = load_params()
    none = params.model_copy(update={"train": params.train.model_copy(update={"accuracy_videos": 0})})
    assert PromptAccuracy(none).measure(None, None) == {}
