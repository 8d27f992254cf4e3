"""Low-rank adapters (Hu et al. 2021) by PEFT, in diffusers' file format."""

from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from torch import nn

from reelmill.compute import seed_all
from reelmill.config import Lora
from reelmill.errors import UserError
from reelmill.models.family import Family

LORA_WEIGHTS = "pytorch_lora_weights.safetensors"


def add_adapter(transformer: Any, settings: Lora, family: Family, seed: int) -> None:
    """Freeze a transformer and add an adapter, in full precision, that changes nothing yet; a function of ``seed``.

    Raises:
        UserError: when a target names no linear layer, with names that do.
    """
    targets = list(settings.targets or family.lora_targets)
    linear = [name for name, module in transformer.named_modules() if isinstance(module, nn.Linear)]
    for target in targets:
        if not any(name == target or name.endswith(f".{target}") for name in linear):
            known = sorted({_without_index(name) for name in linear})
            raise UserError(
                f"train.lora.targets: {target}: no linear layer of this transformer has that name. There are: {', '.join(known)}."
            )
    transformer.requires_grad_(False)
    seed_all(seed, "lora")
    transformer.add_adapter(LoraConfig(r=settings.rank, lora_alpha=settings.alpha, target_modules=targets))
    for parameter in transformer.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def _without_index(name: str) -> str:
    """A layer's name within its block: ``blocks.3.attn.to_q`` is ``attn.to_q``."""
    parts = name.split(".")
    first = next((i for i, part in enumerate(parts[:-1]) if part.isdigit()), -1)
    return ".".join(parts[first + 1 :])


def save_adapter(transformer: Any, family: Family, directory: Path) -> None:
    """Write the adapter as ``pipe.load_lora_weights(directory)`` reads it, with rank and alpha."""
    metadata = transformer.peft_config["default"].to_dict()
    # A set's order changes from process to process, and with it the file's bytes.
    metadata = {key: sorted(value) if isinstance(value, set) else value for key, value in metadata.items()}
    family.pipeline_class.save_lora_weights(  # type: ignore[attr-defined]
        directory,
        transformer_lora_layers=get_peft_model_state_dict(transformer),
        transformer_lora_adapter_metadata=metadata,
    )


def load_adapter(pipeline: DiffusionPipeline, directory: Path) -> None:
    """Put a saved adapter into a pipeline's transformer."""
    pipeline.load_lora_weights(directory, weight_name=LORA_WEIGHTS)


def adapter_weights(transformer: Any) -> dict[str, torch.Tensor]:
    """The adapter's matrices by the names that diffusers gives them, without a prefix."""
    return get_peft_model_state_dict(transformer)
