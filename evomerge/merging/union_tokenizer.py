"""A tokenizer that knows every token of several, as the files that AutoTokenizer loads.

As mergekit's union: the reference's tokenizer with the other sources' tokens appended as
added tokens, first those of their models, then those that were added to them. Ids of the
reference stay. Appended tokens are looked for in text as they are spelled in the vocabulary
and before the reference's rules are applied: text may be cut otherwise than by the reference
alone, and of byte-level tokens only those of plain letters and digits are ever found.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evomerge.core.errors import CheckpointError
from evomerge.merging.json_object import read_json_object

TOKENIZER_FILE = "tokenizer.json"

_TAKEN_ALONG = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.*",
    "additional_chat_templates",
)
"""What holds for the union, too; vocab.json and the like would tell the old vocabulary."""

_COPIED = (
    *_TAKEN_ALONG,
    "tokenizer*",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "*.model",
)


def copy_tokenizer(folder: Path, out: Path) -> None:
    """Copy a tokenizer's files and chat templates as they are."""
    _copy(folder, out, _COPIED)


def write_union(
    folders: Sequence[Path], vocabularies: Sequence[Mapping[str, int]], out: Path
) -> dict[str, int]:
    """Write the union of tokenizers; gives id by token.

    Args:
        folders: Where the tokenizers lie; the first is extended.
        vocabularies: Id by token of each; tokens that shall not be in the union left out.
        out: An existing, empty folder.

    Raises:
        CheckpointError: The first has no tokenizer.json, or it cannot be extended.
    """
    first = folders[0] / TOKENIZER_FILE
    if not first.is_file():
        raise CheckpointError(
            f"{folders[0]}: has no {TOKENIZER_FILE}, which a union of tokenizers extends; "
            "write one with AutoTokenizer.from_pretrained(…).save_pretrained(…)."
        )
    tokenizer = read_json_object(first)
    merged = dict(vocabularies[0])
    known = {str(token["content"]) for token in tokenizer.get("added_tokens") or []}
    added = _added_tokens(folders, vocabularies)
    plain = [token for vocabulary in vocabularies[1:] for token in _by_id(vocabulary)]
    next_id = 1 + max(merged.values(), default=-1)
    appended: list[dict[str, Any]] = []
    for token in dict.fromkeys([*(t for t in plain if t not in added), *added]):
        if token in known or (token in merged and token not in added):
            continue
        if token not in merged:
            merged[token] = next_id
            next_id += 1
        appended.append(
            {**_PLAIN, **added.get(token, {}), "id": merged[token], "content": token}
        )
    tokenizer["added_tokens"] = sorted(
        [*(tokenizer.get("added_tokens") or []), *appended], key=lambda token: token["id"]
    )
    _copy(folders[0], out, _TAKEN_ALONG)
    text = json.dumps(tokenizer, ensure_ascii=False)
    (out / TOKENIZER_FILE).write_text(text, encoding="utf-8")
    _check_loads(out / TOKENIZER_FILE, merged, folders[0])
    return merged


_PLAIN = {
    "single_word": False,
    "lstrip": False,
    "rstrip": False,
    "normalized": True,
    "special": False,
}


def _by_id(vocabulary: Mapping[str, int]) -> list[str]:
    return sorted(vocabulary, key=lambda token: vocabulary[token])


def _added_tokens(
    folders: Sequence[Path], vocabularies: Sequence[Mapping[str, int]]
) -> dict[str, dict[str, Any]]:
    """Tokens that were added to a tokenizer, with the settings that the first gives them."""
    found: dict[str, dict[str, Any]] = {}
    for folder, vocabulary in zip(folders, vocabularies, strict=True):
        file = folder / TOKENIZER_FILE
        tokens = read_json_object(file).get("added_tokens") or [] if file.is_file() else []
        for token in tokens:
            if token["content"] in vocabulary:
                found.setdefault(str(token["content"]), dict(token))
    return found


def _copy(folder: Path, out: Path, patterns: Sequence[str]) -> None:
    for file in sorted({file for pattern in patterns for file in folder.glob(pattern)}):
        if file.is_dir():
            shutil.copytree(file, out / file.name, dirs_exist_ok=True)
        else:
            shutil.copyfile(file, out / file.name)


def _check_loads(file: Path, merged: Mapping[str, int], reference: Path) -> None:
    """The tokenizers library gives each token the id that the embedding was aligned by."""
    from tokenizers import Tokenizer  # noqa: PLC0415 - only where tokenizers are joined

    found = Tokenizer.from_file(str(file)).get_vocab(with_added_tokens=True)
    wrong = [token for token, place in merged.items() if found.get(token) != place]
    if wrong:
        raise CheckpointError(
            f"{reference}: its {TOKENIZER_FILE} cannot be extended: token {wrong[0]!r} would "
            f"get id {found.get(wrong[0])}, not {merged[wrong[0]]} ({len(wrong)} such tokens)."
        )
