"""retrain: version the data, reproduce the stages, judge challenger against champion, promote or not, report.

``python -m flows.retrain`` runs it now, without a server; `flows.schedule` runs it at night and for new clips.
"""

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.runtime import flow_run

from flows import data, reports
from flows.judging import champion_evidence
from flows.pipeline import STAGES, StageFailed, StageKilled, StageResult, first_changed, require_success, run_stage
from flows.start import start_settings
from reelmill import tracking
from reelmill.config import Params, load_params
from reelmill.errors import UserError
from reelmill.evaluation.promotion import Decision, decide, read_judged
from reelmill.storage import hash_value
from reelmill.tracking import registry
from reelmill.tracking.registry import CHAMPION, Version
from reelmill.workspace import workspace_lock

CHAMPION_PIPELINE = Path("models/champion")
EVALUATION = Path("results/evaluate")


def _not_a_users_fault(task, task_run, state) -> bool:
    """Only the network is tried again: a user's fault comes out the same."""
    return not isinstance(state.result(raise_on_failure=False), UserError)


network = {"retries": 3, "retry_delay_seconds": [2, 10, 30], "retry_condition_fn": _not_a_users_fault}


@flow(name="retrain", log_prints=True)
def retrain(fingerprint: str | None = None) -> str:
    """One retraining of the workspace in the current directory; returns what came of it in a line.

    Args:
        fingerprint: of the clips that asked for it (flow watch); these clips are not trained on again
            once this has finished.
    """
    params = load_params()
    with workspace_lock(f"retrain {flow_run.get_name() or ''}".strip(), params.retrain.wait_s):
        if fingerprint and data.is_finished(fingerprint):
            return f"unchanged: clips {fingerprint[:12]} were trained on before"
        announced = data.fingerprint()
        version_data(params)
        clips = data.fingerprint()
        with ThreadPoolExecutor(1) as beside:  # DVC's look at the stages and MLflow's import take seconds each
            looking = beside.submit(first_changed)
            champion = reconcile(params)
        begin = looking.result()
        settings = start(params, champion, begin)
        if settings != params:
            begin = first_changed()
        try:
            outcome = _retrain(settings, champion, begin)
        except StageKilled:
            raise  # it is asked for again, and goes on
        except (StageFailed, UserError):
            data.note_finished(announced, clips)  # it fails again: only other clips ask for another try
            raise
        data.note_finished(announced, clips)
    return outcome


def _retrain(params: Params, champion: Version | None, begin: int) -> str:
    results = [StageResult(stage, "cached", 0.0) for stage in STAGES[:begin]]
    results += [_stage(stage, params) for stage in STAGES[begin:]]
    run_id = log_run(params)
    challenger = register(params, run_id)
    outcome, decision = _answer(params, challenger, champion)
    reports.outcome(outcome, decision, results, params, run_id)
    if params.retrain.commit_lock:
        commit_lock(params, outcome)
    get_run_logger().info(outcome)
    return outcome


def _answer(params: Params, challenger: Version, champion: Version | None) -> tuple[str, Decision | None]:
    """What becomes of a challenger; no decision where there is nothing new to decide."""
    if champion is not None and challenger.model_hash == champion.model_hash:
        return f"unchanged: the pipeline still makes the champion, {champion}", None
    question = hash_value(
        {
            "evaluation": tracking.evaluation_hash(params, Path(".")),
            "champion": champion and champion.model_hash,
            "promotion": params.promotion.model_dump(),
        }
    )
    if said := registry.verdict(params, challenger, question):
        return f"unchanged: {challenger} was judged before, with the same champion, set and thresholds: {said}", None
    decision = judge(params, challenger, champion)
    return settle(params, challenger, question, decision), decision


@task(**network)
def reconcile(params: Params) -> Version | None:
    """The champion of the registry, its pipeline put at models/champion if another lies there."""
    champion = registry.alias(params, CHAMPION)
    if champion is not None and registry.fetch(params, champion, CHAMPION_PIPELINE):
        get_run_logger().info("models/champion: %s", champion)
    return champion


@task(**network)
def version_data(params: Params) -> None:
    """Give the user's clips to DVC, so that these very ones can be restored; take a remote's first."""
    if params.data.source != "samples":
        data.version(get_run_logger().info)


@task(**network)
def start(params: Params, champion: Version | None, begin: int) -> Params:
    """The settings to train with: where `retrain.start` says so, from the champion's weights."""
    settings = start_settings(params, champion, begin)
    get_run_logger().info("from %s", settings.model.source or "scratch")
    return settings


def _stage(stage: str, params: Params) -> StageResult:
    """A DVC stage as a Prefect task of its own name. Never retried: a second flow run resumes it."""
    return reproduce.with_options(name=stage)(stage, params.retrain.stage_timeout_s)


@task
def reproduce(stage: str, timeout_s: int) -> StageResult:
    """Run one stage through dvc.

    Raises:
        StageFailed: with the stage's own reason.
    """
    result = run_stage(stage, get_run_logger().info, timeout_s)
    reports.stage(result)
    require_success(result)
    return result


@task(**network)
def log_run(params: Params) -> str:
    """The MLflow run of this pipeline, closed with dvc.lock's hash and tied to this flow run."""
    run_id = tracking.ensure_logged(params)
    print(tracking.record(params))
    if flow_run.id:
        registry.tag_run(
            params, run_id, {"prefect.flow_run_id": flow_run.id, "prefect.flow_run_name": flow_run.get_name()}
        )
    return run_id


@task(**network)
def register(params: Params, run_id: str) -> Version:
    """The challenger as a version of the registered model."""
    return registry.register(params, run_id)


@task
def judge(params: Params, challenger: Version, champion: Version | None) -> Decision:
    """Compare both on the challenger's evaluation set; the champion is evaluated on it if it never was."""
    evaluation = tracking.evaluation_hash(params, Path("."))
    group = params.promotion.group
    ours = read_judged(EVALUATION, evaluation, group)
    theirs = None
    if champion is not None:
        evidence = champion_evidence(params, champion, evaluation, get_run_logger().info)
        theirs = read_judged(evidence, evaluation, group)
    return decide(ours, theirs, params.promotion)


@task(**network)
def settle(params: Params, challenger: Version, question: str, decision: Decision) -> str:
    """Write the verdict down and, if it says so, move the alias: the commit point of a promotion."""
    registry.note_verdict(params, challenger, question, decision.as_dict())
    reasons = "; ".join(decision.reasons)
    if not decision.promoted:
        return f"refused: {challenger}: {reasons}"
    registry.promote(params, challenger)
    registry.fetch(params, challenger, CHAMPION_PIPELINE)
    return f"promoted: {challenger}: {reasons}"


@task
def commit_lock(params: Params, outcome: str) -> None:
    """Commit dvc.lock on the branch ``retrain.lock_branch``, whatever is checked out; never pushed."""
    commit = data.commit_on_branch(
        ["dvc.lock", *data.tracked_files()], params.retrain.lock_branch, f"Retrained: {outcome}"
    )
    get_run_logger().info("dvc.lock: %s on branch %s", commit[:12], params.retrain.lock_branch)


def main() -> None:
    """Retrain now and say what came of it; status 1 when it failed."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.retrain", description="Retrain, judge and promote, once, now."
    )
    parser.parse_args()
    try:
        print(retrain())
    except (UserError, StageFailed) as error:
        sys.exit(f"\nretrain stopped:\n{error}")


if __name__ == "__main__":
    main()
