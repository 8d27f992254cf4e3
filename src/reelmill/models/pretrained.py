"""Loading what was saved or published: autoencoders, pipelines, and LoRAs with the pipelines they belong to."""

from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import DiffusionPipeline, SchedulerMixin

from reelmill.compute import weights_dtype
from reelmill.config import Precision
from reelmill.errors import UserError
from reelmill.models.families import FAMILIES, check_source, named_by
from reelmill.models.family import Family
from reelmill.models.lora import LORA_WEIGHTS, load_adapter
from reelmill.models.source import (
    BASE,
    INDEX,
    loading,
    local,
    read_configuration,
    read_index,
    require_weights,
    resolve,
    weights_digest,
)
from reelmill.storage import read_json

PARTS = ("scheduler", "tokenizer", "tokenizer_2", "text_encoder", "text_encoder_2", "transformer", "vae")


def load_autoencoder(
    source: str | Path, subfolder: str | None = None, device: torch.device | str = "cpu", tiling: bool = False
) -> Any:
    """A saved or pretrained autoencoder of any family: a directory, or a hub id.

    Raises:
        UserError: when there is no whole autoencoder at ``source``.
    """
    directory = resolve(str(source), "autoencoder.source", [subfolder] if subfolder else []) / (subfolder or "")
    found = _autoencoder_class(directory)
    with loading(found.__name__, directory):
        model = found.from_pretrained(directory, use_safetensors=True)
    if tiling:
        model.enable_tiling()
        model.enable_slicing()
    return model.to(device).eval()


def outline_autoencoder(source: str, subfolder: str | None = None) -> Any:
    """The same without its weights, which are neither downloaded nor read: for what its configuration says.

    Raises:
        UserError: when there is no autoencoder's configuration at ``source``.
    """
    directory = resolve(source, "autoencoder.source", [], weights=False) / (subfolder or "")
    found = _autoencoder_class(directory)
    with loading(found.__name__, directory, weights=False), torch.device("meta"):
        return found.from_config(found.load_config(directory))


def _autoencoder_class(directory: Path) -> Any:
    classes = {family.autoencoder_class.__name__: family.autoencoder_class for family in FAMILIES.values()}
    there = (directory / "config.json").is_file()
    name = read_configuration(directory).get("_class_name") if there else "no config.json"
    if name not in classes:
        raise UserError(
            f"autoencoder {directory}: not loaded: found {name}, expected one of {', '.join(classes)} as diffusers saves it. "
            "Run `dvc repro`, or correct `autoencoder.source` and `autoencoder.subfolder`."
        )
    return classes[name]


def is_pipeline(path: Path) -> bool:
    """Whether there is a pipeline, or a LoRA with the name of one."""
    return (path / INDEX).is_file() or (path / BASE).is_file()


def load_pipeline(
    path: Path, device: torch.device | str = "cpu", precision: Precision = "auto", tiling: bool = False
) -> DiffusionPipeline:
    """A pipeline's directory of any family, or a LoRA's with the pipeline that it was trained on.

    Args:
        precision: of the computing; the frozen weights beside a LoRA are kept in it, as they were in training.

    Raises:
        UserError: when it is missing, not whole, of no known family, or a LoRA's base has other weights now.
    """
    if not is_pipeline(path):
        raise UserError(
            f"{path}: no {INDEX} in it, so it is no diffusers pipeline. Run `dvc repro train`, or name a pipeline's directory."
        )
    directory = resolve(str(path), str(path), PARTS)
    family = named_by(read_index(directory, str(path)), str(path))
    is_lora = (path / BASE).is_file()
    if is_lora and not (path / LORA_WEIGHTS).is_file():
        raise UserError(
            f"{path}: a LoRA without its {LORA_WEIGHTS}. Restore it with `dvc checkout {path}`, or train it again with `dvc repro -f train`."
        )
    frozen = weights_dtype(torch.device(device), precision) if is_lora else torch.float32
    dtypes = {"default": frozen, "vae": torch.float32}  # training decodes with it so, and bf16 shows in the picture
    try:
        pipeline = family.pipeline_class.from_pretrained(directory, use_safetensors=True, dtype=dtypes)  # type: ignore[attr-defined]
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f"{directory}: not loaded as a {family.pipeline_class.__name__}: {error}\nRestore it with `dvc checkout {path}` or train it again with `dvc repro -f train`."
        ) from None
    if is_lora:
        check_base(path, directory)
        load_adapter(pipeline, path)
        pipeline.scheduler = load_scheduler(path)
    pipeline.set_progress_bar_config(disable=True)
    if tiling:
        pipeline.vae.enable_tiling()
        pipeline.vae.enable_slicing()
    return pipeline.to(device)


def load_scheduler(directory: Path) -> SchedulerMixin:
    """The scheduler in a pipeline's or a LoRA's directory, of whichever class it names."""
    folder = directory / "scheduler"
    with loading("scheduler", folder):
        return getattr(diffusers, read_json(folder / "scheduler_config.json")["_class_name"]).from_pretrained(folder)


def check_base(path: Path, directory: Path) -> None:
    """Raise `UserError` when the transformer in ``directory`` is not the one that the LoRA at ``path`` was trained on."""
    base = read_json(path / BASE)
    if weights_digest(directory / "transformer") != base["transformer_hash"]:
        raise UserError(
            f"{path}: a LoRA of {base['source']}, whose transformer has other weights now. Put those back that it was trained on, or train it anew with `dvc repro -f train`."
        )


def open_source(source: str, family: Family, weights: bool = True) -> Path:
    """The directory of a pretrained pipeline of ``family``.

    Args:
        weights: False: the transformer's are neither asked for nor, of a hub id, downloaded.

    Raises:
        UserError: when it is none, cannot be trained, or is not whole.
    """
    if (adapter := local(source) / BASE).is_file():
        raise UserError(
            f"model.source: {source}: a LoRA, and training does not go on from one. Name the pipeline that it was trained on: {read_json(adapter)['source']}."
        )
    directory = resolve(source, "model.source", ("transformer", "scheduler"), weights)
    check_source(directory, family)
    if weights:
        require_weights(directory / "transformer")
    return directory
