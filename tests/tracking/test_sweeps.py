"""A sweep's parent run."""

from reelmill.tracking.sweeps import close_sweep, open_sweep


def test_settings_that_vary_together_are_a_parameter_each(params, client):
    grid = {"model.num_attention_heads, model.attention_head_dim": [[4, 64], [16, 16]], "train.seed": [0, 1]}
    run_id = open_sweep(params, "k1", grid).run_id
    assert client.get_run(run_id).data.params == {
        "model.num_attention_heads": "4, 16",
        "model.attention_head_dim": "64, 16",
        "train.seed": "0, 1",
    }
    assert open_sweep(params, "k1", grid).run_id == run_id  # it was interrupted and goes on


def test_sweep_of_failed_trials_has_failed(params, client):
    run_id = open_sweep(params, "k1", {"train.seed": [0]}).run_id
    close_sweep(params, run_id, [{"trial": "a", "result": "failed", "loss": None}], None, "loss")
    assert client.get_run(run_id).info.status == "FAILED"
