"""Preview videos in the loop."""

from pathlib import Path

from diffusers import DiffusionPipeline

from reelmill.config import Params
from reelmill.data.video import write_video
from reelmill.sampling import PromptEncoder, Request, call_arguments, sample


def write_previews(
    pipeline: DiffusionPipeline,
    encode: PromptEncoder | None,
    prompts: list[str],
    params: Params,
    step: int,
    directory: Path,
) -> list[Path]:
    """A video for each preview prompt after ``step`` steps."""
    paths = [directory / f"step-{step:06d}-{index}.mp4" for index in range(len(prompts))]
    request = Request.of(call_arguments(params), params.train.precision)
    videos = sample(pipeline, prompts, [params.train.seed] * len(prompts), request, 1, encode)
    for path, frames in zip(paths, videos, strict=True):
        write_video(path, frames, params.sampling.fps)
    return paths
