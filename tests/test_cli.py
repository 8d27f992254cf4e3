import json
import shutil

import av
import pytest
from benchmarks.workspace import run


def reelmill(workspace, *arguments):
    return run(workspace, "reelmill", *arguments, check=False, capture_output=True, text=True)


def frames_of(path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_generate_writes_a_video_of_the_trained_model(trained, tmp_path):
    done = reelmill(
        trained,
        "generate",
        "--prompt",
        "a red circle moving left to right",
        "--output",
        str(tmp_path / "a.mp4"),
        "--seed",
        "3",
    )
    assert done.returncode == 0, done.stderr
    assert "UNTRAINED" not in done.stdout
    assert frames_of(tmp_path / "a.mp4") == 9


def test_generate_takes_the_old_spellings(trained, tmp_path):
    done = reelmill(
        trained,
        "generate",
        "--prompt",
        "a circle",
        "--output",
        str(tmp_path / "a.mp4"),
        "--num_frames",
        "1",
        "--guidance_scale",
        "1",
        "--steps",
        "2",
    )
    assert done.returncode == 0, done.stderr
    assert frames_of(tmp_path / "a.mp4") == 1


def test_generate_gives_what_the_stage_gave(trained, tmp_path):
    video = json.loads((trained / "results/generate/videos.json").read_text())[0]
    done = reelmill(
        trained,
        "generate",
        "--prompt",
        video["prompt"],
        "--output",
        str(tmp_path / "a.mp4"),
        "--seed",
        str(video["seed"]),
    )
    assert done.returncode == 0, done.stderr
    with av.open(str(tmp_path / "a.mp4")) as ours, av.open(str(trained / "results/generate" / video["file"])) as theirs:
        for a, b in zip(ours.decode(video=0), theirs.decode(video=0), strict=True):
            difference = a.to_ndarray(format="rgb24").astype(int) - b.to_ndarray(format="rgb24")
            assert abs(difference).mean() < 1.0


def test_generate_without_a_model_says_untrained(trained, tmp_path):
    workspace = tmp_path / "empty"
    workspace.mkdir()
    shutil.copy(trained / "params.yaml", workspace)
    shutil.copytree(trained / "src", workspace / "src")
    done = reelmill(workspace, "generate", "--prompt", "a circle", "--output", str(tmp_path / "a.mp4"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("UNTRAINED")
    assert frames_of(tmp_path / "a.mp4") == 9


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--num-frames", "12"), "nearest: 9 or 16"),
        (("--resolution", "60"), "nearest: 56 or 64"),
        (("--checkpoint", "nowhere"), "nowhere: no model_index.json"),
        (("--prompt", " "), "--prompt: is empty"),
        (("--output", "a.gif"), "must end in .mp4"),
    ],
)
def test_generate_refuses_what_the_model_cannot_take(trained, tmp_path, arguments, text):
    done = reelmill(trained, "generate", "--prompt", "a circle", "--output", str(tmp_path / "a.mp4"), *arguments)
    assert done.returncode == 1
    assert text in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "a.mp4").exists()


def test_preset_lists_and_refuses(trained):
    assert "smoke" in reelmill(trained, "preset").stdout.split()
    done = reelmill(trained, "preset", "nothing")
    assert done.returncode == 1
    assert "not one of" in done.stderr
