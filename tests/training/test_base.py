import pytest
from finetuning import ROOT
from models.tiny import TOKENS, save_tiny_pipeline

from reelmill import settings
from reelmill.config import load_params
from reelmill.errors import UserError
from reelmill.presets import write_preset
from reelmill.training.base import open_base, publish_scheduler

COMPRESSION = (4, 4)
RIGHT = {
    "data.num_frames": 9,
    "data.height_px": 32,
    "data.width_px": 32,
    "train.objective": "v_prediction",
    "train.shift": 3.0,
    "sampling.scheduler": "source",
    "train.coarse_share": 0.0,
    "model.text_encoder.max_tokens": TOKENS,
    "model.text_encoder.short_tokens": TOKENS,
}


@pytest.fixture
def params(tmp_path, monkeypatch):
    """Settings that fit a tiny CogVideoX, with some of them changed."""
    monkeypatch.chdir(ROOT)
    write_preset("default", tmp_path / "params.yaml")
    source = save_tiny_pipeline("cogvideox", tmp_path / "base")

    def changed(**values):
        given = RIGHT | {"model.source": str(source)} | {key.replace("__", "."): value for key, value in values.items()}
        settings.change(tmp_path / "params.yaml", given)
        return load_params(tmp_path / "params.yaml")

    return changed


def test_pretrained_pipeline_is_opened_and_keeps_its_scheduler(params):
    base = open_base(params(), COMPRESSION)
    published = publish_scheduler(params(), base)
    assert (type(published).__name__, published.config.snr_shift_scale) == ("CogVideoXDDIMScheduler", 3.0)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"train__objective": "flow"}, r"was trained with v_prediction .*set train.objective: v_prediction"),
        ({"train__shift": 1.0}, r"train.shift: 1: .* was trained with snr_shift_scale 3; set train.shift: 3"),
        (
            {"model__text_encoder__max_tokens": 128, "model__text_encoder__short_tokens": 32},
            f"max_tokens: 128: .* was made for {TOKENS} tokens",
        ),
        ({"model__family": "wan", "train__objective": "flow"}, "model.family is wan. Set model.family: cogvideox"),
    ],
)
def test_setting_that_does_not_fit_the_source_is_named_with_the_right_value(params, values, text):
    with pytest.raises(UserError, match=text):
        open_base(params(**values), COMPRESSION)
