import json
from pathlib import Path

import httpx
import pytest
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from models.tiny import save_tiny_pipeline

from reelmill.errors import UserError
from reelmill.models import source as sources
from reelmill.models.families import FAMILIES, check_source
from reelmill.models.pretrained import load_autoencoder, load_pipeline, open_source

ANSWER = httpx.Response(403, request=httpx.Request("GET", "https://huggingface.co/owner/name"))


@pytest.fixture
def wan(tmp_path) -> Path:
    return save_tiny_pipeline("wan", tmp_path / "wan")


def change_index(directory: Path, **values) -> None:
    path = directory / "model_index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_relative_source_of_a_temporary_workspace_is_the_checkouts(wan, tmp_path, monkeypatch):
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    monkeypatch.chdir(workspace)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))  # as DVC and the flows tell it
    assert sources.resolve("wan", "model.source", ["transformer"]) == wan


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (GatedRepoError("gated", response=ANSWER), r"licence must be accepted .*https://huggingface.co/owner/name.*hf auth login"),
        (RepositoryNotFoundError("none", response=ANSWER), "no such repository on the hub, or a private one"),
        (RevisionNotFoundError("none", response=ANSWER), "has no revision v1. Name a branch, tag or commit"),
        (LocalEntryNotFoundError("offline"), "the hub cannot be reached.*hf download owner/name"),
        (HfHubHTTPError("cut off", response=ANSWER), r"download was interrupted: .*\nRun again: what has arrived is kept"),
    ],
)  # fmt: skip
def test_hub_that_gives_nothing_says_what_to_do(monkeypatch, error, text):
    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(sources, "snapshot_download", refuse)
    with pytest.raises(UserError, match=f"model.source: owner/name@v1: .*{text}"):
        open_source("owner/name@v1", FAMILIES["wan"])


def test_hub_id_is_downloaded_in_the_parts_that_are_needed(monkeypatch, wan):
    asked = {}
    monkeypatch.setattr(sources, "snapshot_download", lambda name, **given: asked.update({name: given}) or str(wan))
    assert open_source("owner/name@1a2b3c", FAMILIES["wan"]) == wan
    patterns = asked["owner/name"]["allow_patterns"]
    assert asked["owner/name"]["revision"] == "1a2b3c"
    assert {"model_index.json", "transformer/*", "scheduler/*"} <= set(patterns)
    assert "text_encoder/*" not in patterns


def test_hub_id_of_one_part_is_downloaded_whole(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(
        sources, "snapshot_download", lambda _, allow_patterns, **__: asked.append(allow_patterns) or str(tmp_path)
    )
    assert sources.resolve("owner/encoder", "model.text_encoder.source", ["text_encoder"]) == tmp_path
    assert "*.safetensors" in asked[1]


def test_path_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"model.source: /no/such/place: no such directory, and no hub id"):
        open_source("/no/such/place", FAMILIES["wan"])


def test_directory_of_a_part_is_no_pipeline(wan):
    with pytest.raises(UserError, match=r"no model_index.json in it"):
        open_source(str(wan / "transformer"), FAMILIES["wan"])


def test_missing_shard_is_named(wan):
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (wan / "transformer/model.safetensors.index.json").write_text(json.dumps(index))
    (next((wan / "transformer").glob("*.safetensors"))).rename(wan / "transformer/model-00001-of-00002.safetensors")
    with pytest.raises(UserError, match=r"1 of 2 shards .* missing, the first is model-00002-of-00002.safetensors"):
        open_source(str(wan), FAMILIES["wan"])


def test_transformer_without_weights_is_named(wan):
    for file in (wan / "transformer").glob("*.safetensors"):
        file.unlink()
    with pytest.raises(UserError, match=f"{wan / 'transformer'}: no safetensors files in it"):
        open_source(str(wan), FAMILIES["wan"])


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder"])
def test_file_cut_short_is_named(wan, part):
    (file,) = (wan / part).glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-100])
    loaders = {
        "transformer": lambda: open_source(str(wan), FAMILIES["wan"]),
        "vae": lambda: load_autoencoder(wan, "vae"),
        "text_encoder": lambda: FAMILIES["wan"].load_text(wan),
    }
    for load in (loaders[part], lambda: load_pipeline(wan)):
        with pytest.raises(UserError, match=f"{file}: not a whole safetensors file .*hf download"):
            load()


def test_wrong_family_says_which_it_is(wan):
    with pytest.raises(UserError, match=r"a WanPipeline, and model.family is cogvideox. Set model.family: wan"):
        check_source(wan, FAMILIES["cogvideox"])


def test_pipeline_of_no_family_lists_those_that_there_are(wan):
    change_index(wan, _class_name="LTXPipeline")
    with pytest.raises(UserError, match=r"a LTXPipeline, which is of no family .*WanPipeline \(wan\)"):
        check_source(wan, FAMILIES["wan"])


def test_wan_with_two_transformers_is_refused_with_the_reason(wan):
    change_index(wan, boundary_ratio=0.875, transformer_2=["diffusers", "WanTransformer3DModel"])
    with pytest.raises(UserError, match=r"two transformers \(boundary_ratio 0.875\): each knows one part of the noise"):
        open_source(str(wan), FAMILIES["wan"])


def test_foreign_autoencoder_lists_the_classes(wan):
    with pytest.raises(UserError, match=r"found None, expected one of AutoencoderKLCogVideoX, AutoencoderKLWan"):
        load_autoencoder(wan, "text_encoder")
