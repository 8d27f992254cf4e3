"""A copy of the pipeline in a folder of its own: same code, own data, cache, state and MLflow store."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NO_SCM = "[core]\n    no_scm = true\n"


def make_workspace(target: Path, preset: str | None = None) -> Path:
    """Copy the checkout's own files (as they are, committed or not) to ``target``, empty or absent."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    (target / ".dvc/config.local").write_text(NO_SCM)
    (target / "dvc.lock").unlink(missing_ok=True)
    if preset:
        run(target, sys.executable, "-m", "reelmill.cli", "preset", preset)
    return target


def environment(workspace: Path) -> dict[str, str]:
    """The environment of a command in a workspace: its own code and store, this Python first."""
    inherited = {
        key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "MLFLOW_", "PYTHONDONT"))
    }
    path = f"{Path(sys.executable).parent}{os.pathsep}{inherited.get('PATH', '')}"
    return {**inherited, "PATH": path, "PYTHONPATH": str(workspace / "src"), "DVC_NO_ANALYTICS": "1"}


def flow_environment(workspace: Path, **variables: str) -> dict[str, str]:
    """The environment of a flow in a workspace: its own flows and Prefect's home too."""
    settings = environment(workspace) | {"PREFECT_HOME": str(workspace / ".reelmill/prefect"), **variables}
    settings["PYTHONPATH"] += f":{workspace}"
    return settings


def is_running(pid: int) -> bool:
    """Whether a process is at work; one that has ended and is not collected is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def run(workspace: Path, *command: str, check: bool = True, **options) -> subprocess.CompletedProcess:
    """Run a command in a workspace."""
    return subprocess.run(command, cwd=workspace, env=environment(workspace), check=check, **options)
