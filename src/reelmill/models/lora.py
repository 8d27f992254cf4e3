"""Low-rank adapters (Hu et al. 2021) by PEFT, in diffusers' file format."""

import json
from pathlib import Path
from typing import Any

from diffusers import DiffusionPipeline
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from torch import nn

from reelmill.compute import seed_all
from reelmill.config import Lora
from reelmill.errors import UserError
from reelmill.models.comfyui import COMFYUI_WEIGHTS, to_comfyui
from reelmill.models.family import Family

LORA_WEIGHTS = "pytorch_lora_weights.safetensors"


def add_adapter(transformer: Any, settings: Lora, family: Family, seed: int) -> None:
    """Freeze a transformer and add an adapter, in full precision, that changes nothing yet; a function of ``seed``.

    Only layers within the blocks are adapted: a name such as ``to_q`` may mean others outside of them.

    Raises:
        UserError: when a target names no linear layer of a block, with the names that do.
    """
    targets = settings.targets or family.lora_targets
    layers = _block_layers(transformer, family)
    for target in targets:
        if target not in layers.values():
            known = ", ".join(sorted(set(layers.values())))
            raise UserError(
                f"train.lora.targets: {target}: no linear layer in the blocks of this transformer. There are: {known}."
            )
    wanted = [layer for layer, name in layers.items() if name in targets]
    transformer.requires_grad_(False)
    seed_all(seed, "lora")
    transformer.add_adapter(LoraConfig(r=settings.rank, lora_alpha=settings.alpha, target_modules=wanted))
    for parameter in transformer.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def _block_layers(transformer: Any, family: Family) -> dict[str, str]:
    """The blocks' linear layers: full name to short name, ``blocks.3.attn1.to_q`` to ``to_q`` and ``to_out.0`` whole."""
    names = [
        name
        for name, module in transformer.named_modules()
        if isinstance(module, nn.Linear) and name.split(".")[0] in family.blocks
    ]
    return {name: _short(name.split(".", 2)[2]) for name in names}


def _short(name: str) -> str:
    """Within an attention the layer's own name: the same in self- and cross-attention."""
    first, _, rest = name.partition(".")
    return rest if first.startswith("attn") else name


def save_adapter(transformer: Any, family: Family, directory: Path) -> None:
    """Write the adapter as ``pipe.load_lora_weights(directory)`` reads it, with rank and alpha; and under ComfyUI's keys."""
    config = transformer.peft_config["default"]
    weights = {
        key: weight.detach().cpu().contiguous() for key, weight in get_peft_model_state_dict(transformer).items()
    }
    # Written here and not by the pipeline's own `save_lora_weights`: safetensors puts several entries of metadata,
    # and Python a set, in an order that changes from process to process.
    settings = {
        f"transformer.{key}": sorted(value) if isinstance(value, set) else value
        for key, value in config.to_dict().items()
    }
    metadata = {LORA_ADAPTER_METADATA_KEY: json.dumps(settings, indent=2, sort_keys=True)}
    save_file({f"transformer.{key}": weight for key, weight in weights.items()}, directory / LORA_WEIGHTS, metadata)
    converted = to_comfyui(family.name, weights, config.lora_alpha / config.r)
    if converted is not None:
        (directory / COMFYUI_WEIGHTS).parent.mkdir()
        save_file(converted, directory / COMFYUI_WEIGHTS)


def load_adapter(pipeline: DiffusionPipeline, directory: Path) -> None:
    """Put a saved adapter into a pipeline's transformer."""
    pipeline.load_lora_weights(directory, weight_name=LORA_WEIGHTS)
