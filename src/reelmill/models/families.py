"""The families by name, and by what they have made."""

from pathlib import Path
from typing import Any

from reelmill.errors import UserError
from reelmill.models.cogvideox import CogVideoX
from reelmill.models.family import Family
from reelmill.models.hunyuan_video import HunyuanVideo
from reelmill.models.source import read_index
from reelmill.models.wan import Wan

FAMILIES: dict[str, Family] = {family.name: family for family in (CogVideoX(), Wan(), HunyuanVideo())}


def family_of(made: Any) -> Family:
    """The family of a pipeline or an autoencoder."""
    for family in FAMILIES.values():
        if isinstance(made, family.pipeline_class | family.autoencoder_class):
            return family
    raise AssertionError(f"{type(made).__name__}: of no family")


def named_by(index: dict, where: str) -> Family:
    """The family that a model_index.json names. Raises `UserError` when there is none."""
    class_name = index.get("_class_name")
    for family in FAMILIES.values():
        if family.pipeline_class.__name__ == class_name:
            return family
    known = ", ".join(f"{family.pipeline_class.__name__} ({name})" for name, family in FAMILIES.items())
    raise UserError(f"{where}: a {class_name}, which is of no family that can be trained. There are: {known}.")


def check_source(directory: Path, family: Family, key: str = "model.source") -> None:
    """Raise `UserError` when a pipeline's directory is not of this family, or cannot be trained, with the reason."""
    index = read_index(directory, key)
    found = named_by(index, f"{key}: {directory}")
    if found is not family:
        raise UserError(
            f"{key}: {directory}: a {found.pipeline_class.__name__}, and model.family is {family.name}. "
            f"Set model.family: {found.name}, or name a {family.pipeline_class.__name__}."
        )
    if reason := family.untrainable(index):
        raise UserError(f"{key}: {directory}: {reason}")
