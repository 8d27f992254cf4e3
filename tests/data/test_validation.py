"""The data gate end to end, and what it must never let pass."""

import json
from dataclasses import replace

import numpy as np
import pytest
from tests.data.recordings import moving_square, record
from tests.data.test_windows import DATA as BASE

from reelmill.config import Expectation
from reelmill.data import validation
from reelmill.data.clip_table import build_table
from reelmill.data.manifest import load_manifest, read_clip, read_clips, write_manifest
from reelmill.data.validation import judge_table, run_suite
from reelmill.data.validation_page import render_page
from reelmill.data.validation_summary import summarise
from reelmill.data.windows import hash_frames
from reelmill.errors import UserError

DATA = BASE.model_copy(
    update={
        "source": "videos",
        "scene_threshold": 250.0,
        "expectations": BASE.expectations.model_copy(update={"num_frames": Expectation(level="error", min=5)}),
    }
)


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """Three good recordings of two windows each, as the current folder."""
    monkeypatch.chdir(tmp_path)
    for index, name in enumerate(["a", "b", "c"]):
        record(tmp_path / f"data/videos/{name}.mp4", moving_square(36, 48 + 8 * index, 64, index))
    captions = {"a": "a <b>red</b> square", "b": "a green square", "c": "a blue square"}
    (tmp_path / "data/videos/metadata.json").write_text(json.dumps(captions))
    return tmp_path


def _add(workspace, name: str, frames: np.ndarray) -> None:
    record(workspace / f"data/videos/{name}.mp4", frames)
    path = workspace / "data/videos/metadata.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), name: f"clip {name}"}))


def test_good_clips_pass_and_read_back_by_hash(workspace):
    table = build_table(DATA)
    verdict = judge_table(table, DATA)
    assert verdict.success, verdict.findings
    assert [clip.clip_id for clip in table.clips] == [f"videos/{name}/000{n}" for name in "abc" for n in range(2)]
    assert {clip.split for clip in table.clips} == {"train", "validation", "test"}
    assert all(len({c.split for c in table.clips if c.path == clip.path}) == 1 for clip in table.clips)
    write_manifest(table.clips)
    first = (workspace / "data/manifest.parquet").read_bytes()
    clips = load_manifest()
    assert clips == table.clips
    for clip, frames in zip(clips, read_clips(clips, DATA, workers=1), strict=True):
        assert frames.shape == (5, 32, 32, 3)
        assert hash_frames(frames) == clip.content_hash
    write_manifest(build_table(DATA).clips)
    assert (workspace / "data/manifest.parquet").read_bytes() == first


def test_changed_recording_is_refused_when_read(workspace):
    clip = build_table(DATA).clips[0]
    record(workspace / clip.path, moving_square(36, 48, 64, 2))
    with pytest.raises(UserError, match="not those that were validated as videos/a/0000"):
        read_clip(clip, DATA)


def test_offenders_are_named_with_reason_and_remedy(workspace):
    _add(workspace, "black", np.zeros((18, 48, 64, 3), np.uint8))
    _add(workspace, "short", moving_square(6, 48, 64))
    (workspace / "data/videos/broken.mp4").write_bytes(b"no video")
    (workspace / "data/videos/broken.txt").write_text("broken")
    table = build_table(DATA)
    verdict = judge_table(table, DATA)
    errors = {(finding.rule, finding.where) for finding in verdict.of_level("error")}
    assert ("unreadable recording", "data/videos/broken.mp4") in errors
    assert ("num_frames", "data/videos/short.mp4") in errors
    assert ("black_share", "data/videos/black.mp4 (videos/black/0000)") in errors
    assert not verdict.success
    assert all(finding.remedy for finding in verdict.findings)
    page = render_page(table, verdict, summarise(table, verdict), DATA)
    assert "data:image/jpeg;base64," in page
    assert "http" not in page
    assert "<b>red</b>" not in page
    assert page == render_page(table, verdict, summarise(table, verdict), DATA)


def test_short_recording_is_left_out_and_reported_where_that_is_a_warning(workspace):
    _add(workspace, "short", moving_square(6, 48, 64))
    levels = DATA.expectations.model_copy(update={"num_frames": Expectation(level="warning", min=5)})
    data = DATA.model_copy(update={"expectations": levels})
    table = build_table(data)
    verdict = judge_table(table, data)
    assert verdict.success
    assert [f.where for f in verdict.of_level("warning") if f.rule == "left out"] == ["data/videos/short.mp4"]
    assert "videos/short" not in {clip.clip_id for clip in table.clips}


def test_fewer_than_three_recordings_are_an_error_that_says_what_to_do(workspace):
    (workspace / "data/videos/c.mp4").unlink()
    captions = {"a": "a red square", "b": "a green square"}
    (workspace / "data/videos/metadata.json").write_text(json.dumps(captions))
    verdict = judge_table(build_table(DATA), DATA)
    assert [(f.rule, "at least 3" in f.remedy) for f in verdict.of_level("error")] == [("too few recordings", True)]


def test_duplicates_are_counted_across_recordings(workspace):
    (workspace / "data/videos/d.mp4").write_bytes((workspace / "data/videos/a.mp4").read_bytes())
    (workspace / "data/videos/d.txt").write_text("the same again")
    table = build_table(DATA)
    assert {clip.path[-5] for clip in table.clips if clip.duplicate} == {"a", "d"}
    assert len({clip.split for clip in table.clips if clip.duplicate}) == 1


def test_missing_column_never_passes(workspace, monkeypatch):
    rows = build_table(DATA).clips
    whole = validation._frame
    monkeypatch.setattr(validation, "_frame", lambda rows: whole(rows).drop(columns="contrast"))
    with pytest.raises(RuntimeError, match="contrast could not be computed"):
        run_suite(rows, DATA.expectations)


def test_level_without_bounds_is_refused_and_off_is_not_looked_at(workspace):
    rows = [replace(row, contrast=0.0) for row in build_table(DATA).clips]
    off = DATA.expectations.model_copy(update={"contrast": Expectation(level="off", min=1)})
    contrast = next(item for item in run_suite(rows, off) if item.name == "contrast")
    assert (contrast.checked, contrast.failed) == (0, 0)
    unbounded = DATA.expectations.model_copy(update={"motion": Expectation(level="error")})
    with pytest.raises(UserError, match="motion: a level but neither min nor max"):
        run_suite(rows, unbounded)
