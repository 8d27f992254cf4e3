"""One run for each pair of a model and an evaluation; nothing that is there is changed."""

from pathlib import Path

import pytest
import yaml
from tracked_workspace import (
    PIPELINE,
    artifacts,
    history,
    runs,
    train,
    with_settings,
    write_evaluated,
    write_generated,
)

from reelmill.config import load_params
from reelmill.errors import UserError
from reelmill.storage import hash_path, remove, write_text
from reelmill.tracking import evaluation_hash, log_evaluation, log_generation, model_hash, record


@pytest.fixture
def trained(params, client, in_process):
    """The id of the run of the workspace's trained pipeline."""
    train(params, range(1, 4), model_hash=model_hash(PIPELINE))
    return runs(client)[0].info.run_id


def snapshot(client, run_id):
    """All that a run says."""
    data = client.get_run(run_id).data
    return (
        data.params,
        data.tags,
        {name: history(client, run_id, name) for name in data.metrics},
        artifacts(client, run_id),
    )


def test_pipeline_run_is_one_run_with_all_settings_figures_and_files(params, client, trained):
    assert log_generation(params) == trained
    assert log_evaluation(params) == trained
    (run,) = runs(client)
    assert run.data.params["generate.seeds"] == str(list(params.generate.seeds))
    assert run.data.params["sampling.guidance_scale"] == str(params.sampling.guidance_scale)
    assert run.data.params["evaluate.confidence"] == str(params.evaluate.confidence)
    assert run.data.metrics["generate/num_videos"] == 1
    assert run.data.metrics["evaluate/held_out/joint_accuracy"] == 0.5
    assert run.data.tags["reelmill.evaluation_hash"] == evaluation_hash(params, Path("."))
    assert {item.dataset.name for item in run.inputs.dataset_inputs} == {"train", "validation", "test"}
    assert {"videos/a.mp4", "videos/videos.json", "evaluation/report.html", "evaluation/metrics.json"} < artifacts(
        client, trained
    )
    (model,) = client.search_logged_models([run.info.experiment_id])
    (figure,) = [m for m in model.metrics if m.key == "evaluate/held_out/joint_accuracy"]
    assert (figure.value, figure.run_id, figure.dataset_name) == (0.5, trained, "test")
    assert Path(model.artifact_location, "transformer/model.safetensors").read_text() == "weights one"


def test_forced_repetition_changes_nothing(params, client, trained):
    log_evaluation(params)
    before = snapshot(client, trained)
    assert log_generation(params) == log_evaluation(params) == trained
    assert snapshot(client, trained) == before
    assert len(runs(client)) == 1


def test_other_evaluate_settings_open_a_run_that_carries_the_training(params, client, trained):
    log_generation(params)
    log_evaluation(params)
    before = snapshot(client, trained)
    write_evaluated(0.25)
    other = log_evaluation(with_settings(params, "evaluate", confidence=0.99))
    assert other != trained
    assert snapshot(client, trained) == before
    run = client.get_run(other)
    assert run.info.status == "FINISHED"
    assert run.data.params["evaluate.confidence"] == "0.99"
    assert run.data.params["train.learning_rate"] == str(load_params().train.learning_rate)
    assert history(client, other, "training/loss") == [(1, 2.0), (2, 1.0), (3, 2.0 / 3)]
    assert history(client, other, "autoencoder/loss") == [(1, 0.5), (2, 0.25)]
    assert run.data.metrics["train/validation_loss"] == 0.75
    assert run.data.metrics["evaluate/held_out/joint_accuracy"] == 0.25
    assert "videos/a.mp4" in artifacts(client, other)  # generate was skipped, its videos belong to the pair
    (model,) = client.search_logged_models([run.info.experiment_id])
    assert [item.model_id for item in run.inputs.model_inputs] == [model.model_id]
    assert run.data.tags["reelmill.training_run"] == trained


