"""generate: the evaluated videos of the trained pipeline."""

from dataclasses import replace
from pathlib import Path

from reelmill.config import load_params
from reelmill.data.manifest import load_manifest
from reelmill.storage import atomic_path, write_json
from reelmill.workspace import run_stage

PIPELINE, RESULTS = Path("models/pipeline"), Path("results/generate")


def main() -> None:
    """Generate every planned video."""
    # Imported here, after run_stage has set the environment that torch's threads read.
    from reelmill import diffusion, tracking
    from reelmill.compute import choose_device, make_deterministic
    from reelmill.generation import plan, write_videos
    from reelmill.models.cogvideox import load_pipeline
    from reelmill.training.previews import request_of

    params = load_params()
    make_deterministic()
    settings = params.generate
    videos = plan(settings, load_manifest())
    pipeline = load_pipeline(PIPELINE, choose_device(settings.device))
    pipeline.scheduler = diffusion.scheduler(params.train.objective, params.sampling)
    request = replace(request_of(params), precision=settings.precision)
    with atomic_path(RESULTS) as temporary:
        write_videos(pipeline, videos, request, settings.batch_size, params.sampling.fps, temporary)
        counts = {group: sum(video.group == group for video in videos) for group in ("seen", "held_out", "prompt")}
        write_json(temporary / "metrics.json", {"videos": len(videos), **counts})
    tracking.log_generation(params)


if __name__ == "__main__":
    run_stage("generate", main)
