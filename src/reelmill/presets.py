"""Presets: named sets of settings laid over presets/default.yaml."""

from pathlib import Path

from ruamel.yaml.error import YAMLError

from reelmill import settings
from reelmill.config import load_params
from reelmill.errors import UserError
from reelmill.storage import atomic_path

FOLDER = Path("presets")


def names() -> list[str]:
    """The presets that there are."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def write_preset(name: str, target: Path = Path("params.yaml"), force: bool = False) -> None:
    """Write the settings of a preset, comments kept; ``target`` is untouched if they do not check.

    Raises:
        UserError: for an unknown preset, one whose settings break a rule, or, unless ``force``, a
            ``target`` with settings of the user's own, which would be lost.
    """
    if not FOLDER.is_dir():
        raise UserError(f"{FOLDER}/: not found. Run in the repository's root, where params.yaml is.")
    if name not in names():
        raise UserError(f"preset {name!r}: not one of {', '.join(names())} (files in {FOLDER}/)")
    if target.exists() and not force and not _is_a_preset(target):
        raise UserError(
            f"{target}: has settings of your own, which a preset would replace. Keep a copy of it, then run again with --force."
        )
    with atomic_path(target) as temporary:
        settings.write(_compose(name), temporary)
        load_params(temporary)


def _compose(name: str) -> dict:
    """The default preset with the named one over it."""
    composed = settings.read(FOLDER / "default.yaml")
    source = FOLDER / f"{name}.yaml"
    if name != "default":
        _lay_over(composed, settings.read(source), source)
    return composed


def _is_a_preset(path: Path) -> bool:
    try:
        found = settings.read(path)
    except YAMLError:  # whatever stands there, it is nobody's but the user's
        return False
    return any(found == _compose(name) for name in names())


def _lay_over(composed: dict, changes: dict, source: Path, where: str = "") -> None:
    for key, value in changes.items():
        if key not in composed:
            raise UserError(f"{source}: {where}{key}: unknown setting; remove it or correct its spelling")
        if isinstance(value, dict) and isinstance(composed[key], dict) and composed[key]:
            _lay_over(composed[key], value, source, f"{where}{key}.")
        else:
            composed[key] = value