def test_other_generate_settings_open_one_run_for_both_stages(params, client, trained):
    log_generation(params)
    log_evaluation(params)
    before = snapshot(client, trained)
    other = with_settings(params, "sampling", guidance_scale=6.0)
    write_generated("video two")
    second = log_generation(other)
    write_evaluated(0.75)
    assert log_evaluation(other) == second != trained
    assert snapshot(client, trained) == before
    run = client.get_run(second)
    assert run.data.params["sampling.guidance_scale"] == "6.0"
    assert run.data.metrics["evaluate/held_out/joint_accuracy"] == 0.75
    assert len(runs(client)) == 2


def test_settings_changed_between_generate_and_evaluate_need_no_second_run(params, client, trained):
    log_generation(params)
    assert log_evaluation(with_settings(params, "evaluate", confidence=0.9)) == trained
    assert client.get_run(trained).data.params["evaluate.confidence"] == "0.9"


def test_going_back_to_earlier_settings_finds_the_earlier_run(params, client, trained):
    log_evaluation(params)
    write_evaluated(0.25)
    log_evaluation(with_settings(params, "evaluate", seed=7))
    write_evaluated(0.5)
    assert log_evaluation(params) == trained
    assert len(runs(client)) == 2


def test_training_that_the_store_never_saw_is_logged_from_its_files(params, client):
    write_text(Path("results/train/previews/step-000900/a.mp4"), "preview")
    run_id = log_evaluation(params)
    run = client.get_run(run_id)
    assert run.data.params["train.learning_rate"] == str(load_params().train.learning_rate)
    assert history(client, run_id, "training/loss") == [(1, 1.5), (2, 1.25), (3, 1.125)]
    assert run.data.metrics["train/validation_loss"] == 0.75
    assert run.data.metrics["fit-autoencoder/psnr_db/validation"] == 30.5
    assert {"previews/step-000900/a.mp4", "training/history.csv", "videos/a.mp4"} < artifacts(client, run_id)
    (model,) = client.search_logged_models([run.info.experiment_id])
    assert [(o.model_id, o.step) for o in run.outputs.model_outputs] == [(model.model_id, 3)]


def test_record_tags_the_lock_and_keeps_each(params, client, trained):
    text = record(params)
    assert trained in text
    assert "make ui" in text
    first = hash_path(Path("dvc.lock"))
    assert client.get_run(trained).data.tags["reelmill.dvc_lock_hash"] == first
    write_text(Path("dvc.lock"), Path("dvc.lock").read_text() + "# another\n")
    record(params)
    second = hash_path(Path("dvc.lock"))
    assert client.get_run(trained).data.tags["reelmill.dvc_lock_hash"] == second
    assert {f"lineage/dvc-{first[:12]}.lock", f"lineage/dvc-{second[:12]}.lock"} < artifacts(client, trained)


def test_record_refuses_settings_that_did_not_make_the_results(params, client):
    settings = yaml.safe_load(Path("params.yaml").read_text())
    lock = {"stages": {"generate": {"params": {"params.yaml": {"generate": settings["generate"]}}}}}
    write_text(Path("dvc.lock"), yaml.safe_dump(lock))
    with Path("dvc.lock").open("a") as file:
        file.write(
            "  encode:\n    params:\n      params.yaml:\n        autoencoder.kl_weight: 1e-05\n"
        )  # as DVC writes it
    assert "MLflow run" in record(params)
    settings["generate"]["guidance_scale"] = 7.5
    write_text(Path("params.yaml"), yaml.safe_dump(settings))
    with pytest.raises(UserError, match=r"params.yaml: generate: .*dvc repro"):
        record(params)


def test_record_without_a_pipeline_says_what_is_missing(params):
    remove(PIPELINE)
    with pytest.raises(UserError, match=r"models/pipeline: not found.*make repro"):
        record(params)


def test_unreachable_tracker_is_said_and_results_are_logged_later(params, client, trained, monkeypatch, capfd):
    with monkeypatch.context() as away:
        away.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        away.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        assert log_generation(params) is None
        assert "reelmill record" in capfd.readouterr().err
        assert "not recorded" in record(params)
    assert trained in record(params)
    assert client.get_run(trained).data.metrics["generate/num_videos"] == 1
