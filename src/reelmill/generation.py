"""The evaluated videos: which prompts and seeds, and their files."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from diffusers import DiffusionPipeline
from jaxtyping import UInt8
from safetensors.numpy import save_file
from tqdm import tqdm

from reelmill.config import Generate
from reelmill.data.manifest import Clip
from reelmill.data.samples import held_out_caption, num_held_out_phrasings
from reelmill.data.video import write_video
from reelmill.errors import UserError
from reelmill.sampling import Request, sample
from reelmill.storage import hash_value, write_json

SHEET_COLUMNS = 9


@dataclass(frozen=True)
class Video:
    """One video to generate; labels are those of the prompt, where it has any."""

    name: str
    file: str
    prompt: str
    seed: int
    group: str  # seen, held_out, rephrased or prompt
    shape: str | None = None
    color: str | None = None
    motion: str | None = None


def plan(settings: Generate, clips: list[Clip]) -> list[Video]:
    """The videos of every prompt with every seed: seen, held-out and the user's own prompts."""
    videos: list[Video] = []
    for group, split, count in (("seen", "train", settings.num_seen), ("held_out", "test", settings.num_held_out)):
        for index, clip in enumerate(_chosen(clips, split, count)):
            labels = (clip.label_shape, clip.label_color, clip.label_motion)
            videos += _seeds(f"{group}-{index:03d}", clip.caption, settings.seeds, group, labels)
    videos += _rephrased(settings, clips)
    for index, prompt in enumerate(settings.prompts):
        videos += _seeds(f"prompt-{index:03d}", prompt, settings.seeds, "prompt", (None, None, None))
    if not videos:
        raise UserError(
            "generate: nothing to generate: give prompts or num_seen or num_held_out above 0, and at least one seed"
        )
    return videos


def _rephrased(settings: Generate, clips: list[Clip]) -> list[Video]:
    """Held-out combinations in phrasings that no training caption has."""
    labelled = [clip for clip in clips if clip.label_shape and clip.label_color and clip.label_motion]
    videos: list[Video] = []
    for index, clip in enumerate(_chosen(labelled, "test", settings.num_rephrased)):
        labels = (str(clip.label_shape), str(clip.label_color), str(clip.label_motion))
        prompt = held_out_caption(*labels, index % num_held_out_phrasings())
        videos += _seeds(f"rephrased-{index:03d}", prompt, settings.seeds, "rephrased", labels)
    return videos


def _chosen(clips: list[Clip], split: str, count: int) -> list[Clip]:
    """One clip a combination of labels (without labels: a caption), in an order set by hash."""
    first: dict[object, Clip] = {}
    for clip in sorted((clip for clip in clips if clip.split == split), key=lambda clip: hash_value(clip.clip_id)):
        labels = (clip.label_shape, clip.label_color, clip.label_motion)
        first.setdefault(labels if all(labels) else clip.caption, clip)
    return list(first.values())[:count]


def _seeds(name: str, prompt: str, seeds: Iterable[int], group: str, labels: tuple[str | None, ...]) -> list[Video]:
    return [Video(f"{name}-seed{seed}", f"{name}-seed{seed}.mp4", prompt, seed, group, *labels) for seed in seeds]


def write_videos(
    pipeline: DiffusionPipeline, videos: list[Video], request: Request, batch_size: int, fps: float, output: Path
) -> None:
    """Generate and write each video: MP4, contact sheet, raw frames for the judge; and their list."""
    (output / "frames").mkdir(parents=True, exist_ok=True)
    sampled = sample(
        pipeline, [video.prompt for video in videos], [video.seed for video in videos], request, batch_size
    )
    for video, frames in zip(tqdm(videos, desc="generate", unit="video"), sampled, strict=True):
        write_video(output / video.file, frames, fps)
        cv2.imwrite(str(output / f"{video.name}.png"), contact_sheet(frames)[..., ::-1])
        save_file({"frames": np.ascontiguousarray(frames)}, output / "frames" / f"{video.name}.safetensors")
    write_json(output / "videos.json", [asdict(video) for video in videos])


def contact_sheet(frames: UInt8[np.ndarray, "f h w c"]) -> UInt8[np.ndarray, "y x c"]:
    """All frames side by side, nine a row, with a gap of two white pixels."""
    gap, (count, height, width, channels) = 2, frames.shape
    columns = min(SHEET_COLUMNS, count)
    rows = -(-count // columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, channels), 255, np.uint8)
    for index, frame in enumerate(frames):
        y, x = (index // columns) * (height + gap), (index % columns) * (width + gap)
        sheet[y : y + height, x : x + width] = frame
    return sheet
