"""LoRAs under ComfyUI's keys, which are those of the models' first releases.

For the families that diffusers can read such a file of, so that a round trip proves it. The adapter's
scale alpha / rank is multiplied into the weights: not every reader knows an alpha.
"""

from collections import defaultdict

import torch
from torch import Tensor

COMFYUI_WEIGHTS = "comfyui/lora.safetensors"
Matrices = tuple[Tensor, Tensor]  # down [r, in] and up [out, r]

_WAN = {
    **{
        f"{ours}.{layer}": f"{theirs}.{short}"
        for ours, theirs in (("attn1", "self_attn"), ("attn2", "cross_attn"))
        for layer, short in (("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "o"))
    },
    "ffn.net.0.proj": "ffn.0",
    "ffn.net.2": "ffn.2",
}
_HUNYUAN_BLOCKS = {"transformer_blocks": "double_blocks", "single_transformer_blocks": "single_blocks"}
_HUNYUAN = {
    "attn.to_out.0": "img_attn_proj",
    "attn.to_add_out": "txt_attn_proj",
    "ff.net.0.proj": "img_mlp.fc1",
    "ff.net.2": "img_mlp.fc2",
    "ff_context.net.0.proj": "txt_mlp.fc1",
    "ff_context.net.2": "txt_mlp.fc2",
    "norm1.linear": "img_mod.linear",
    "norm1_context.linear": "txt_mod.linear",
    "proj_out": "linear2",
    "norm.linear": "modulation.linear",
}
# Layers that were one: each of ours, by blocks, with its place there and its outputs in widths of the model.
_HUNYUAN_FUSED = {
    "transformer_blocks": {
        "img_attn_qkv": {"attn.to_q": 1, "attn.to_k": 1, "attn.to_v": 1},
        "txt_attn_qkv": {"attn.add_q_proj": 1, "attn.add_k_proj": 1, "attn.add_v_proj": 1},
    },
    "single_transformer_blocks": {"linear1": {"attn.to_q": 1, "attn.to_k": 1, "attn.to_v": 1, "proj_mlp": 4}},
}


def to_comfyui(family: str, weights: dict[str, Tensor], scale: float) -> dict[str, Tensor] | None:
    """An adapter's weights under ComfyUI's keys; None for a family without a converter to prove it by.

    Args:
        weights: ``<layer>.lora_A.weight`` and ``<layer>.lora_B.weight`` by diffusers' names of a transformer's layers.
        scale: alpha / rank.
    """
    convert = {"wan": _wan, "hunyuan_video": _hunyuan_video}.get(family)
    if convert is None:
        return None
    layers = {
        key.removesuffix(".lora_A.weight"): (down, weights[key.replace("lora_A", "lora_B")] * scale)
        for key, down in weights.items()
        if key.endswith(".lora_A.weight")
    }
    return {
        f"diffusion_model.{name}.{half}.weight": matrix.contiguous()
        for name, pair in convert(layers).items()
        for half, matrix in zip(("lora_A", "lora_B"), pair, strict=True)
    }


def _wan(layers: dict[str, Matrices]) -> dict[str, Matrices]:
    converted = {}
    for layer, pair in layers.items():
        blocks, index, name = layer.split(".", 2)
        converted[f"{blocks}.{index}.{_WAN[name]}"] = pair
    return converted


def _hunyuan_video(layers: dict[str, Matrices]) -> dict[str, Matrices]:
    converted: dict[str, Matrices] = {}
    fused: dict[tuple[str, str, str], dict[str, Matrices]] = defaultdict(dict)
    for layer, pair in layers.items():
        blocks, index, name = layer.split(".", 2)
        whole = next((key for key, parts in _HUNYUAN_FUSED[blocks].items() if name in parts), None)
        if whole is None:
            converted[f"{_HUNYUAN_BLOCKS[blocks]}.{index}.{_HUNYUAN[name]}"] = pair
        else:
            fused[blocks, index, whole][name] = pair
    for (blocks, index, whole), parts in fused.items():
        converted[f"{_HUNYUAN_BLOCKS[blocks]}.{index}.{whole}"] = _fuse(_HUNYUAN_FUSED[blocks][whole], parts)
    return converted


def _fuse(widths: dict[str, int], parts: dict[str, Matrices]) -> Matrices:
    """Adapters of layers on one input as one of their common layer: ranks add up, each part fills its own outputs."""
    inputs = next(iter(parts.values()))[0].shape[1]
    downs, ups = [], []
    for name, width in widths.items():
        if name in parts:
            down, up = parts[name]
        else:
            down, up = torch.zeros(0, inputs), torch.zeros(width * inputs, 0)
        downs.append(down)
        ups.append(up)
    return torch.cat(downs), torch.block_diag(*ups)
