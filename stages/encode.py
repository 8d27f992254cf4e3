"""encode: each clip's latents and each caption's ids or embedding, once."""

from pathlib import Path

from reelmill.config import load_params
from reelmill.data.augmentation import with_versions
from reelmill.data.manifest import MANIFEST, load_manifest
from reelmill.storage import hash_path, write_json
from reelmill.workspace import finish_state, run_stage, state_directory

AUTOENCODER, OUTPUT, RESULTS = Path("models/autoencoder"), Path("data/latents"), Path("results/encode")


def main() -> None:
    """Encode the manifest's clips and captions."""
    # Imported here: clips are read by processes that import this file too, and they need none of it.
    from reelmill.compute import choose_device, make_deterministic
    from reelmill.encoding import CaptionEncoder, encode_shards, latents_spread, write_latents
    from reelmill.models import autoencoder
    from reelmill.models.text import fit_tokenizer, load_text_encoder, weights_hash

    params = load_params()
    make_deterministic(params.compute.deterministic)
    clips = with_versions(load_manifest(), params.augment)
    text = params.model.text_encoder
    hashes = {"manifest_hash": hash_path(MANIFEST), "autoencoder_hash": hash_path(AUTOENCODER)}
    sections = (params.encode, params.augment, text, params.compute)
    settings = [params.data.clip_settings, *(section.model_dump(mode="json") for section in sections)]
    if text.source is not None and Path(text.source).is_dir():
        hashes["text_encoder_hash"] = hash_path(Path(text.source))  # other weights may lie there next time
    state = state_directory("encode", {"settings": settings, **hashes})
    model = autoencoder.load(AUTOENCODER)
    if text.source is None:
        tokenizer, frozen = (
            fit_tokenizer((clip.caption for clip in clips if clip.split == "train"), params.encode.vocabulary_size),
            None,
        )
    else:
        tokenizer, frozen = load_text_encoder(text)
        frozen = frozen.to(choose_device(params.encode.device))
    encode_captions = CaptionEncoder(tokenizer, text, frozen)
    encode_captions.check(clips)
    paths = encode_shards(clips, params.data, params.encode, model, encode_captions, state)
    spread = latents_spread(paths, clips, params.encode.shard_clips)
    scaling_factor = model.config.scaling_factor if params.autoencoder.source else round(1 / spread, 6)
    metadata = {
        "latent_shape": list(
            autoencoder.latent_shape(model, params.data.num_frames, params.data.height_px, params.data.width_px)
        ),
        "scaling_factor": scaling_factor,
        "num_frames": params.data.num_frames,
        "temporal_compression": int(model.config.temporal_compression_ratio),
        "text": "tokens" if frozen is None else "embeddings",
        "text_width": text.width if frozen is None else frozen.config.d_model,
        "text_encoder_hash": "" if frozen is None else weights_hash(frozen),
        "vocabulary_size": len(tokenizer),
        "manifest_hash": hashes["manifest_hash"],
        "autoencoder_hash": hashes["autoencoder_hash"],
    }
    write_latents(OUTPUT, paths, clips, params.encode.shard_clips, encode_captions([""])[0], metadata, tokenizer)
    write_json(
        RESULTS / "metrics.json",
        {
            "clips": len(clips),
            "latents_std": round(spread, 6),
            "scaling_factor": scaling_factor,
            "vocabulary_size": len(tokenizer),
        },
    )
    finish_state(state)


if __name__ == "__main__":
    run_stage("encode", main)
