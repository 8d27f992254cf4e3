from dataclasses import fields

import numpy as np
import pytest

from reelmill.config import Generate
from reelmill.data.manifest import Clip
from reelmill.errors import UserError
from reelmill.generation import contact_sheet, plan

SETTINGS = Generate(
    prompts=["a cat"],
    num_seen=2,
    num_held_out=5,
    num_rephrased=5,
    scheduler=None,
    num_inference_steps=None,
    guidance_scale=None,
    seeds=[0, 7],
    batch_size=4,
    precision="fp32",
    device="cpu",
)


def clip(name, split, caption, labels=(None, None, None)):
    given = {"clip_id": name, "split": split, "caption": caption}
    given |= dict(zip(("label_shape", "label_color", "label_motion"), labels, strict=True))
    return Clip(**{field.name: given.get(field.name) for field in fields(Clip)})


CLIPS = [
    *(clip(f"train/{i}", "train", f"red circle {i}", ("circle", "red", "right")) for i in range(3)),
    *(clip(f"train/b{i}", "train", f"blue square {i}", ("square", "blue", "up")) for i in range(3)),
    *(clip(f"train/c{i}", "train", f"green line {i}", ("line", "green", "left")) for i in range(3)),
    clip("validation/0", "validation", "never", ("line", "red", "up")),
    clip("test/0", "test", "green circle", ("circle", "green", "right")),
    clip("test/1", "test", "a street"),
    clip("test/2", "test", "a street"),
]


def test_plan_takes_each_combination_or_caption_once_with_every_seed():
    videos = plan(SETTINGS, CLIPS)
    seen = [v for v in videos if v.group == "seen"]
    assert len(seen) == 4
    assert len({(v.shape, v.color, v.motion) for v in seen}) == 2
    held_out = [v for v in videos if v.group == "held_out"]
    assert sorted({v.prompt for v in held_out}) == ["a street", "green circle"]
    assert [(v.prompt, v.seed) for v in videos if v.group == "prompt"] == [("a cat", 0), ("a cat", 7)]
    assert len({v.file for v in videos}) == len(videos)


def test_plan_rephrases_labelled_held_out_combinations_alone():
    rephrased = [video for video in plan(SETTINGS, CLIPS) if video.group == "rephrased"]
    assert {(v.shape, v.color, v.motion) for v in rephrased} == {("circle", "green", "right")}
    assert "green circle" not in {video.prompt for video in rephrased}


def test_plan_never_takes_validation_clips():
    assert "never" not in {video.prompt for video in plan(SETTINGS, CLIPS)}


def test_plan_of_nothing_is_an_error():
    with pytest.raises(UserError, match="nothing to generate"):
        plan(SETTINGS.model_copy(update={"seeds": []}), CLIPS)


def test_contact_sheet_shows_every_frame_in_order():
    frames = np.stack([np.full((4, 6, 3), value, np.uint8) for value in range(10)])
    sheet = contact_sheet(frames)
    assert sheet.shape == (2 * 6 - 2, 9 * 8 - 2, 3)
    assert [sheet[0, 8 * column, 0] for column in range(9)] == list(range(9))
    assert sheet[6, 0, 0] == 9
    assert (sheet[6:, 8:] == 255).all()
