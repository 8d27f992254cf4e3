"""Presets: named sets of settings laid over presets/default.yaml."""

from pathlib import Path

from ruamel.yaml import YAML

from reelmill.config import load_params
from reelmill.errors import UserError
from reelmill.storage import atomic_path

FOLDER = Path("presets")


def names() -> list[str]:
    """The presets that there are."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def write_preset(name: str, target: Path = Path("params.yaml")) -> None:
    """Write the settings of a preset, comments kept; ``target`` is untouched if they do not check.

    Raises:
        UserError: for an unknown preset, or one whose settings break a rule.
    """
    if not FOLDER.is_dir():
        raise UserError(f"{FOLDER}/: not found. Run in the repository's root, where params.yaml is.")
    source = FOLDER / f"{name}.yaml"
    if name not in names():
        raise UserError(f"preset {name!r}: not one of {', '.join(names())} (files in {FOLDER}/)")
    yaml = YAML()
    yaml.width = 4096
    yaml.representer.add_representer(
        type(None), lambda writer, _: writer.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    settings = yaml.load(FOLDER / "default.yaml")
    if name != "default":
        _lay_over(settings, YAML(typ="safe").load(source), source)
    with atomic_path(target) as temporary:
        yaml.dump(settings, temporary)
        load_params(temporary)


def _lay_over(settings: dict, changes: dict, source: Path, where: str = "") -> None:
    for key, value in changes.items():
        if key not in settings:
            raise UserError(f"{source}: {where}{key}: unknown setting; remove it or correct its spelling")
        if isinstance(value, dict) and isinstance(settings[key], dict) and settings[key]:
            _lay_over(settings[key], value, source, f"{where}{key}.")
        else:
            settings[key] = value
