import pytest
from benchmarks.workspace import ROOT
from flows import experiment
from flows.sweep import Trial, changes_of, common_ground, parse_grid, plan, ranked

from reelmill.config import load_params
from reelmill.errors import UserError


def test_grid_is_read_as_yaml():
    assert parse_grid(["train.learning_rate=1.0e-3,4.0e-3", "model.num_layers=2", "train.objective=flow"]) == {
        "train.learning_rate": [1.0e-3, 4.0e-3],
        "model.num_layers": [2],
        "train.objective": ["flow"],
    }


def test_lists_in_a_grid_stay_whole():
    assert parse_grid(["generate.seeds=[0, 1],[2]", 'data.license="a, b",c']) == {
        "generate.seeds": [[0, 1], [2]],
        "data.license": ["a, b", "c"],
    }


@pytest.mark.parametrize("wrong", ["train.epochs", "train.epochs="])
def test_wrong_argument_shows_how_it_is_written(wrong):
    with pytest.raises(UserError, match=r"expected key=value,value"):
        parse_grid([wrong])


def test_plan_is_all_combinations_or_a_draw_that_the_seed_decides():
    grid = {"a": [1, 2], "b": [3, 4, 5]}
    assert [t.changes for t in plan(grid, None, 0)] == [{"a": a, "b": b} for a in (1, 2) for b in (3, 4, 5)]
    drawn = plan(grid, 3, 1)
    assert drawn == plan(grid, 3, 1)
    assert drawn != plan(grid, 3, 2)
    assert len({t.key for t in drawn}) == 3


def test_best_is_first_and_failures_are_last():
    trials = [
        Trial("x", {"a": 1}, "failed: memory"),
        Trial("y", {"a": 2}, "finished", {"loss": 3.0}),
        Trial("z", {"a": 3}, "finished", {"loss": 2.0}),
    ]
    rows = ranked(trials, "loss")
    assert [row["trial"] for row in rows] == ["z", "y", "x"]
    assert [row["trial"] for row in ranked(trials, "-loss")] == ["y", "z", "x"]
    assert changes_of(rows[0], {"a": [1, 2, 3]}) == {"a": 3}


def test_unknown_objective_names_those_there_are():
    with pytest.raises(UserError, match="no such metric; those there are: loss"):
        ranked([Trial("y", {}, "finished", {"loss": 3.0})], "los")


def test_trials_on_other_settings_are_other_trials():
    params = load_params(ROOT / "presets/default.yaml")

    def ground(**train: object) -> str:
        changed = params.model_copy(update={"train": params.train.model_copy(update=train)})
        return common_ground(changed, ["train.seed"])

    assert ground() == ground(seed=7) != ground(epochs=7)


def test_wrong_experiment_is_told_in_a_line_before_prefect_starts(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["experiment", "no-such"])
    monkeypatch.setattr(experiment, "experiment", None)  # what would start Prefect
    with pytest.raises(SystemExit, match=r"experiments/no-such/experiment.yaml: not found\. `reelmill experiment new"):
        experiment.main()
