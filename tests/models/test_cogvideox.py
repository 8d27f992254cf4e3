import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from diffusers.models.embeddings import apply_rotary_emb
from models.tiny import tiny_cogvideox_autoencoder

from reelmill import diffusion
from reelmill.compute import generator
from reelmill.config import Model, TextEncoder
from reelmill.errors import UserError
from reelmill.models.autoencoder import fold_normalisation
from reelmill.models.cogvideox import CogVideoX, build_transformer, rotary_embedding, round_trip_frames
from reelmill.models.pretrained import load_pipeline
from reelmill.models.text import build_text_encoder, fit_tokenizer, token_ids
from reelmill.sampling import Request, sample

TEXT = TextEncoder(
    source=None, subfolder=None, width=32, num_layers=1, num_heads=2, max_tokens=226, short_tokens=16, long_share=0.1
)
MODEL = Model(
    family="cogvideox",
    source=None,
    num_layers=1,
    num_attention_heads=2,
    attention_head_dim=16,
    patch_size=2,
    patch_size_t=1,
    time_embed_dim=32,
    text_encoder=TEXT,
)
REQUEST = Request(9, 32, 32, 3, 2.0, 16, "fp32")


def tiny_autoencoder(temporal=4):
    torch.manual_seed(0)
    return tiny_cogvideox_autoencoder(temporal_compression_ratio=temporal, scaling_factor=1.0)


@pytest.fixture(scope="module")
def pipeline():
    tokenizer = fit_tokenizer(["a red circle", "a blue square"], 300)
    text = build_text_encoder(TEXT, len(tokenizer), 0)
    transformer = build_transformer(MODEL, (3, 4, 8, 8), 9, 4, 32, 0)
    torch.nn.init.normal_(transformer.proj_out.weight, std=0.1)  # as it starts it would predict zero
    for block in transformer.transformer_blocks:
        torch.nn.init.normal_(block.norm1.linear.weight, std=0.1)
        torch.nn.init.normal_(block.norm2.linear.weight, std=0.1)
    parts = {"tokenizer": tokenizer, "text_encoder": text}
    return CogVideoX().assemble(parts, tiny_autoencoder(), transformer.eval(), diffusion.scheduler("flow", "unipc"))


@pytest.mark.parametrize("temporal", [1, 2, 4])
@pytest.mark.parametrize("frames", [1, 4, 5, 8, 9, 12, 13, 16, 17])
def test_round_trip_frames_is_what_the_autoencoder_does(frames, temporal):
    model = tiny_autoencoder(temporal)
    with torch.no_grad():
        latents = model.encode(torch.zeros(1, 3, frames, 32, 32)).latent_dist.mode()
        decoded = model.decode(latents).sample
    assert round_trip_frames(frames, temporal) == decoded.shape[2]


