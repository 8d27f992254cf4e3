"""From videos and clips to figures and the page, with and without labels, on a tiny autoencoder."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from diffusers import AutoencoderKLCogVideoX
from safetensors.numpy import save_file

from reelmill.config import load_params
from reelmill.data.manifest import Clip
from reelmill.errors import UserError
from reelmill.evaluation import assess as assessing
from reelmill.evaluation.calibration import calibration_clip
from reelmill.evaluation.inputs import GeneratedVideo, load_videos
from reelmill.evaluation.report import Background, flat, write_report
from reelmill.judge import Verdict

PARAMS = load_params(Path(__file__).parents[2] / "params.yaml")
DATA = PARAMS.data.model_copy(update={"num_frames": 9, "height_px": 32, "width_px": 32})
SETTINGS = PARAMS.evaluate.model_copy(update={"num_calibration_clips": 4})
SPLITS = ("train", "train", "train", "test")


def _clip(index: int, scene) -> Clip:
    row: dict = dict.fromkeys(Clip.__dataclass_fields__, 0)
    row |= {"clip_id": str(index), "caption": f"{scene.color} {scene.shape}", "split": SPLITS[index % 4]}
    return Clip(**row | {"label_shape": scene.shape, "label_color": scene.color, "label_motion": scene.motion})


@pytest.fixture(scope="module")
def drawn():
    """32 clips in a manifest; reading one draws it again."""
    made = [calibration_clip(1, index, 9, 32) for index in range(32)]

    def read_clips(clips, data):
        return (made[int(clip.clip_id)][0] for clip in clips)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reelmill.evaluation.reference.read_clips", read_clips)
        patch.setattr("reelmill.evaluation.assess.read_clips", read_clips)
        yield [_clip(index, scene) for index, (_, scene) in enumerate(made)]


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Eight videos that show what they should, and one that shows noise; half of them held out."""
    tmp_path = tmp_path_factory.mktemp("generate")
    (tmp_path / "frames").mkdir()
    rows = []
    for index in range(9):
        frames, scene = calibration_clip(2, index // 2, 9, 32)
        if index == 8:
            frames = np.random.default_rng(0).integers(0, 256, frames.shape, dtype=np.uint8)
        name = f"video-{index}"
        save_file({"frames": frames}, tmp_path / "frames" / f"{name}.safetensors")
        (tmp_path / f"{name}.mp4").write_bytes(b"mp4 of " + name.encode())
        labels = {"shape": scene.shape, "color": scene.color, "motion": scene.motion}
        group = "seen" if index < 4 else "held_out"
        rows.append(
            {
                "name": name,
                "file": f"{name}.mp4",
                "prompt": f"<i>{scene.shape}</i> & {index // 2}",
                "seed": index % 2,
                "group": group,
                **labels,
            }
        )
    (tmp_path / "videos.json").write_text(json.dumps(rows))
    return load_videos(tmp_path)


def _tiny_autoencoder() -> AutoencoderKLCogVideoX:
    blocks = 2
    return AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * blocks,
        up_block_types=("CogVideoXUpBlock3D",) * blocks,
        block_out_channels=(8, 8),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=4,
    ).eval()


def _assess(videos, clips):
    readings = assessing.read_videos(videos)
    return readings, assessing.assess(videos, readings, clips, DATA, SETTINGS, _tiny_autoencoder(), {"loss": 0.5})


@pytest.fixture(scope="module")
def assessed(drawn, videos):
    return _assess(videos, drawn)


@pytest.fixture(scope="module")
def assessed_without_labels(drawn, videos):
    clips = [replace(clip, label_shape=None, label_color=None, label_motion=None) for clip in drawn]
    plain = [replace(video, wanted=None) for video in videos]
    return plain, *_assess(plain, clips)


def test_assess_counts_right_videos_and_checks_the_judge(assessed):
    _, evidence = assessed
    metrics = evidence.metrics()
    assert metrics["accuracy"]["seen"]["joint"] == 1
    assert metrics["accuracy"]["held_out"]["joint"] == 0.8
    assert metrics["judge"]["test_clips"]["joint"] == 1
    assert metrics["judge"]["none"]["noise"] == metrics["judge"]["none"]["untrained"] == 1
    assert metrics["test_loss"] == {"loss": 0.5}
    # Two seeds of one prompt show the same clip here, but for the noise, whose prompt has one seed.
    assert metrics["variety"]["held_out"]["diversity"] == 0
    assert set(metrics["nearest_training_clip"]) == {"seen", "held_out"}


def test_assess_without_labels_gives_everything_that_needs_none(assessed_without_labels):
    _, _, evidence = assessed_without_labels
    assert set(evidence.metrics()) == {"quality", "variety", "nearest_training_clip", "test_loss"}


def test_assess_works_without_test_clips(drawn, videos):
    _, evidence = _assess(videos, [replace(clip, split="train") for clip in drawn])
    assert evidence.nearest == {}
    assert evidence.judge_accuracies == []
    assert "test_clips" not in evidence.quality


def test_report_is_whole_escaped_and_the_same_each_time(assessed, videos, tmp_path):
    readings, evidence = assessed
    background = Background([], {"Settings": flat({"a": {"b": 1}})}, 0.95)
    verdicts = [reading.verdict for reading in readings]
    pages = []
    for name in ("one.html", "two.html"):
        write_report(tmp_path / name, videos, verdicts, evidence, background)
        pages.append((tmp_path / name).read_bytes())
    assert pages[0] == pages[1]
    text = pages[0].decode()
    assert text.count("data:video/mp4;base64,") == len(videos)
    assert "&lt;i&gt;circle&lt;/i&gt; &amp; 0" in text
    assert "<i>" not in text
    assert not re.search(r"(src|href)=\"(?!data:)", text)
    assert "<td>a.b</td><td>1</td>" in text
    assert text.index("Held-out prompts") < text.index("Seen prompts")


def test_report_shows_a_bounded_number_and_says_of_how_many(assessed, videos, tmp_path):
    readings, evidence = assessed
    many = [replace(videos[0], seed=seed, group="seen") for seed in range(40)]
    verdicts = [readings[0].verdict] * 40
    write_report(tmp_path / "page.html", many, verdicts, evidence, Background([], {}, 0.95))
    text = (tmp_path / "page.html").read_text()
    assert text.count("data:video/mp4;base64,") == 12
    assert "12 of 40 videos" in text


def test_report_without_labels_has_no_badges(assessed_without_labels, tmp_path):
    plain, readings, evidence = assessed_without_labels
    write_report(tmp_path / "page.html", plain, [r.verdict for r in readings], evidence, Background([], {}, 0.95))
    text = (tmp_path / "page.html").read_text()
    assert "Without labels" in text
    assert 'class="badge' not in text


def test_load_videos_names_what_is_missing(tmp_path):
    with pytest.raises(UserError, match="dvc repro generate"):
        load_videos(tmp_path)
    (tmp_path / "videos.json").write_text("[]")
    with pytest.raises(UserError, match=r"generate\.prompts"):
        load_videos(tmp_path)


def test_frames_that_are_missing_name_their_file(tmp_path):
    video = GeneratedVideo("x", "p", 0, "seen", Verdict("circle", "red", "up"), tmp_path, "x.mp4")
    with pytest.raises(UserError, match=r"x\.safetensors"):
        video.frames()
