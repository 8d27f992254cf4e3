"""The HunyuanVideo family (Kong et al. 2024) through diffusers' own classes."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers import AutoencoderKLHunyuanVideo, HunyuanVideoPipeline, HunyuanVideoTransformer3DModel
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import DEFAULT_PROMPT_TEMPLATE
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, LlamaConfig, LlamaModel

from reelmill.compute import seed_all
from reelmill.config import Autoencoder, Model, TextEncoder
from reelmill.models.family import Family, Text, TextParts
from reelmill.models.text import END_ID, PAD_ID, fit_tokenizer
from reelmill.rules import NORM_GROUPS

CLIP_TOKENS = 77  # the pipeline cuts captions to them for CLIP, whose pooled output is but a summary
SKIPPED_LAYERS = 2  # of Llama, from its end: the pipeline takes the third last hidden state
TRAINING_GUIDANCE = 1000.0  # what distilled models are told in training: a scale of 1, in thousandths


class HunyuanVideo(Family):
    """Rectified flow; Llama's embeddings with their mask, in a prompt template, and CLIP's pooled ones."""

    name = "hunyuan_video"
    pipeline_class = HunyuanVideoPipeline
    transformer_class = HunyuanVideoTransformer3DModel
    autoencoder_class = AutoencoderKLHunyuanVideo
    encoder_classes = {"text_encoder": LlamaModel, "text_encoder_2": CLIPTextModel}  # noqa: RUF012
    blocks = ("transformer_blocks", "single_transformer_blocks")
    lora_targets = ("to_q", "to_k", "to_v", "to_out.0")
    side_multiple_px = 16
    passes_sigmas = True

    def build_transformer(
        self,
        settings: Model,
        latent_shape: tuple[int, int, int, int],
        num_frames: int,
        temporal_compression: int,
        empty_text: Text,
        seed: int,
    ) -> HunyuanVideoTransformer3DModel:
        """A new transformer of ``num_layers`` double blocks and twice as many single ones, as the published one.

        Its last projection starts at zero. It is not distilled: guidance takes two passes.
        """
        seed_all(seed, "transformer")
        channels, width = latent_shape[1], settings.attention_head_dim
        time = -(-width // 32) * 4  # an eighth, in whole pairs of pairs, so that the rest halves into even numbers
        model = HunyuanVideoTransformer3DModel(
            in_channels=channels,
            out_channels=channels,
            num_attention_heads=settings.num_attention_heads,
            attention_head_dim=width,
            num_layers=settings.num_layers,
            num_single_layers=2 * settings.num_layers,
            patch_size=settings.patch_size,
            patch_size_t=settings.patch_size_t,
            guidance_embeds=False,
            text_embed_dim=empty_text["text"].shape[-1],
            pooled_projection_dim=empty_text["pooled"].shape[-1],
            rope_axes_dim=(time, (width - time) // 2, (width - time) // 2),
        )
        torch.nn.init.zeros_(model.proj_out.weight)
        torch.nn.init.zeros_(model.proj_out.bias)
        return model

    def build_autoencoder(self, settings: Autoencoder, height_px: int, width_px: int) -> AutoencoderKLHunyuanVideo:
        """A new autoencoder."""
        seed_all(settings.seed, "autoencoder")
        blocks = len(settings.block_out_channels)
        return AutoencoderKLHunyuanVideo(
            latent_channels=settings.latent_channels,
            down_block_types=("HunyuanVideoDownBlock3D",) * blocks,
            up_block_types=("HunyuanVideoUpBlock3D",) * blocks,
            block_out_channels=tuple(settings.block_out_channels),
            layers_per_block=settings.layers_per_block,
            norm_num_groups=NORM_GROUPS,
            scaling_factor=1.0,
            spatial_compression_ratio=settings.spatial_compression,
            temporal_compression_ratio=settings.temporal_compression,
        )

    def build_text(self, settings: TextEncoder, captions: Sequence[str], vocabulary_size: int) -> TextParts:
        """A Llama with embeddings of unit size and small layers, and a CLIP, on one vocabulary that knows the template."""
        tokenizer = fit_tokenizer([*captions, _in_template("")], vocabulary_size)
        seed_all("frozen text encoder")
        common = {
            "vocab_size": len(tokenizer),
            "hidden_size": settings.width,
            "intermediate_size": 2 * settings.width,
            "num_attention_heads": settings.num_heads,
        }
        llama = LlamaModel(
            LlamaConfig(
                **common,
                num_key_value_heads=settings.num_heads,
                num_hidden_layers=settings.num_layers + SKIPPED_LAYERS,
                max_position_embeddings=2048,
                pad_token_id=PAD_ID,
            )
        )
        torch.nn.init.normal_(llama.embed_tokens.weight)
        clip = CLIPTextModel(
            CLIPTextConfig(
                **common,
                num_hidden_layers=settings.num_layers,
                max_position_embeddings=CLIP_TOKENS,
                pad_token_id=PAD_ID,
                eos_token_id=END_ID,
                bos_token_id=END_ID,
            )
        )
        encoders = {"text_encoder": llama, "text_encoder_2": clip}
        return {
            "tokenizer": tokenizer,
            "tokenizer_2": tokenizer,
            **{name: encoder.eval().requires_grad_(False) for name, encoder in encoders.items()},
        }

    def encode_text(self, parts: TextParts, captions: list[str], max_tokens: int) -> Text:
        """``text`` [b l d] of Llama, its ``mask`` [b l], and ``pooled`` [b d] of CLIP."""
        pipeline = self.assemble(parts, None, None, None)
        text, pooled, mask = pipeline.encode_prompt(
            captions, max_sequence_length=max_tokens, device=parts["text_encoder"].device
        )
        return {"text": text, "mask": mask, "pooled": pooled}

    def num_tokens(self, parts: TextParts, captions: list[str]) -> list[int]:
        """Of each caption within the template, less those that the pipeline cuts off again."""
        cut = DEFAULT_PROMPT_TEMPLATE["crop_start"]
        ids = parts["tokenizer"]([_in_template(caption) for caption in captions])["input_ids"]
        return [len(tokens) - cut for tokens in ids]

    def call_defaults(self, pipeline: Any) -> tuple[dict[str, Any], int]:
        """The class's own."""
        arguments = {
            "num_frames": 129,
            "height": 720,
            "width": 1280,
            "num_inference_steps": 50,
            "guidance_scale": 6.0,
            "max_sequence_length": 256,
        }
        return arguments, 24

    def prompt_arguments(self, text: Text, empty: Text) -> dict[str, Tensor]:
        """Embeddings, masks and pooled outputs of the prompts and of the empty one."""
        names = {"text": "prompt_embeds", "mask": "prompt_attention_mask", "pooled": "pooled_prompt_embeds"}
        return {
            **{name: text[key] for key, name in names.items()},
            **{f"negative_{name}": empty[key] for key, name in names.items()},
        }

    def is_distilled(self, config: Mapping[str, Any]) -> bool:
        """As the published model is; one from scratch is not."""
        return config["guidance_embeds"]

    def guidance_arguments(self, config: Mapping[str, Any], scale: float) -> dict[str, Any]:
        """A distilled model is told the scale; any other is asked twice."""
        if self.is_distilled(config):
            return {"guidance_scale": scale}
        return {"guidance_scale": 1.0, "true_cfg_scale": scale, "negative_prompt": ""}

    def predict(
        self,
        transformer: Any,
        noisy: Float[Tensor, "b t c h w"],
        timestep: Float[Tensor, " b"],
        text: Text,
        stride: int = 1,
    ) -> Float[Tensor, "b t c h w"]:
        """The velocity."""
        distilled = self.is_distilled(transformer.config)
        guidance = noisy.new_full((len(noisy),), TRAINING_GUIDANCE) if distilled else None
        prediction = transformer(
            hidden_states=rearrange(noisy, "b t c h w -> b c t h w"),
            timestep=timestep,
            encoder_hidden_states=text["text"].to(noisy.dtype),
            encoder_attention_mask=text["mask"].to(noisy.dtype),
            pooled_projections=text["pooled"].to(noisy.dtype),
            guidance=guidance,
            return_dict=False,
        )[0]
        return rearrange(prediction, "b c t h w -> b t c h w")

    def compression(self, autoencoder: Any) -> tuple[int, int]:
        """As its configuration says."""
        config = autoencoder.config
        return int(config.temporal_compression_ratio), int(config.spatial_compression_ratio)

    def patch_sizes(self, config: Mapping[str, Any]) -> tuple[int, int]:
        """As the configuration says."""
        return int(config["patch_size_t"]), int(config["patch_size"])

    @torch.no_grad()
    def fold_normalisation(self, autoencoder: Any, mean: Float[Tensor, " c"], std: Float[Tensor, " c"]) -> None:
        """Into the two convolutions of one pixel around the latents, exactly."""
        out, back, channels = autoencoder.quant_conv, autoencoder.post_quant_conv, mean.numel()
        out.weight[:channels] /= std.view(-1, 1, 1, 1, 1)
        out.bias[:channels] = (out.bias[:channels] - mean) / std
        out.bias[channels:] -= 2 * std.log()
        back.bias += torch.einsum("oithw,i->o", back.weight, mean)
        back.weight *= std.view(1, -1, 1, 1, 1)


def _in_template(caption: str) -> str:
    return DEFAULT_PROMPT_TEMPLATE["template"].format(caption)
