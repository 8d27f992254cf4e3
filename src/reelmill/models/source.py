"""Pretrained sources: from a path or hub id to a directory that is whole, or an error that says what to do."""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors import SafetensorError, safe_open

from reelmill.errors import UserError
from reelmill.storage import hash_bytes, hash_path, read_json
from reelmill.workspace import main_checkout

INDEX = "model_index.json"
BASE = "base.json"  # in a LoRA's directory: which pipeline it belongs to
_HUB_ID = re.compile(r"(\w[\w.-]*/\w[\w.-]*)(?:@(\w[\w./-]*))?")  # with a branch, tag or commit after @
# A few kB: what is asked of the clips is known before weights are here.
_CONFIGURATIONS = ("config.json", "*/*config.json")
_ONE_PART = ("*.safetensors", "*.json", "*.model", "*.txt")


def resolve(source: str, key: str, parts: Sequence[str], weights: bool = True) -> Path:
    """The local directory of a source whose ``parts`` (folders) are whole; a hub id is downloaded, those parts alone.

    A LoRA's directory stands for the pipeline that it was trained on.

    Args:
        key: the setting that names the source, for the error.
        weights: False: only configurations are wanted, of which a hub's are downloaded alone.

    Raises:
        UserError: when it is neither a directory nor a hub id, cannot be reached, is behind a licence, or not whole.
    """
    directory = local(source)
    if not directory.is_dir():
        if hub_id(source) is None:
            raise UserError(
                f"{key}: {source}: no such directory, and no hub id (owner/name, or owner/name@revision). Correct the path; relative ones start at the repository's root."
            )
        directory = _download(source, key, [INDEX, BASE, *_CONFIGURATIONS, *(f"{part}/*" for part in parts if weights)])
        if weights and not any(
            (directory / name).is_file() for name in (INDEX, BASE)
        ):  # an encoder or autoencoder by itself
            directory = _download(source, key, _ONE_PART)
    if (directory / BASE).is_file():
        return resolve(read_json(directory / BASE)["source"], f"{directory / BASE}: source", parts, weights)
    for part in parts if weights else ():
        if (directory / part).is_dir():
            check_whole(directory / part)
    return directory


def local(source: str) -> Path:
    """Where a source would lie: a relative path in the workspace, or else in the checkout that it belongs to."""
    path = Path(source)
    return path if path.is_dir() or path.is_absolute() else main_checkout() / path


def hub_id(source: str) -> tuple[str, str | None] | None:
    """Name and revision of a hub id, ``owner/name`` or ``owner/name@revision``; None for what is none."""
    return (found[1], found[2]) if (found := _HUB_ID.fullmatch(source)) else None


def _download(source: str, key: str, patterns: Sequence[str]) -> Path:
    named = hub_id(source)
    assert named is not None
    name, revision = named
    page = f"https://huggingface.co/{name}"
    try:
        return Path(
            snapshot_download(
                name, revision=revision, allow_patterns=list(patterns), ignore_patterns=["*.bin", "*.pt", "*.ckpt"]
            )
        )
    except GatedRepoError:
        raise UserError(
            f"{key}: {source}: its licence must be accepted before it can be downloaded. Accept it at {page}, "
            "log in with `hf auth login` (or set HF_TOKEN), and run again."
        ) from None
    except RepositoryNotFoundError:
        raise UserError(
            f"{key}: {source}: no such repository on the hub, or a private one. Correct the name, or log in with `hf auth login`."
        ) from None
    except RevisionNotFoundError:
        raise UserError(
            f"{key}: {source}: the repository has no revision {revision}. Name a branch, tag or commit of {page}."
        ) from None
    except LocalEntryNotFoundError:
        raise UserError(
            f"{key}: {source}: not in the local cache, and the hub cannot be reached. Connect, or download it elsewhere with "
            f"`hf download {name}{f' --revision {revision}' if revision else ''}` and give the directory's path."
        ) from None
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise UserError(
            f"{key}: {source}: the download was interrupted: {error}\nRun again: what has arrived is kept and the rest is fetched."
        ) from None


def check_whole(directory: Path) -> None:
    """Raise `UserError` naming the first weight file of a folder that is missing or cut short."""
    for index in sorted(directory.glob("*.safetensors.index.json")):
        named = set(read_json(index)["weight_map"].values())
        missing = sorted(name for name in named if not (directory / name).is_file())
        if missing:
            raise UserError(
                f"{directory}: {len(missing)} of {len(named)} shards that {index.name} names are missing, the first is {missing[0]}. "
                f"{_AGAIN}"
            )
    for path in sorted(directory.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path}: not a whole safetensors file ({error}). {_AGAIN}") from None


_AGAIN = (
    "The download or copy was interrupted: finish it (`hf download` goes on where it stopped), or copy the file again."
)


def require_weights(directory: Path) -> None:
    """Raise `UserError` when a folder has no weights at all: an index and configurations can be there without them."""
    if not any(directory.glob("*.safetensors")):
        raise UserError(f"{directory}: no safetensors files in it. {_AGAIN}")


def read_configuration(directory: Path) -> dict:
    """A model's config.json. Raises `UserError` when it is absent or torn."""
    path = directory / "config.json"
    try:
        return read_json(path)
    except FileNotFoundError:
        raise UserError(f"{path}: not found. {_AGAIN}") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: torn: {error}. {_AGAIN}") from None


@contextmanager
def loading(what: str, where: Path, weights: bool = True) -> Iterator[None]:
    """Turn a library's complaint about absent or foreign files into an error that says what was expected where."""
    if weights and where.is_dir():
        check_whole(where)
    try:
        yield
    except (OSError, ValueError, TypeError, AttributeError, KeyError, RuntimeError, SafetensorError) as error:
        raise UserError(
            f"{where}: no {what} loaded from it: {error}\nExpected its configuration and whole safetensors files. Download or copy it again, or correct the path."
        ) from None


def weights_digest(directory: Path) -> str:
    """SHA-256 of a folder's safetensors files with their names: the same weights, wherever they lie."""
    files = sorted(directory.glob("*.safetensors"))
    return hash_bytes(*(part for file in files for part in (file.name.encode(), hash_path(file).encode())))


def read_index(directory: Path, key: str) -> dict:
    """The model_index.json of a pipeline's directory. Raises `UserError` when it has none."""
    try:
        return read_json(directory / INDEX)
    except FileNotFoundError:
        raise UserError(
            f"{key}: {directory}: no {INDEX} in it, so it is no diffusers pipeline. Name the directory that holds it, "
            "not one of its parts, and a diffusers conversion of the model where there are several."
        ) from None
    except json.JSONDecodeError as error:
        raise UserError(f"{directory / INDEX}: torn: {error}. {_AGAIN}") from None
