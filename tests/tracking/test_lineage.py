"""Hashes and settings of a run."""

import subprocess
from pathlib import Path

from tracked_workspace import with_settings, write_generated, write_manifest

from reelmill.storage import write_json, write_text
from reelmill.tracking.lineage import (
    evaluation_hash,
    flatten,
    history_points,
    loggable_params,
    model_hash,
    stage_metrics,
    training_tags,
    videos_hash,
)


def test_flatten_names_nested_settings():
    nested = {"train": {"rate": 0.5, "prompts": ["a", "b"], "model": {"source": None, "name": "x"}}}
    assert flatten(nested) == {
        "train.rate": "0.5",
        "train.prompts": '["a", "b"]',
        "train.model.source": "null",
        "train.model.name": "x",
    }


def test_value_over_the_limit_is_cut_and_said(params):
    long = with_settings(params, "generate", prompts=["p" * 4000, "q" * 4000])
    value = loggable_params(long, ("generate",))["generate.prompts"]
    assert len(value) == 6000
    assert "(cut, sha256 " in value
    assert training_tags(long, "k", Path("."))["reelmill.cut_params"] == "generate.prompts"


def test_model_hash_is_of_the_weights_alone(workspace):
    before = model_hash(Path("models/pipeline"))
    write_text(Path("models/pipeline/README.md"), "card")
    assert model_hash(Path("models/pipeline")) == before
    write_text(Path("models/pipeline/transformer/model.safetensors"), "weights two")
    assert model_hash(Path("models/pipeline")) != before


def test_evaluation_hash_is_of_the_yardstick_not_of_the_model(params):
    before = evaluation_hash(params, Path("."))
    write_generated("other video")
    write_text(Path("models/pipeline/transformer/model.safetensors"), "weights two")
    write_manifest({"train": 9, "validation": 0, "test": 0})
    write_manifest({"train": 3, "validation": 2, "test": 1})
    assert evaluation_hash(with_settings(params, "evaluate", device="cpu"), Path(".")) == before
    assert evaluation_hash(with_settings(params, "sampling", guidance_scale=6.0), Path(".")) != before
    write_manifest({"train": 3, "validation": 2, "test": 2})
    assert evaluation_hash(params, Path(".")) != before


def test_videos_hash_is_of_the_videos(params):
    before = videos_hash(params, Path("."))
    assert videos_hash(with_settings(params, "evaluate", seed=9), Path(".")) == before
    write_generated("other video")
    assert videos_hash(params, Path(".")) != before


def test_stage_metrics_are_the_numbers_by_path(workspace):
    write_json(Path("results/evaluate/metrics.json"), {"a": {"b c": 1, "d": "text"}, "list": [0.5, None], "yes": True})
    assert stage_metrics("evaluate", Path(".")) == {"evaluate/a/b c": 1.0, "evaluate/list/0": 0.5, "evaluate/yes": 1.0}


def test_history_points_skip_empty_cells(workspace):
    write_text(Path("h.csv"), "step,loss,psnr\n1,0.5,\n2,,30\n")
    assert history_points(Path("h.csv"), "x") == [("x/loss", 1, 0.5), ("x/psnr", 2, 30.0)]


def test_commit_and_dirtiness_leave_dvc_lock_out(params):
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for arguments in (["init", "-q"], ["add", "params.yaml", "dvc.lock"], ["commit", "-qm", "first"]):
        subprocess.run([*git, *arguments], check=True)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    write_text(Path("dvc.lock"), "rewritten by the repro that is going on")
    tags = training_tags(params, "k", Path("."))
    assert (tags["mlflow.source.git.commit"], tags["reelmill.git_dirty"]) == (commit, "false")
    write_text(Path("params.yaml"), "changed")
    assert training_tags(params, "k", Path("."))["reelmill.git_dirty"] == "true"
