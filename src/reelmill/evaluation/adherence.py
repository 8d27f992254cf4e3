"""Prompt adherence without labels: CLIP's cosine between a video's frames and its prompt.

After CLIPScore (Hessel et al. 2021, eq. 1, without its rescaling), averaged over frames.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch.nn.functional import normalize
from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel

from reelmill.errors import UserError

SAMPLED_FRAMES = 4  # a video


@dataclass(frozen=True)
class Adherence:
    """Mean cosine of frames and prompt, and the same with the prompts shuffled.

    ``shuffled`` is exact: the mean over all orders of the prompts.
    """

    cosine: float
    shuffled: float


class ClipScorer:
    """A CLIP model from a directory or the hub, with its tokenizer and image processor.

    Raises:
        UserError: when the model or one of its parts cannot be loaded.
    """

    def __init__(self, source: str, device: torch.device | str = "cpu") -> None:
        try:
            self._model = CLIPModel.from_pretrained(source, use_safetensors=True).eval()
            self._tokenizer = AutoTokenizer.from_pretrained(source)
            self._processor = CLIPImageProcessor.from_pretrained(source)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise UserError(
                f"params.yaml: evaluate.clip_model: {source!r} was not loaded: {error}\n"
                "Expected a directory with a CLIPModel, its tokenizer and its preprocessor_config.json, or a hub id "
                "that you can reach. Correct it, or set evaluate.clip_model: null to go without."
            ) from None
        torch.nn.Module.to(self._model, device)

    @torch.no_grad()
    def embed_prompts(self, prompts: Sequence[str]) -> Float[torch.Tensor, "b d"]:
        """Unit vectors of the prompts; longer ones than the model reads are cut."""
        longest = self._model.config.text_config.max_position_embeddings
        tokens = self._tokenizer(list(prompts), padding=True, truncation=True, max_length=longest, return_tensors="pt")
        inputs = {key: tokens[key].to(self._model.device) for key in ("input_ids", "attention_mask")}
        pooled = self._model.text_model(**inputs).pooler_output
        return normalize(self._model.text_projection(pooled), dim=-1).cpu()

    @torch.no_grad()
    def embed_video(self, frames: UInt8[np.ndarray, "f h w 3"]) -> Float[torch.Tensor, "d"]:
        """Mean of the unit vectors of four frames: its product with a prompt's is the mean cosine."""
        chosen = np.linspace(0, len(frames) - 1, SAMPLED_FRAMES).round().astype(int)
        pixels = self._processor(images=list(frames[chosen]), return_tensors="pt")["pixel_values"]
        pooled = self._model.vision_model(pixel_values=pixels.to(self._model.device)).pooler_output
        return normalize(self._model.visual_projection(pooled), dim=-1).mean(0).cpu()


def measure_adherence(
    scorer: ClipScorer, clips: Iterable[UInt8[np.ndarray, "f h w 3"]], prompts: Sequence[str]
) -> Adherence:
    """Adherence of clips to their prompts; one clip's frames are held at a time."""
    distinct = sorted(set(prompts))
    rows = torch.tensor([distinct.index(prompt) for prompt in prompts])
    texts = scorer.embed_prompts(distinct)[rows]
    videos = torch.stack([scorer.embed_video(frames) for frames in clips])
    cosines = videos.double() @ texts.double().T
    return Adherence(cosine=float(cosines.diagonal().mean()), shuffled=float(cosines.mean()))
