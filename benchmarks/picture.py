"""The README's picture: the first held-out videos of results/generate, side by side, as a GIF (docs/images/generated.gif)."""

from pathlib import Path

import numpy as np
from PIL import Image

from reelmill.evaluation.inputs import load_videos

COLUMNS, ROWS, GAP_PX, COLOURS = 6, 2, 2, 256


def main() -> None:
    """Write the picture; the videos are taken in order, not chosen."""
    held_out = [video for video in load_videos(Path("results/generate")) if video.group == "held_out"]
    first_seed = [video for video in held_out if video.seed == held_out[0].seed][: COLUMNS * ROWS]
    clips = np.stack([video.frames() for video in first_seed])
    frames = [page(clips[:, frame]) for frame in range(clips.shape[1])]
    # One palette for all, of the colours that there are, however rare: median cut would spend it on the background.
    palette = Image.fromarray(np.concatenate(frames)).quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE)
    pages = [Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    target = Path("docs/images/generated.gif")
    target.parent.mkdir(parents=True, exist_ok=True)
    pages[0].save(target, save_all=True, append_images=pages[1:], duration=125, loop=0)
    print(f"{target}: {target.stat().st_size // 1000} kB")
    print("\n".join(video.prompt for video in first_seed))


def page(frames: np.ndarray) -> np.ndarray:
    """Frames (n h w c) in a grid."""
    _, height, width, channels = frames.shape
    grid = np.full((ROWS * (height + GAP_PX), COLUMNS * (width + GAP_PX), channels), 255, np.uint8)
    for index, frame in enumerate(frames):
        y, x = index // COLUMNS * (height + GAP_PX), index % COLUMNS * (width + GAP_PX)
        grid[y : y + height, x : x + width] = frame
    return grid


if __name__ == "__main__":
    main()
