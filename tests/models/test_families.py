import numpy as np
import pytest
import torch
from models.tiny import CAPTIONS, TOKENS, save_tiny_pipeline

from reelmill.compute import generator
from reelmill.config import Lora
from reelmill.errors import UserError
from reelmill.models.autoencoder import to_frames
from reelmill.models.families import FAMILIES, family_of
from reelmill.models.lora import add_adapter
from reelmill.models.pretrained import load_pipeline
from reelmill.sampling import PromptEncoder, Request, sample

REQUEST = Request(9, 32, 32, 2, 3.0, TOKENS, "fp32")


@pytest.fixture(scope="module", params=list(FAMILIES))
def family(request):
    return FAMILIES[request.param]


@pytest.fixture(scope="module")
def directory(family, tmp_path_factory):
    return save_tiny_pipeline(family.name, tmp_path_factory.mktemp("source") / family.name)


@pytest.fixture(scope="module")
def pipeline(directory):
    return load_pipeline(directory)


def call(pipeline, **arguments):
    """A vanilla call."""
    shape = {"num_frames": 9, "height": 32, "width": 32, "num_inference_steps": 2, "max_sequence_length": TOKENS}
    return pipeline(CAPTIONS[0], **shape | arguments, generator=torch.Generator().manual_seed(7)).frames


@torch.no_grad()
def test_forward_on_encoded_text_is_what_the_pipeline_computes(family, directory, pipeline):
    """What the transformer is given in a vanilla call without guidance, and what comes out."""
    seen = []

    def note(_, __, given, output):
        seen.append((given["hidden_states"], given["timestep"], output[0]))

    hook = pipeline.transformer.register_forward_hook(note, with_kwargs=True)
    call(pipeline, guidance_scale=1.0, output_type="latent")
    hook.remove()
    noisy, timestep, output = seen[0]
    channels_first = family.name != "cogvideox"
    if channels_first:
        noisy, output = noisy.transpose(1, 2), output.transpose(1, 2)
    text = family.encode_text(family.load_text(directory), [CAPTIONS[0]], TOKENS)
    ours = family.predict(pipeline.transformer, noisy, timestep, text)
    torch.testing.assert_close(ours, output, atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_decoding_undoes_the_normalisation_as_the_pipeline_does(family, pipeline):
    latents = call(pipeline, output_type="latent")
    frames = call(pipeline, output_type="np")[0]
    if family.name != "cogvideox":
        latents = latents.transpose(1, 2)
    ours = to_frames(family.decode_latents(pipeline.vae, latents / family.scaling_factor(pipeline.vae)))[0]
    assert np.abs(np.rint(frames * 255) - ours).max() <= 1


@torch.no_grad()
def test_encoding_is_the_inverse_of_what_decoding_undoes(family, pipeline):
    video = torch.rand(1, 3, 9, 32, 32, generator=generator("video")) * 2 - 1
    encoded = family.encode_clips(pipeline.vae, video)
    assert tuple(encoded.shape[1:]) == family.latent_shape(pipeline.vae, 9, 32, 32)
    plain = pipeline.vae.decode(pipeline.vae.encode(video).latent_dist.mode()).sample
    torch.testing.assert_close(family.decode_latents(pipeline.vae, encoded), plain, atol=1e-4, rtol=0)


def test_prompts_encoded_apart_give_the_vanilla_frames(family, directory, pipeline):
    """As previews are sampled in training, where frozen text encoders are not on the device."""
    bare = family.assemble({}, pipeline.vae, pipeline.transformer, pipeline.scheduler)
    encode = PromptEncoder(family, lambda: family.load_text(directory), TOKENS)
    (ours,) = sample(bare, [CAPTIONS[0]], [7], REQUEST, 1, encode)
    frames = call(pipeline, guidance_scale=3.0, output_type="np")[0]
    assert np.abs(np.rint(frames * 255) - ours).max() <= 1


@pytest.mark.parametrize("frames", [1, 4, 5, 8, 9, 13, 16])
def test_round_trip_frames_is_what_the_autoencoder_does(family, pipeline, frames):
    with torch.no_grad():
        latents = pipeline.vae.encode(torch.zeros(1, 3, frames, 32, 32)).latent_dist.mode()
        decoded = pipeline.vae.decode(latents).sample
    assert family.round_trip_frames(frames, 4) == decoded.shape[2]


@pytest.mark.parametrize(
    ("frames", "side", "text"),
    [
        (12, 64, "4k.1 frames .*nearest: 9 or 13"),
        (13, 60, "height_px: 60: must be a multiple of 16 .*nearest: 48 or 64"),
    ],
)
@pytest.mark.parametrize("name", ["wan", "hunyuan_video"])
def test_shapes_that_do_not_fit_name_the_rule_and_the_nearest(name, frames, side, text):
    with pytest.raises(UserError, match=text):
        FAMILIES[name].check_video_shape(frames, side, 64, (4, 8), (1, 2))


def test_pairs_of_latent_frames_are_filled_up_by_cogvideox_alone():
    """81 frames are 21 latent ones: CogVideoX 1.5's own count, whose pipeline adds one and drops it again."""
    FAMILIES["cogvideox"].check_video_shape(81, 64, 64, (4, 8), (2, 2))
    with pytest.raises(UserError, match=r"whole patches of 2 latent frames; nearest: 77 or 85"):
        FAMILIES["wan"].check_video_shape(81, 64, 64, (4, 8), (2, 2))


def test_adapter_is_on_the_blocks_alone_and_changes_nothing_at_first(family, directory):
    transformer = family.load_transformer(directory)
    add_adapter(transformer, Lora(rank=2, alpha=4, targets=None), family, seed=0)
    trained = {name: p for name, p in transformer.named_parameters() if p.requires_grad}
    assert trained
    assert all(name.split(".")[0] in family.blocks and "lora_" in name for name in trained)
    assert not any(p.any() for name, p in trained.items() if "lora_B" in name)
    assert family_of(load_pipeline(directory)) is family


def test_target_that_there_is_none_of_lists_those_that_there_are(directory, family):
    transformer = family.load_transformer(directory)
    with pytest.raises(UserError, match=r"train.lora.targets: q_proj: .*There are: .*to_q"):
        add_adapter(transformer, Lora(rank=2, alpha=4, targets=["q_proj"]), family, seed=0)
