"""A workspace on the smallest settings that still do everything."""

import shutil
from pathlib import Path

from benchmarks.workspace import make_workspace, run


def micro_workspace(target: Path) -> Path:
    """A workspace on the tests' smallest settings."""
    make_workspace(target)
    shutil.copy(Path(__file__).parent / "micro.yaml", target / "presets/micro.yaml")
    run(target, "reelmill", "preset", "micro")
    return target
