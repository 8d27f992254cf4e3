"""fit-autoencoder: the 3D causal autoencoder, from scratch or pretrained, with its reconstruction figures."""

from pathlib import Path

from reelmill.config import load_params
from reelmill.data.manifest import MANIFEST, load_manifest
from reelmill.errors import UserError
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
    from reelmill.training.base import open_base
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
        if params.model.source is not None:
            open_source(params.model.source, family)  # a pipeline that is not whole is named as one
        model = load_autoencoder(*params.autoencoder_source, choose_device(settings.device), settings.tiling)
        if not isinstance(model, family.autoencoder_class):
            raise UserError(
                f"autoencoder.source: a {type(model).__name__}, and family {family.name} has {family.autoencoder_class.__name__}: "
                "set model.family to the source's, or name one of its own"
            )
        compression = family.compression(model)
        family.check_video_shape(
            params.data.num_frames, params.data.height_px, params.data.width_px, compression, (1, 1)
        )
        open_base(params, compression)  # what does not fit is better found now than after encoding
    with atomic_path(OUTPUT) as temporary:
        model.save_pretrained(temporary, safe_serialization=True)
    figures = {split: reconstruction_figures(model, clips, split, params.data) for split in ("validation", "test")}
    write_json(RESULTS / "metrics.json", {**figures, "parameters": sum(p.numel() for p in model.parameters())})
    write_csv(RESULTS / "history.csv", history)
    finish_state(state)


if __name__ == "__main__":
    run_stage("fit-autoencoder", main)
