"""The registry: a version for each model, the aliases ``champion`` and ``previous``.

The alias is the commit point of a promotion: whatever else a workspace holds is put right from it
(`fetch`). Every operation may be repeated; none catches a tracker's error, for a promotion that was
not recorded did not happen.
"""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import reelmill
from reelmill.config import Params
from reelmill.errors import UserError
from reelmill.storage import atomic_path, link, write_json
from reelmill.tracking import lineage
from reelmill.tracking.results import EVALUATION, EVIDENCE
from reelmill.tracking.runs import MODEL_HASH, ensure_model, find_runs, log_files
from reelmill.tracking.store import Store, connect

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

CHAMPION, PREVIOUS = "champion", "previous"
SERVABLE, DATA = "reelmill.servable_of", "reelmill.data_hash"
VERDICT, QUESTION = "reelmill.verdict", "reelmill.verdict_question"


@dataclass(frozen=True)
class Version:
    """A registered model: its number in the registry, its weights' hash and the run that made it."""

    name: str
    number: str
    model_hash: str
    run_id: str

    def __str__(self) -> str:
        return f"{self.name} version {self.number}"


def register(params: Params, run_id: str, workspace: Path = Path(".")) -> Version:
    """The version of the workspace's pipeline, made if the registry has none with these weights."""
    store, name = connect(params.tracking.experiment), params.retrain.model_name
    model_hash = lineage.model_hash(workspace / lineage.PIPELINE)
    _ensure_registered_model(store, name)
    for version in store.client.search_model_versions(f"name = '{name}'"):
        if version.tags.get(MODEL_HASH) == model_hash:
            return _version(version)
    model_id = _servable(store, run_id, model_hash, workspace)
    tags = {MODEL_HASH: model_hash, DATA: lineage.data_hash(workspace)}
    source = store.client.get_logged_model(model_id).artifact_location
    return _version(store.client.create_model_version(name, source, run_id, tags, model_id=model_id))


def alias(params: Params, which: str) -> Version | None:
    """The version that an alias names; None where there is none yet."""
    store, name = connect(params.tracking.experiment), params.retrain.model_name
    for model in store.client.search_registered_models(f"name = '{name}'"):
        if number := store.client.get_registered_model(model.name).aliases.get(which):
            return _version(store.client.get_model_version(name, str(number)))
    return None


def promote(params: Params, version: Version) -> None:
    """Make a version the champion and keep the one before as ``previous``. Repeating it changes nothing."""
    client = connect(params.tracking.experiment).client
    current = alias(params, CHAMPION)
    if current == version:
        return
    if current is not None:
        client.set_registered_model_alias(version.name, PREVIOUS, current.number)
    client.set_registered_model_alias(version.name, CHAMPION, version.number)


def rollback(params: Params) -> tuple[Version, Version]:
    """Exchange champion and previous; returns (the one that was, the one that is).

    Raises:
        UserError: when there is no previous champion.
    """
    client = connect(params.tracking.experiment).client
    current, previous = alias(params, CHAMPION), alias(params, PREVIOUS)
    if current is None or previous is None or current == previous:
        raise UserError(
            f"{params.retrain.model_name}: no champion before the present one, so there is nothing to go back to. "
            "A second promotion keeps the first model as `previous`."
        )
    client.set_registered_model_alias(current.name, CHAMPION, previous.number)
    client.set_registered_model_alias(current.name, PREVIOUS, current.number)
    return current, previous


def fetch(params: Params, version: Version, target: Path) -> bool:
    """Put a version's pipeline at ``target``, whole; False if these weights are there already.

    Raises:
        UserError: when what the store holds are not the registered weights.
    """
    if target.is_dir() and any(target.rglob("*.safetensors")) and lineage.model_hash(target) == version.model_hash:
        return False
    from mlflow.artifacts import download_artifacts

    store = connect(params.tracking.experiment)
    source = store.client.get_model_version(version.name, version.number).source
    with tempfile.TemporaryDirectory() as folder, atomic_path(target) as temporary:
        got = download_artifacts(artifact_uri=f"{source}/artifacts/pipeline", dst_path=folder, tracking_uri=store.uri)
        if lineage.model_hash(Path(got)) != version.model_hash:
            raise UserError(
                f"{version}: the store's files are not the weights that were registered. Restore the store."
            )
        shutil.copytree(got, temporary, copy_function=link)
    return True


