"""Two processes (gloo, on the CPU) train what one trains, go on from its state, and do not wait for ever."""

import csv
import subprocess
import threading
from pathlib import Path

import pytest
import torch
from training.short_run import AUTOENCODER, LATENTS, Heard, Interrupted, params_with
from training.team_run import train_by_settings

from reelmill.config import load_params
from reelmill.data.manifest import read_clip
from reelmill.errors import UserError
from reelmill.models.pretrained import load_autoencoder
from reelmill.storage import discard, read_json
from reelmill.training import heldout, processes
from reelmill.training.loop import train
from reelmill.training.processes import ALONE, Processes, team
from reelmill.training.publish import training_settings
from reelmill.training.state import SavedState
from reelmill.workspace import outcome_path

# The sums of a batch are taken in another order; Muon's iteration makes the most of the last bits.
TOLERANCE = 1e-4


@pytest.fixture(params=["none", "full"])
def state(in_trained, tmp_path, request) -> Path:
    """Where two processes are to train, with their settings."""
    params_with(tmp_path, {"train.num_processes": 2, "train.sharding": request.param, "train.device": "cpu"})
    return tmp_path


def test_two_processes_go_on_with_the_losses_of_one(state, monkeypatch):
    """Validation, checkpoints and previews fall into their part, and only one of them writes."""
    monkeypatch.setattr(heldout, "read_clips", lambda clips, data: (read_clip(clip, data) for clip in clips))
    with pytest.raises(Interrupted):  # one process alone, after 8 of 18 steps
        train(load_params(), LATENTS, load_autoencoder(AUTOENCODER), None, state, Heard(until=9))
    output = train_by_settings(state)
    assert (state / "history.csv").exists(), output
    assert "going on after step 8" in output
    expected, rows = (
        list(csv.DictReader(path.open())) for path in (Path("results/train/history.csv"), state / "history.csv")
    )
    assert [row["step"] for row in rows] == [row["step"] for row in expected]
    for row, other in zip(rows, expected, strict=True):
        assert float(row["loss"]) == pytest.approx(float(other["loss"]), rel=TOLERANCE)
        assert float(row["grad_norm"]) == pytest.approx(float(other["grad_norm"]), rel=10 * TOLERANCE)
        assert row["learning_rate"] == other["learning_rate"]  # steps are the optimizer's, whatever the processes
    _check_validation(state)
    kept = read_json(state / "kept.json")
    share = 0.5 if load_params(state / "params.yaml").train.sharding == "full" else 1.0
    assert kept["here"] / kept["all"] == pytest.approx(share, abs=0.02)
    assert len(list((state / "previews").glob("*.mp4"))) == 2
    discard(SavedState(state / "state")._saved()[-1])
    _, record = train(load_params(), LATENTS, load_autoencoder(AUTOENCODER), None, state, Heard())  # one goes on alone
    for row, other in zip(record.steps[16:], expected[16:], strict=True):
        assert row["loss"] == pytest.approx(float(other["loss"]), rel=TOLERANCE)


def _check_validation(state: Path) -> None:
    """The averaged weights that were validated are those of one process too."""
    expected, rows = (
        list(csv.DictReader(path.open())) for path in (Path("results/train/validation.csv"), state / "validation.csv")
    )
    assert [row["step"] for row in rows] == [row["step"] for row in expected]
    for row, other in zip(rows, expected, strict=True):
        for key in ("validation_loss", "validation_clean_error_at_0.8"):
            assert float(row[key]) == pytest.approx(float(other[key]), rel=1e-3)


def test_a_process_that_dies_ends_this_one_with_its_number(tmp_path, monkeypatch, capfd):
    """Where torch does not notice: NCCL would wait for hours."""
    monkeypatch.chdir(tmp_path)
    left = []
    monkeypatch.setattr(processes, "GRACE_S", 0.0)
    monkeypatch.setattr(processes.os, "_exit", left.append)
    others = [subprocess.Popen(["sleep", "60"]), subprocess.Popen(["false"])]
    try:
        processes._watch(others, threading.Event())
    finally:
        others[0].kill()
    assert left == [1]
    assert "process 2 of 3 ended with status 1" in capfd.readouterr().err
    told = read_json(outcome_path("train"))  # failed, and not killed, or it would be started again
    assert told["status"] == "failed"
    assert "process 2 of 3" in told["error"]


def test_a_team_that_has_ended_is_watched_no_more(monkeypatch):
    left = []
    monkeypatch.setattr(processes.os, "_exit", left.append)
    ended = threading.Event()
    ended.set()
    processes._watch([subprocess.Popen(["false"])], ended)
    assert left == []


def test_alone_a_batch_is_whole():
    assert ALONE.is_first
    assert list(range(8))[ALONE.part(8)] == list(range(8))
    assert torch.equal(ALONE.mean(torch.tensor(2.0)), torch.tensor(2.0))


def test_each_process_takes_an_equal_part():
    class Two:
        num_processes = 2

        def __init__(self, index: int):
            self.process_index = index

    assert [list(range(8))[Processes(Two(index)).part(8)] for index in (0, 1)] == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_state_is_found_whatever_the_number_of_processes(in_trained, tmp_path):
    changes = [{}, {"train.num_processes": 2}, {"train.num_processes": 2, "train.sharding": "full"}]
    one, two, spread = (training_settings(params_with(tmp_path, change)) for change in changes)
    assert one == two == spread


def test_more_processes_than_gpus_are_refused(in_trained, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    params = params_with(tmp_path, {"train.num_processes": 2, "train.device": "cuda"})
    with pytest.raises(UserError, match="torch sees 1; nearest: 1"), team(params, LATENTS, AUTOENCODER, tmp_path):
        pass
