"""train: the transformer, saved as a diffusers pipeline, with its history."""

import shutil
from pathlib import Path

from reelmill.config import load_params
from reelmill.storage import atomic_path, hash_path, write_csv, write_json
from reelmill.workspace import finish_state, require_input, run_stage, state_directory

LATENTS, AUTOENCODER, OUTPUT, RESULTS = (
    Path("data/latents"),
    Path("models/autoencoder"),
    Path("models/pipeline"),
    Path("results/train"),
)


def main() -> None:
    """Train, publish the best checkpoint, and write the history."""
    # Imported here: clips are read by processes that import this file too, and they need none of it.
    from reelmill.compute import make_deterministic
    from reelmill.data.latents import LatentClips, read_info
    from reelmill.models.families import family_of
    from reelmill.models.pretrained import load_autoencoder
    from reelmill.tracking import TrainingLog, model_hash
    from reelmill.training.base import open_base
    from reelmill.training.loop import train
    from reelmill.training.processes import team
    from reelmill.training.publish import publish, training_settings

    params = load_params()
    require_input(AUTOENCODER, "fit-autoencoder")
    require_input(LATENTS, "encode")
    make_deterministic(params.compute.deterministic)
    autoencoder = load_autoencoder(AUTOENCODER, tiling=params.autoencoder.tiling)
    base = open_base(params, family_of(autoencoder).compression(autoencoder))
    state = state_directory(
        "train",
        {
            "settings": training_settings(params),
            "compute": params.compute.model_dump(),
            "card": [params.data.source, params.data.license, params.autoencoder.source, params.autoencoder.subfolder],
            "base": base.transformer_hash if base else None,
            "tiling": params.autoencoder.tiling,
            "latents": hash_path(LATENTS),
            "autoencoder": hash_path(AUTOENCODER),
        },
    )
    with TrainingLog(params, run_key=state.name) as log:
        with team(params, LATENTS, AUTOENCODER, state) as processes:
            checkpoints, record = train(params, LATENTS, autoencoder, base, state, log, processes)
        figures = publish(checkpoints, OUTPUT, params, read_info(LATENTS), LatentClips(LATENTS, "train").num_recorded)
        write_csv(RESULTS / "history.csv", record.steps)
        write_csv(RESULTS / "validation.csv", record.validation)
        with atomic_path(RESULTS / "previews") as temporary:
            (state / "previews").mkdir(exist_ok=True)
            shutil.copytree(state / "previews", temporary)
        last = record.steps[-1]
        write_json(RESULTS / "metrics.json", {"steps": last["step"], "loss": last["loss"], "published": figures})
        log.finish(OUTPUT, model_hash(OUTPUT))
    finish_state(state)


if __name__ == "__main__":
    run_stage("train", main)
