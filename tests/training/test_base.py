import json
from pathlib import Path

import pytest
from finetuning import ROOT
from models.tiny import TOKENS, save_tiny_pipeline
from stages import validate_data

from reelmill import settings
from reelmill.config import load_params
from reelmill.errors import UserError
from reelmill.models import source as sources
from reelmill.models.families import FAMILIES
from reelmill.models.pretrained import load_autoencoder, outline_autoencoder
from reelmill.presets import write_preset
from reelmill.training.base import check_sources, open_base, publish_scheduler

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

NEW = {"model__source": None, "sampling__scheduler": "unipc", "train__objective": "flow_clean", "train__shift": 6.0}


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


def test_distilled_model_is_not_trained_as_guided(params, tmp_path):
    source = save_tiny_pipeline("hunyuan_video", tmp_path / "hunyuan")
    own = {
        "model__family": "hunyuan_video",
        "model__source": str(source),
        "train__objective": "flow",
        "train__shift": 7.0,
    }
    with pytest.raises(UserError, match=r"train.guidance.share: 0.1: .*hunyuan is distilled: .*set it to 0"):
        open_base(params(**own), COMPRESSION)
    open_base(params(**own, train__guidance__share=0.0), COMPRESSION)


def with_coarse_patches(params):
    """The settings, whose source takes multiples of 16 now; the settings' rules do not know it."""
    config = Path(params.model.source) / "transformer/config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "patch_size": 4}))
    return params


def test_clips_that_the_source_cannot_take_are_refused_before_anything_is_read_but_configurations(params):
    refused = with_coarse_patches(params(data__height_px=40))
    for weights in Path(refused.model.source).rglob("*.safetensors"):
        weights.unlink()
    with pytest.raises(UserError, match=r"height_px: 40: must be a multiple of 16 .*nearest: 32 or 48"):
        check_sources(refused)
    with pytest.raises(UserError, match=r"set train.objective: v_prediction"):
        check_sources(params(data__height_px=32, train__objective="flow"))
    check_sources(params(train__objective="v_prediction"))


def test_autoencoder_of_another_family_is_named(params, tmp_path):
    wan = save_tiny_pipeline("wan", tmp_path / "wan")
    with pytest.raises(
        UserError, match=r"autoencoder.source: a AutoencoderKLWan, and family cogvideox has AutoencoderKLCogVideoX"
    ):
        check_sources(params(autoencoder__source=str(wan), autoencoder__subfolder="vae"))


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_outline_of_an_autoencoder_says_what_the_loaded_one_says(name, tmp_path):
    source, family = save_tiny_pipeline(name, tmp_path), FAMILIES[name]
    outline, loaded = outline_autoencoder(str(source), "vae"), load_autoencoder(source, "vae")
    assert family.compression(outline) == family.compression(loaded)
    assert all(p.is_meta for p in outline.parameters())


def test_cutting_does_not_begin_when_the_source_cannot_take_the_clips(params, tmp_path, monkeypatch):
    refused = with_coarse_patches(params(data__height_px=40))
    monkeypatch.setattr(validate_data, "load_params", lambda: refused)
    monkeypatch.setattr(validate_data, "build_table", lambda *_: pytest.fail("clips were cut"))
    with pytest.raises(UserError, match="height_px: 40"):
        validate_data.main()


@pytest.mark.parametrize("torn", [True, False])
def test_configuration_that_cannot_be_read_is_named(params, torn):
    given = params()
    config = Path(given.model.source) / "transformer/config.json"
    config.write_text(config.read_text()[:-5]) if torn else config.unlink()
    with pytest.raises(UserError, match=f"{config}: {'torn' if torn else 'not found'}"):
        check_sources(given)


def test_patches_of_a_new_transformer_count_for_a_pretrained_autoencoder(params):
    source = params().model.source
    given = NEW | {"autoencoder__source": source, "autoencoder__subfolder": "vae"}
    check_sources(params(**given, model__patch_size=2, data__height_px=40))
    with pytest.raises(UserError, match=r"height_px: 40: must be a multiple of 16"):
        check_sources(params(**given, model__patch_size=4, data__height_px=40))
    with pytest.raises(UserError, match=r"height_px: 40: must be a multiple of 16"):
        check_sources(params(**given, model__patch_size=2, train__coarse_share=0.5, data__height_px=40))


def test_autoencoder_of_other_channels_is_refused(params, tmp_path):
    given = params()
    config = Path(given.model.source) / "transformer/config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "in_channels": 48}))
    with pytest.raises(UserError, match=r"latents of \d+ channels, and .* was made for 48"):
        check_sources(given)


def test_hub_is_asked_for_configurations_alone(params, monkeypatch):
    source, asked = params().model.source, []

    def download(name, allow_patterns, **_):
        asked.extend(allow_patterns)
        return source if name == "owner/pipeline" else f"{source}/vae"

    monkeypatch.setattr(sources, "snapshot_download", download)
    check_sources(params(model__source="owner/pipeline"))
    check_sources(params(model__source="owner/pipeline", autoencoder__source="owner/autoencoder"))
    check_sources(params(**NEW, autoencoder__source="owner/autoencoder"))
    assert "transformer/*" not in asked and not [
        pattern for pattern in asked if "safetensors" in pattern or pattern == "vae/*"
    ]
