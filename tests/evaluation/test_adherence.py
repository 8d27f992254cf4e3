import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, PreTrainedTokenizerFast

from reelmill.errors import UserError
from reelmill.evaluation.adherence import ClipScorer, measure_adherence

WORDS = ["<pad>", "<start>", "<end>", "<unk>", "a", "red", "blue", "line", "circle"]


@pytest.fixture(scope="module")
def clip_model(tmp_path_factory):
    """A tiny random CLIP with its tokenizer and image processor, saved as a user would have it."""
    directory = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {
        **small,
        "vocab_size": len(WORDS),
        "max_position_embeddings": 8,
        "eos_token_id": 2,
        "bos_token_id": 1,
        "pad_token_id": 0,
    }
    vision = {**small, "image_size": 32, "patch_size": 16}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).save_pretrained(directory)
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 1), ("<end>", 2)]
    )
    names = {"pad_token": "<pad>", "bos_token": "<start>", "eos_token": "<end>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(directory)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(directory)
    return directory


def _clips():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (5, 24, 40, 3), dtype=np.uint8) for _ in range(3)]


def test_adherence_equals_the_model_s_own_logits(clip_model):
    clips, prompts = _clips(), ["a red line", "a blue circle", "a red line"]
    result = measure_adherence(ClipScorer(str(clip_model)), clips, prompts)
    model = CLIPModel.from_pretrained(clip_model).eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(clip_model)
    processor = CLIPImageProcessor.from_pretrained(clip_model)
    cosines = []
    for frames in clips:
        pixels = processor(images=list(frames[[0, 1, 3, 4]]), return_tensors="pt")["pixel_values"]
        tokens = tokenizer(prompts, padding=True, return_tensors="pt")
        with torch.no_grad():
            logits = model(tokens["input_ids"], pixels, tokens["attention_mask"]).logits_per_image
        cosines.append((logits / model.logit_scale.exp()).mean(0))
    table = torch.stack(cosines)
    assert result.cosine == pytest.approx(table.diagonal().mean().item(), abs=1e-5)
    assert result.shuffled == pytest.approx(table.mean().item(), abs=1e-5)


def test_adherence_cuts_a_prompt_that_is_longer_than_the_model_reads(clip_model):
    assert ClipScorer(str(clip_model)).embed_prompts(["a red line " * 30]).shape == (1, 8)


def test_clip_scorer_names_the_setting_when_there_is_no_model(tmp_path):
    with pytest.raises(UserError, match=r"evaluate\.clip_model"):
        ClipScorer(str(tmp_path / "nothing"))
