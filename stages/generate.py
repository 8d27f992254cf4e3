"""generate: the evaluated videos of the trained pipeline."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

from reelmill.config import load_params
from reelmill.data.manifest import load_manifest
from reelmill.storage import atomic_path, read_json, write_json
from reelmill.workspace import LINEAGE, require_input, run_stage

PIPELINE, RESULTS = Path("models/pipeline"), Path("results/generate")


def main() -> None:
    """Generate every planned video."""
    # Imported here, after run_stage has set the environment that torch's threads read.
    from reelmill import diffusion, tracking
    from reelmill.compute import choose_device, make_deterministic
    from reelmill.generation import plan, write_videos
    from reelmill.models.families import family_of
    from reelmill.models.pretrained import load_pipeline
    from reelmill.sampling import Request

    params = load_params()
    require_input(PIPELINE, "train")
    make_deterministic(params.compute.deterministic)
    settings = params.generate
    videos = plan(settings, load_manifest())
    published = read_json(PIPELINE / LINEAGE)
    overrides = settings.model_dump(include={"num_inference_steps", "guidance_scale"}, exclude_none=True)
    device, tiling = choose_device(settings.device), params.autoencoder.tiling
    pipeline = load_pipeline(PIPELINE, device, settings.precision, tiling)
    if settings.scheduler:
        passes_sigmas = family_of(pipeline).passes_sigmas
        pipeline.scheduler = diffusion.scheduler(
            published["objective"], settings.scheduler, published.get("shift", 1.0), passes_sigmas
        )
    request = replace(Request.of(published["sampling"], settings.precision), **overrides)
    with atomic_path(RESULTS) as temporary:
        write_videos(pipeline, videos, request, settings.batch_size, published["fps"], temporary)
        counts = Counter(video.group for video in videos)
        write_json(temporary / "metrics.json", {"videos": len(videos), **dict(sorted(counts.items()))})
    tracking.log_generation(params)


if __name__ == "__main__":
    run_stage("generate", main)
