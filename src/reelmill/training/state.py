"""Saved state: what a killed run goes on from.

Random numbers and the order of batches are functions of (seed, step), so a state is weights,
optimizer moments and the step. Nothing is pickled: tensors are safetensors, the rest is JSON.
"""

from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from reelmill.storage import atomic_path, discard, read_json, write_json


class SavedState:
    """The states of one run in its directory, the newest ``keep`` of them."""

    def __init__(self, directory: Path, keep: int = 2):
        self.directory = directory
        self.keep = keep

    def save(self, step: int, tensors: dict[str, Tensor], record: dict) -> None:
        """Write the state after ``step`` steps, whole or not at all, then drop the oldest."""
        with atomic_path(self.directory / f"step-{step:08d}") as temporary:
            temporary.mkdir()
            save_file(
                {key: t.detach().cpu().contiguous().clone() for key, t in tensors.items()},
                temporary / "state.safetensors",
            )
            write_json(temporary / "state.json", record)
        for old in self._saved()[: -self.keep]:
            discard(old)

    def latest(self) -> tuple[int, dict[str, Tensor], dict] | None:
        """The newest state as (step, tensors, record), or None."""
        saved = self._saved()
        if not saved:
            return None
        newest = saved[-1]
        return (
            int(newest.name.removeprefix("step-")),
            load_file(newest / "state.safetensors"),
            read_json(newest / "state.json"),
        )

    def _saved(self) -> list[Path]:
        return sorted(self.directory.glob("step-*"))


def with_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under ``prefix/``."""
    return {f"{prefix}/{key}": tensor for key, tensor in tensors.items()}


def under_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that `with_prefix` named, with their own names."""
    return {key.removeprefix(f"{prefix}/"): tensor for key, tensor in tensors.items() if key.startswith(f"{prefix}/")}
