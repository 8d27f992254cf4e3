"""Preview videos in the loop."""

from pathlib import Path

import torch
from diffusers import CogVideoXPipeline

from reelmill.config import Params
from reelmill.data.video import write_video
from reelmill.sampling import Request, sample


def request_of(params: Params) -> Request:
    """How the settings sample: at the size that is trained."""
    return Request(
        num_frames=params.data.num_frames,
        height_px=params.data.height_px,
        width_px=params.data.width_px,
        num_inference_steps=params.sampling.num_inference_steps,
        guidance_scale=params.sampling.guidance_scale,
        short_tokens=params.model.text_encoder.short_tokens
        if params.model.text_encoder.source is None
        else params.model.text_encoder.max_tokens,
        precision=params.train.precision,
    )


def write_previews(pipeline: CogVideoXPipeline, params: Params, step: int, directory: Path) -> list[Path]:
    """A video for each preview prompt after ``step`` steps; memory is given back afterwards."""
    prompts = params.train.preview_prompts
    paths = [directory / f"step-{step:06d}-{index}.mp4" for index in range(len(prompts))]
    videos = sample(pipeline, prompts, [params.train.seed] * len(prompts), request_of(params), batch_size=1)
    for path, frames in zip(paths, videos, strict=True):
        write_video(path, frames, params.sampling.fps)
    if pipeline.device.type == "cuda":
        torch.cuda.empty_cache()
    return paths
