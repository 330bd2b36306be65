"""Source models opened by how they are spelled: a folder, a file, a hub id, BASE+ADAPTER."""

from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from evomerge.core.errors import CheckpointError
from evomerge.core.model_spelling import split_adapter
from evomerge.merging.adapter_model import AdaptedModel
from evomerge.merging.adapter_weights import read_adapter
from evomerge.merging.model_folder import open_place
from evomerge.merging.source_model import SourceModel

__all__ = ["SourceModel", "open_source"]

_HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "tokenizer*", "*.model", "*.txt"]
_HUB_PICKLES = ["pytorch_model*.bin"]


def open_source(
    model: str, *, offline: bool = False, allow_pickle: bool = False
) -> SourceModel:
    """Open a folder, a file of weights, a hub id or an adapter over one of these.

    A hub id is ``org/name`` or ``org/name@revision``; an adapter is ``MODEL+ADAPTER``, where
    both may be folders or hub ids. Reads configurations and headers only. What looks like a
    path is never asked of the hub: it exists, lies in an existing folder, or starts with
    ``.``, ``/`` or ``~``.

    Args:
        model: How the source is spelled.
        offline: Take a hub id only from the local cache.
        allow_pickle: Whether PyTorch's pickle files may be read where there is no safetensors.

    Raises:
        CheckpointError: Not found, no weights, damaged files, pickles that are not allowed,
            or an adapter of another kind than LoRA or for another model.
    """
    below, adapter = split_adapter(model)
    if adapter is not None:
        base = open_source(below, offline=offline, allow_pickle=allow_pickle)
        return AdaptedModel(base, read_adapter(_place(adapter, [], offline=offline)))
    more = _HUB_PICKLES if allow_pickle else []
    return open_place(_place(model, more, offline=offline), allow_pickle=allow_pickle)


def _place(model: str, more: list[str], *, offline: bool) -> Path:
    if not _is_path(model):
        return _fetched(model, [*_HUB_FILES, *more], offline=offline)
    place = Path(model).expanduser()
    if not place.exists():
        raise CheckpointError(f"{model}: no such folder; give a model folder or a hub id.")
    return place


def _is_path(model: str) -> bool:
    path = Path(model).expanduser()
    in_a_folder = len(path.parts) > 1 and path.parent.is_dir()
    return model[:1] in {".", "~", ""} or path.is_absolute() or path.exists() or in_a_folder


def _fetched(model: str, files: list[str], *, offline: bool) -> Path:
    name, _, revision = model.partition("@")
    try:
        return Path(
            huggingface_hub.snapshot_download(
                name,
                revision=revision or None,
                allow_patterns=files,
                local_files_only=offline,
            )
        )
    except (OSError, ValueError, HfHubHTTPError, LocalEntryNotFoundError) as error:
        reason = f"it cannot be fetched: {str(error).splitlines()[0].rstrip('.')}"
        if offline:
            reason = "it is not in the local cache and --offline forbids fetching it"
        raise CheckpointError(f"{model}: no such folder, and as a hub id {reason}.") from error
