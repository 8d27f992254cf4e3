"""params.yaml as a file: read and written with its comments kept, changed by dotted keys."""

from collections.abc import Mapping
from pathlib import Path

from ruamel.yaml import YAML

from reelmill.errors import UserError
from reelmill.storage import atomic_path


def read(path: Path) -> dict:
    """The settings with their comments. The round-trip loader builds plain containers and no objects."""
    return _yaml().load(path)


def write(settings: dict, path: Path) -> None:
    """Write settings that `read` gave, atomically."""
    with atomic_path(path) as temporary:
        _yaml().dump(settings, temporary)


def change(path: Path, changes: Mapping[str, object]) -> None:
    """Set dotted keys; the file is as it was if one of them is not there.

    Raises:
        UserError: naming the key that there is none of.
    """
    settings = read(path)
    for key, value in changes.items():
        section_of(settings, key)[key.rpartition(".")[2]] = value
    write(settings, path)


def section_of(settings: dict, key: str) -> dict:
    """The section that holds a dotted key. Raises `UserError` when there is no such key."""
    *parents, last = key.split(".")
    section: object = settings
    for part in parents:
        section = section.get(part) if isinstance(section, dict) else None
    if not isinstance(section, dict) or last not in section:
        raise UserError(f"params.yaml: {key}: no such setting. The settings are listed in params.yaml, with comments.")
    return section


def _yaml() -> YAML:
    yaml = YAML()
    yaml.width = 4096
    yaml.representer.add_representer(
        type(None), lambda writer, _: writer.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    return yaml