@torch.no_grad()
def test_folding_normalises_the_latents_and_keeps_the_decoding():
    model, folded = tiny_autoencoder(), tiny_autoencoder()
    mean, std = torch.tensor([0.02, -0.01, 0.0, 0.03]), torch.tensor([0.5, 1.5, 2.0, 1.0])
    fold_normalisation(folded, mean, std)
    video = torch.rand(1, 3, 9, 32, 32, generator=generator(0)) * 2 - 1
    before, after = model.encode(video).latent_dist, folded.encode(video).latent_dist
    wide = (1, -1, 1, 1, 1)
    torch.testing.assert_close(after.mean, (before.mean - mean.view(wide)) / std.view(wide), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(after.std, before.std / std.view(wide), atol=1e-5, rtol=1e-4)
    old, new = model.decode(before.mean).sample, folded.decode(after.mean).sample
    torch.testing.assert_close(
        new[..., 12:20, 12:20], old[..., 12:20, 12:20], atol=2e-2, rtol=0
    )  # the border may differ


def test_rotary_embedding_is_the_pipelines_own(pipeline):
    cos, sin = rotary_embedding(pipeline.transformer, torch.zeros(1, 3, 4, 8, 8))
    expected = pipeline._prepare_rotary_positional_embeddings(32, 32, 3, torch.device("cpu"))
    assert torch.equal(cos, expected[0])
    assert torch.equal(sin, expected[1])


def test_patches_of_two_frames_are_placed_as_by_the_pipeline_and_pooled_ones_two_apart(pipeline):
    transformer = build_transformer(MODEL.model_copy(update={"patch_size_t": 2}), (3, 4, 8, 8), 9, 4, 32, 0)
    vanilla = CogVideoX().assemble({}, pipeline.vae, transformer, pipeline.scheduler)
    expected = vanilla._prepare_rotary_positional_embeddings(32, 32, 4, torch.device("cpu"))
    whole = rotary_embedding(transformer, torch.zeros(1, 4, 4, 8, 8))
    pooled = rotary_embedding(transformer, torch.zeros(1, 4, 4, 4, 4), stride=2)
    for ours, theirs, half in zip(whole, expected, pooled, strict=True):
        assert torch.equal(ours, theirs)
        assert torch.equal(half.view(2, 2, 2, -1), theirs.view(2, 4, 4, -1)[:, ::2, ::2])


def test_frames_are_filled_up_to_whole_patches_and_sampled_in_vanilla_diffusers(pipeline, tmp_path):
    transformer = build_transformer(MODEL.model_copy(update={"patch_size_t": 2}), (3, 4, 8, 8), 9, 4, 32, 0).eval()
    torch.nn.init.normal_(transformer.proj_out.weight, std=0.1)
    latents = torch.randn(1, 3, 4, 8, 8)
    filled = CogVideoX().whole_patches(transformer, latents)
    assert torch.equal(filled[:, 1:], latents) and torch.equal(filled[:, :1], latents[:, :1])
    parts = {"tokenizer": pipeline.tokenizer, "text_encoder": pipeline.text_encoder}
    made = CogVideoX().assemble(parts, pipeline.vae, transformer, pipeline.scheduler)
    (ours,) = sample(made, ["a blue square"], [4], REQUEST, batch_size=1)
    made.save_pretrained(tmp_path / "pipeline")
    frames = DiffusionPipeline.from_pretrained(str(tmp_path / "pipeline"))(
        "a blue square", num_frames=9, height=32, width=32, num_inference_steps=3, guidance_scale=2.0,
        max_sequence_length=16, generator=torch.Generator().manual_seed(4), output_type="np",
    ).frames[0]  # fmt: skip
    assert frames.shape == (9, 32, 32, 3)
    assert np.abs(np.rint(frames * 255) - ours).max() <= 1


@torch.no_grad()
def test_half_of_the_heads_start_by_looking_nearby():
    model = MODEL.model_copy(update={"attention_head_dim": 64})
    transformer = build_transformer(model, (1, 4, 16, 16), 1, 4, 32, 0)
    attention = transformer.transformer_blocks[0].attn1
    seen = torch.randn(64, 128)
    cos, sin = rotary_embedding(transformer, torch.zeros(1, 1, 4, 16, 16))
    query, key = (
        apply_rotary_emb(norm(linear(seen)[None, None, :, :64]), (cos, sin))[0, 0]
        for norm, linear in ((attention.norm_q, attention.to_q), (attention.norm_k, attention.to_k))
    )
    weights = (query @ key.T / 8).softmax(-1).view(8, 8, 8, 8)[3, 3]
    assert weights[2:5, 2:5].sum() > 0.5


def test_saved_pipeline_gives_in_vanilla_diffusers_what_sample_gives(pipeline, tmp_path):
    ours = list(sample(pipeline, ["a red circle", "a blue square"], [3, 4], REQUEST, batch_size=2))
    pipeline.save_pretrained(tmp_path / "pipeline")
    vanilla = DiffusionPipeline.from_pretrained(str(tmp_path / "pipeline"))
    assert type(vanilla).__name__ == "CogVideoXPipeline"
    frames = vanilla(
        "a blue square", num_frames=9, height=32, width=32, num_inference_steps=3, guidance_scale=2.0,
        max_sequence_length=16, generator=torch.Generator().manual_seed(4), output_type="np",
    ).frames[0]  # fmt: skip
    assert np.abs(np.rint(frames * 255) - ours[1]).max() <= 1


def test_a_video_does_not_depend_on_its_batch(pipeline):
    together = list(
        sample(pipeline, ["a red circle", "a blue square", "a red circle"], [1, 2, 3], REQUEST, batch_size=3)
    )
    alone = list(sample(pipeline, ["a red circle"], [3], REQUEST, batch_size=1))
    assert np.abs(together[2].astype(int) - alone[0]).max() <= 1


@pytest.mark.parametrize(
    ("frames", "height", "text"),
    [(12, 64, "nearest: 9 or 16"), (5, 64, "8k and 8k+1"), (17, 60, "nearest: 56 or 64"), (17, 4, "nearest: 8 or 16")],
)
def test_shapes_that_do_not_fit_name_the_rule_and_the_nearest(frames, height, text):
    with pytest.raises(UserError, match=text.replace("+", r"\+")):
        CogVideoX().check_video_shape(frames, height, 64, (4, 4), (1, 2))


def test_prompt_that_is_too_long_is_refused(pipeline):
    with pytest.raises(UserError, match="the model takes 226"):
        next(sample(pipeline, ["red " * 400], [0], REQUEST, 1))


def test_load_pipeline_says_what_to_do_when_there_is_none(tmp_path):
    with pytest.raises(UserError, match="dvc repro train"):
        load_pipeline(tmp_path)


def test_load_pipeline_refuses_a_torn_file(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    (tmp_path / "transformer/diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(UserError, match="not loaded as a CogVideoXPipeline"):
        load_pipeline(tmp_path)


def test_tokenizer_keeps_trained_words_whole_and_spells_the_rest():
    tokenizer = fit_tokenizer(["a green circle moving left to right"] * 3 + ["a red line"], 600)
    assert len(tokenizer("a green circle")["input_ids"]) == 4  # three words and the end
    assert tokenizer.unk_token_id not in tokenizer("zebra ÿ 漢")["input_ids"]
    assert (
        tokenizer.decode(tokenizer("A green zebra")["input_ids"], skip_special_tokens=True).strip() == "a green zebra"
    )


def test_text_encoder_starts_near_a_table_but_sees_order():
    tokenizer = fit_tokenizer(["left to right", "right to left"], 300)
    encoder = build_text_encoder(TEXT, len(tokenizer), 0)
    with torch.no_grad():
        there = encoder(token_ids(tokenizer, ["left to right"], 16))[0][0]
        back = encoder(token_ids(tokenizer, ["right to left"], 16))[0][0]
    left, left_again = there[0], back[2]
    assert torch.nn.functional.cosine_similarity(left, left_again, dim=0) > 0.8
    assert (left - left_again).abs().max() > 1e-3


def test_caption_that_does_not_fit_is_an_error_and_not_cut():
    tokenizer = fit_tokenizer(["red"], 300)
    with pytest.raises(UserError, match="caption of 6 tokens, the model takes 4"):
        token_ids(tokenizer, ["red red red red red"], 4)


def test_pretrained_text_encoder_comes_from_a_pipeline_directory(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    parts = CogVideoX().load_text(tmp_path)
    ids = token_ids(parts["tokenizer"], ["a red circle"], 16)
    with torch.no_grad():
        assert torch.equal(parts["text_encoder"](ids)[0], pipeline.text_encoder(ids)[0])


def test_missing_text_encoder_says_what_was_expected(tmp_path):
    with pytest.raises(UserError, match=r"text_encoder: no T5EncoderModel with its tokenizer .*\nExpected"):
        CogVideoX().load_text(tmp_path)
