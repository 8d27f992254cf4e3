"""Workspaces of their own beside the checkout: its code, settings and lock, and DVC's cache shared."""

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from reelmill.storage import atomic_path, link, write_text

CODE = ("dvc.yaml", "dvc.lock", "params.yaml", "presets", "src", "stages", ".dvcignore", "pyproject.toml")
_CONFIG = """\
[core]
    no_scm = true
    analytics = false
[cache]
    dir = {cache}
    type = "reflink,hardlink,copy"
"""
_SKIPPED = shutil.ignore_patterns("__pycache__", "*.egg-info", "*.partial")


def make_workspace(checkout: Path, target: Path, links: Iterable[str] = ()) -> Path:
    """A fresh workspace at ``target`` with the checkout's code as it is now.

    It keeps no git and logs to the checkout's MLflow store. ``links`` names files and folders of the
    checkout that it is given as hard links; whatever writes there replaces them, and the checkout's stay.
    """
    with atomic_path(target) as temporary:
        _fill(checkout, temporary, ("data/videos", *links))
    return target


def _fill(checkout: Path, target: Path, links: Iterable[str]) -> None:
    target.mkdir()
    for name in CODE:
        if (checkout / name).is_dir():
            shutil.copytree(checkout / name, target / name, ignore=_SKIPPED)
        elif (checkout / name).exists():
            shutil.copy2(checkout / name, target / name)
    cache = (checkout / ".dvc/cache").resolve()
    cache.mkdir(exist_ok=True)
    write_text(target / ".dvc/config", _CONFIG.format(cache=cache))
    for name in links:
        source = checkout / name
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target / name, copy_function=link, dirs_exist_ok=True)
        elif source.exists():
            link(source, target / name)


def git(checkout: Path, *arguments: str) -> str | None:
    """Git's answer in the checkout; None where it is no repository or git says no."""
    done = subprocess.run(["git", *arguments], cwd=checkout, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else None
