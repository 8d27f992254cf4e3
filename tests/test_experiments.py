from pathlib import Path

import pytest
import yaml

from reelmill.config import load_params
from reelmill.errors import UserError
from reelmill.experiments import Experiment, folder_of, load_experiment, new_experiment, summarise, write_results
from reelmill.settings import change, section_of

ROOT = Path(__file__).parent.parent
ASKED = Experiment(
    question="Wide or deep?",
    settings={"train.epochs": 1},
    grid={"model.num_attention_heads, model.attention_head_dim": [[4, 64], [16, 16]], "model.num_layers": [2, 4]},
    seeds=[0, 1],
    metrics=["loss", "-accuracy"],
)


def test_grid_is_all_combinations_and_settings_named_together_go_together():
    variants = ASKED.variants()
    assert next(iter(variants)) == "num_attention_heads 4, attention_head_dim 64, num_layers 2"
    assert len(variants) == 4
    trials = ASKED.trials()
    assert len(trials) == 8
    assert len({name for name, _ in trials[:4]}) == 4  # seed by seed
    expected = {"model.num_attention_heads": 4, "model.attention_head_dim": 64, "model.num_layers": 2}
    assert trials[0][1] == {**expected, "train.epochs": 1, "train.seed": 0}


def test_table_has_means_and_students_interval():
    trials = [("a", {"loss": 1.0}), ("a", {"loss": 3.0}), ("b", {"loss": 5.0})]
    first, second = summarise(trials, ["loss"])
    assert (first["mean"], first["trials"]) == (2.0, 2)
    assert first["high"] - 2.0 == pytest.approx(12.7062, abs=1e-3)  # t(0.975, 1 degree) * sqrt(2) / sqrt(2)
    assert (second["mean"], second["low"], second["high"]) == (5.0, None, None)


def test_unknown_metric_names_those_there_are():
    with pytest.raises(UserError, match="accuracy: no such metric; those there are: loss"):
        summarise([("a", {"loss": 1.0})], ["-accuracy"])


def test_results_are_a_table_and_a_plot_a_metric(tmp_path):
    trials = [(name, {"loss": 1.0 + seed, "accuracy": 0.5}) for seed in (0, 1) for name in ASKED.variants()]
    write_results(tmp_path, ASKED, summarise(trials, ASKED.metrics), ["wide: failed: memory"])
    text = (tmp_path / "results.md").read_text()
    assert "# Wide or deep?" in text
    assert "| num_attention_heads 4, attention_head_dim 64, num_layers 2 | 2 | 1.5 |" in text
    assert "Failed: wide: failed: memory" in text
    plot = (tmp_path / "results-1.svg").read_text()
    assert plot.count("<circle") == 4
    assert ">accuracy</text>" in plot
    assert len((tmp_path / "results.csv").read_text().splitlines()) == 9


def test_new_experiment_is_the_template_and_takes_no_other_ones_place(tmp_path):
    (tmp_path / "template").symlink_to(ROOT / "experiments/template")
    target = new_experiment("mine", tmp_path)
    assert load_experiment(target) == load_experiment(ROOT / "experiments/template")
    assert "python -m flows.experiment mine\n" in (target / "README.md").read_text()
    with pytest.raises(UserError, match="is there already"):
        new_experiment("mine", tmp_path)
    with pytest.raises(UserError, match="expected letters"):
        new_experiment("../mine", tmp_path)


@pytest.mark.parametrize("name", sorted(p.name for p in (ROOT / "experiments").iterdir() if p.is_dir()))
def test_every_trial_of_every_experiment_passes_the_rules(name, tmp_path):
    for _, changes in load_experiment(ROOT / "experiments" / name).trials():
        path = tmp_path / "params.yaml"
        path.write_text((ROOT / "presets/default.yaml").read_text())
        change(path, changes)
        settings = load_params(path).model_dump(mode="json")
        for key, value in changes.items():
            assert section_of(settings, key)[key.rpartition(".")[2]] == value


def test_broken_experiment_names_file_and_key(tmp_path):
    (tmp_path / "experiment.yaml").write_text(yaml.safe_dump({"question": "?", "seeds": []}))
    with pytest.raises(UserError, match=r"(?s)experiment.yaml: .*grid"):
        load_experiment(tmp_path)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"seeds": [0, 0]}, "each once"),
        ({"settings": {"train.seed": 3}}, "leave it out"),
        ({"grid": {"train.seed": [1, 2]}}, "leave it out"),
    ],
)
def test_seeds_are_neither_repeated_nor_set_twice(tmp_path, change, text):
    (tmp_path / "experiment.yaml").write_text(yaml.safe_dump(ASKED.model_dump() | change))
    with pytest.raises(UserError, match=text):
        load_experiment(tmp_path)


def test_a_name_that_leaves_the_folder_is_refused():
    with pytest.raises(UserError, match="expected letters"):
        folder_of("../elsewhere")