def evidence(params: Params, model_hash: str, evaluation: str, target: Path) -> str | None:
    """Download what a model's evaluation on this very set said; the run's id, None if it never was."""
    store = connect(params.tracking.experiment)
    for run in find_runs(store, MODEL_HASH, model_hash):
        if run.data.tags.get(EVALUATION) == evaluation and EVIDENCE in run.data.tags:
            with tempfile.TemporaryDirectory() as folder, atomic_path(target) as temporary:
                temporary.mkdir()
                for name in ("metrics.json", "verdicts.json", "test_clips.json"):
                    got = store.client.download_artifacts(run.info.run_id, f"evaluation/{name}", folder)
                    shutil.copy2(got, temporary / name)
            return run.info.run_id
    return None


def training_results(params: Params, version: Version, target: Path) -> None:
    """Put a version's training figures (history, metrics) into ``target``, where the report reads them."""
    client = connect(params.tracking.experiment).client
    with tempfile.TemporaryDirectory() as folder:
        got = Path(client.download_artifacts(version.run_id, "training", folder))
        target.mkdir(parents=True, exist_ok=True)
        for file in got.iterdir():
            shutil.copy2(file, target / file.name)


def verdict(params: Params, version: Version, question: str) -> str | None:
    """``promoted`` or ``refused``; None while this question about a version was not answered."""
    client = connect(params.tracking.experiment).client
    tags = client.get_model_version(version.name, version.number).tags
    return tags.get(VERDICT) if tags.get(QUESTION) == question else None


def note_verdict(params: Params, version: Version, question: str, verdict: dict) -> None:
    """Write a decision with its reasons on the challenger's version and run.

    ``question`` is the hash of all that it depends on: the models, the evaluation set, the thresholds.
    """
    store = connect(params.tracking.experiment)
    word = "promoted" if verdict["promoted"] else "refused"
    store.client.set_model_version_tag(version.name, version.number, VERDICT, word)
    store.client.set_model_version_tag(version.name, version.number, QUESTION, question)
    store.client.update_model_version(version.name, version.number, "\n".join([word, *verdict["reasons"]]))
    store.client.set_tag(version.run_id, VERDICT, word)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "promotion.json"
        write_json(path, verdict)
        log_files(store, version.run_id, {"promotion.json": path})


def tag_run(params: Params, run_id: str, tags: dict[str, str]) -> str:
    """Set tags on a run, such as the flow run that made it; how to see the run."""
    store = connect(params.tracking.experiment)
    for key, value in tags.items():
        store.client.set_tag(run_id, key, value)
    return store.link(run_id)


def _version(version: "ModelVersion") -> Version:
    return Version(version.name, str(version.version), version.tags.get(MODEL_HASH, ""), version.run_id or "")


def _ensure_registered_model(store: Store, name: str) -> None:
    if not store.client.search_registered_models(f"name = '{name}'"):
        store.client.create_registered_model(name)


def _servable(store: Store, run_id: str, model_hash: str, workspace: Path) -> str:
    """The LoggedModel that MLflow can serve: this project's code around the pipeline's directory."""
    from mlflow import pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    columns = [ColSpec("string", "prompt"), ColSpec("long", "seed", required=False)]
    package = Path(reelmill.__file__).parent
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        pyfunc.save_model(
            model,
            python_model=str(package / "tracking/serving.py"),
            artifacts={"pipeline": str((workspace / lineage.PIPELINE).resolve())},
            code_paths=[str(package)],
            signature=ModelSignature(Schema(columns), Schema([ColSpec("string")])),
            pip_requirements=["torch", "diffusers", "transformers", "av", "opencv-python"],
        )
        return ensure_model(store, run_id, "servable", {SERVABLE: model_hash}, model, 0)
