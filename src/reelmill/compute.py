"""Device, precision and determinism, decided by what the hardware has and never by a clock."""

import gc
import random
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import version

import numpy as np
import torch

from reelmill.config import Device, Precision
from reelmill.errors import UserError
from reelmill.storage import hash_value

PLAIN_ATTENTION_TOKENS = 512  # of the video: up to here `choose_attention` takes plain products


def choose_device(device: Device) -> torch.device:
    """The device that a setting means. Raises `UserError` for ``cuda`` where there is none."""
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "device: cuda: this machine's torch sees no GPU. Set device: auto or cpu, or install a CUDA build of torch (see the README)."
        )
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


def has_fast_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 matrices in hardware.

    Asked of the hardware and not timed: a timing would make the bytes depend on the machine's load.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16"))


def autocast(device: torch.device, precision: Precision, keep_weights: bool = True) -> AbstractContextManager:
    """bf16 autocast where it is wanted and, with ``auto``, where the hardware has it.

    Args:
        keep_weights: keep what weights become in bf16 until the block ends, for those that are used twice.
    """
    if precision == "fp32" or (precision == "auto" and not has_fast_bf16(device)):
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16, cache_enabled=keep_weights)


def weights_dtype(device: torch.device, precision: Precision) -> torch.dtype:
    """What frozen weights are kept in: they are computed with in bf16 wherever `autocast` is, and need no more."""
    return torch.float32 if isinstance(autocast(device, precision), nullcontext) else torch.bfloat16


def choose_attention(device: torch.device, precision: Precision, tokens: int) -> None:
    """Attention of this process's transformers by plain matrix products, or torch's own choice.

    On a CPU with bf16 torch's fused attention takes twice as long for a few hundred tokens (docs/LOG.md);
    for more the products' scores no longer fit its cache, and they take more memory.
    """
    bf16 = not isinstance(autocast(device, precision), nullcontext)
    plain = device.type == "cpu" and bf16 and tokens <= PLAIN_ATTENTION_TOKENS
    # Both switches hold for every device, whatever the module's name says.
    torch.backends.cuda.enable_flash_sdp(not plain)
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(plain)


def numerics() -> dict[str, object]:
    """What, beside code and settings, decides the last bits: state made under one is not used under another."""
    device = choose_device("auto")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.cpu.get_capabilities().get("cpu_name")
    return {
        "torch": torch.__version__,
        "diffusers": version("diffusers"),
        "transformers": version("transformers"),
        "device": f"{device.type} {name}",
        "threads": torch.get_num_threads(),
        "bf16": has_fast_bf16(device),
    }


def make_deterministic(wanted: bool) -> None:
    """Deterministic kernels where they are wanted; what has none raises then, instead of varying.

    On a GPU this costs speed (mostly in the convolutions' gradients) and needs
    ``CUBLAS_WORKSPACE_CONFIG=:4096:8``, which the stages set. On the CPU it changes nothing.
    """
    torch.use_deterministic_algorithms(wanted)
    torch.backends.cudnn.benchmark = not wanted


def release_memory(device: torch.device) -> None:
    """Give back what nothing refers to any more: torch keeps a GPU's freed memory for itself otherwise."""
    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()


def generator(*key: object) -> torch.Generator:
    """A CPU generator that is a function of its key, such as (seed, "noise", step)."""
    return torch.Generator().manual_seed(int(hash_value(list(key))[:15], 16))


def seed_all(*key: object) -> None:
    """Seed the global generators, for library code that initialises weights from them."""
    seed = int(hash_value(list(key))[:8], 16)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
