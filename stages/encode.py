"""encode: each clip's latents and each caption's ids or embedding, once."""

from pathlib import Path

from reelmill.config import load_params
from reelmill.data.augmentation import with_versions
from reelmill.data.manifest import MANIFEST, load_manifest
from reelmill.storage import hash_path, write_json
from reelmill.workspace import finish_state, require_input, run_stage, state_directory

AUTOENCODER, OUTPUT, RESULTS = Path("models/autoencoder"), Path("data/latents"), Path("results/encode")


def main() -> None:
    """Encode the manifest's clips and captions."""
    # Imported here: clips are read by processes that import this file too, and they need none of it.
    from reelmill.compute import choose_device, make_deterministic
    from reelmill.encoding import CaptionEncoder, encode_shards, latents_spread, text_parts, write_latents
    from reelmill.models.families import FAMILIES
    from reelmill.models.pretrained import load_autoencoder

    params = load_params()
    require_input(AUTOENCODER, "fit-autoencoder")
    make_deterministic(params.compute.deterministic)
    clips = with_versions(load_manifest(), params.augment)
    family, text, device = FAMILIES[params.model.family], params.model.text_encoder, choose_device(params.encode.device)
    hashes = {"manifest_hash": hash_path(MANIFEST), "autoencoder_hash": hash_path(AUTOENCODER)}
    parts, hashes["text_encoder_hash"] = text_parts(params, clips, device)
    encode_captions = CaptionEncoder(family, parts, text.max_tokens, params.encode.batch_size)
    encode_captions.check(clips)
    sections = (params.encode, params.augment, text, params.compute)
    settings = [params.data.clip_settings, *(section.model_dump(mode="json") for section in sections), family.name]
    state = state_directory("encode", {"settings": settings, "tiling": params.autoencoder.tiling, **hashes})
    model = load_autoencoder(AUTOENCODER, tiling=params.autoencoder.tiling)
    paths = encode_shards(clips, params.data, params.encode, model, encode_captions, state)
    spread = latents_spread(paths, clips, params.encode.shard_clips)
    own_scale = params.autoencoder_source is not None or family.normalises_channels
    scaling_factor = family.scaling_factor(model) if own_scale else round(1 / spread, 6)
    empty = {key: rows[0].clone() for key, rows in encode_captions([""]).items()}
    metadata = {
        "latent_shape": list(
            family.latent_shape(model, params.data.num_frames, params.data.height_px, params.data.width_px)
        ),
        "scaling_factor": scaling_factor,
        "num_frames": params.data.num_frames,
        "temporal_compression": family.compression(model)[0],
        "family": family.name,
        "text": "embeddings" if "text_encoder" in parts else "tokens",
        "vocabulary_size": len(parts["tokenizer"]),
        **hashes,
    }
    made_here = {} if params.text_source else parts
    write_latents(OUTPUT, paths, clips, params.encode.shard_clips, empty, metadata, made_here)
    write_json(
        RESULTS / "metrics.json",
        {
            "clips": len(clips),
            "latents_std": round(spread, 6),
            "scaling_factor": scaling_factor,
            "vocabulary_size": len(parts["tokenizer"]),
        },
    )
    finish_state(state)


if __name__ == "__main__":
    run_stage("encode", main)
