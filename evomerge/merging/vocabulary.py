"""Vocabularies read from tokenizer files, so that models of different tokens are not merged."""

import filecmp
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evomerge.merging.json_object import read_json_object

CHAT_TEMPLATE = "chat_template.jinja"


def read_vocabulary(folder: Path) -> Mapping[str, int] | None:
    """Token ids by token, added and special tokens included; None without tokenizer files.

    A SentencePiece model without tokenizer.json counts as one entry: the digest of its bytes.

    Raises:
        CheckpointError: A tokenizer file is unreadable.
    """
    if (folder / "tokenizer.json").exists():
        return _from_tokenizer_json(read_json_object(folder / "tokenizer.json"))
    if (folder / "vocab.json").exists():
        added = folder / "added_tokens.json"
        return read_json_object(folder / "vocab.json") | (
            read_json_object(added) if added.exists() else {}
        )
    if (folder / "vocab.txt").exists():
        lines = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
        return {token: place for place, token in enumerate(lines)}
    if (folder / "tokenizer.model").exists():
        content = (folder / "tokenizer.model").read_bytes()
        return {f"tokenizer.model {hashlib.sha256(content).hexdigest()[:16]}": 0}
    return None


def same_tokenizer_file(folder: Path, other: Path) -> bool:
    """Whether both hold the same bytes as tokenizer.json, so that it need not be parsed."""
    ours, theirs = folder / "tokenizer.json", other / "tokenizer.json"
    return ours.exists() and theirs.exists() and filecmp.cmp(ours, theirs, shallow=False)


def read_merges(folder: Path) -> list[Any]:
    """The merge rules of a BPE tokenizer.json, empty where there are none."""
    file = folder / "tokenizer.json"
    return (
        list(read_json_object(file).get("model", {}).get("merges") or [])
        if file.exists()
        else []
    )


def with_rows(config: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """A model's configuration with another number of embedding rows, wherever it tells it."""
    changed = dict(config)
    for key, value in config.items():
        if key == "vocab_size":
            changed[key] = rows
        elif key == "text_config" and isinstance(value, Mapping):
            changed[key] = with_rows(value, rows)
    return changed


def read_chat_template(folder: Path) -> str | None:
    """The chat template's text, from its own file or from tokenizer_config.json."""
    if (folder / CHAT_TEMPLATE).exists():
        return (folder / CHAT_TEMPLATE).read_text(encoding="utf-8")
    file = folder / "tokenizer_config.json"
    template = read_json_object(file).get("chat_template") if file.exists() else None
    return None if template is None else str(template)


def _from_tokenizer_json(tokenizer: dict[str, Any]) -> dict[str, int]:
    entries = tokenizer.get("model", {}).get("vocab", {})
    if isinstance(entries, list):  # Unigram: [[token, score], …], the id is the place
        vocabulary = {str(entry[0]): place for place, entry in enumerate(entries)}
    else:
        vocabulary = {str(token): int(place) for token, place in entries.items()}
    for token in tokenizer.get("added_tokens") or []:
        vocabulary[str(token["content"])] = int(token["id"])
    return vocabulary
