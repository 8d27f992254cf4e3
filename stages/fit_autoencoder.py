"""fit-autoencoder: the 3D causal autoencoder, from scratch or pretrained, with its reconstruction figures."""

from pathlib import Path

from reelmill.config import load_params
from reelmill.data.manifest import MANIFEST, load_manifest
from reelmill.storage import atomic_path, hash_path, write_csv, write_json
from reelmill.workspace import finish_state, run_stage, state_directory

OUTPUT, RESULTS = Path("models/autoencoder"), Path("results/fit-autoencoder")


def main() -> None:
    """Fit or take the autoencoder, then measure it."""
    # Imported here: clips are read by processes that import this file too, and they need none of it.
    from reelmill.compute import choose_device, make_deterministic
    from reelmill.evaluation.reconstruction import reconstruction_figures
    from reelmill.models.families import FAMILIES
    from reelmill.models.pretrained import load_autoencoder, open_source
    from reelmill.training.autoencoder import fit
    from reelmill.training.base import check_sources
    from reelmill.training.clip_cache import open_clips

    params = load_params()
    settings, family = params.autoencoder, FAMILIES[params.model.family]
    make_deterministic(params.compute.deterministic)
    clips = load_manifest()
    made_from = {
        "settings": [settings.model_dump(mode="json"), params.compute.model_dump(), params.model.family],
        "clips": params.data.clip_settings,
        "manifest": hash_path(MANIFEST),
    }
    state = state_directory("fit-autoencoder", made_from)
    history: list[dict] = []
    if params.autoencoder_source is None:
        model, history = fit(family, settings, open_clips(clips, params.data, settings, state), state / "steps")
    else:
        check_sources(params)
        if params.model.source is not None:
            open_source(params.model.source, family)  # what is missing of it is better found now than after encoding
        model = load_autoencoder(*params.autoencoder_source, choose_device(settings.device), settings.tiling)
    with atomic_path(OUTPUT) as temporary:
        model.save_pretrained(temporary, safe_serialization=True)
    figures = {split: reconstruction_figures(model, clips, split, params.data) for split in ("validation", "test")}
    write_json(RESULTS / "metrics.json", {**figures, "parameters": sum(p.numel() for p in model.parameters())})
    write_csv(RESULTS / "history.csv", history)
    finish_state(state)


if __name__ == "__main__":
    run_stage("fit-autoencoder", main)
