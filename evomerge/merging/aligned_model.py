"""Source models of different vocabularies, seen as if they had one."""

import json
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evomerge.core.errors import CheckpointError
from evomerge.core.recipe import UNION
from evomerge.merging.json_object import read_json_object
from evomerge.merging.safetensors_header import TORCH_NAMES, TensorInfo
from evomerge.merging.source_model import SourceModel
from evomerge.merging.tensor_cache import TensorCache
from evomerge.merging.tied_embeddings import (
    embedding_name,
    head_name,
    is_vocabulary_bias,
    stored_name,
)
from evomerge.merging.token_alignment import MEAN, NO_TOKEN, TokenAlignment, align
from evomerge.merging.union_tokenizer import copy_tokenizer, write_union
from evomerge.merging.vocabulary import read_vocabulary, same_tokenizer_file, with_rows

if TYPE_CHECKING:
    import torch

_SPECIAL_IDS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
_GENERATION = "generation_config.json"
_WIDTH = {"F64": 3, "F32": 2, "BF16": 1, "F16": 1}


@dataclass(frozen=True)
class MergedVocabulary:
    """The tokens that the merged model has."""

    tokenizer: str
    """``union``, or the source that they are of."""

    like: str
    """The source whose special token ids hold."""

    alignment: TokenAlignment
    """Rows of all sources by merged token."""

    folder: "tempfile.TemporaryDirectory[str]"
    """Of the merged tokenizer; it lasts as long as this."""


class AlignedModel(SourceModel):
    """A source whose embedding and output head have one row for each merged token.

    Rows are the source's own, found by token; those of tokens that it lacks come from other
    sources. Ids without a token get the mean of all rows. The fingerprint is the source's own:
    what the tokens are is said by the recipe.

    Args:
        name: Of the source.
        sources: All sources of the merge by name, unaligned.
        vocabulary: The merged tokens.
    """

    def __init__(
        self,
        name: str,
        sources: Mapping[str, SourceModel],
        vocabulary: MergedVocabulary,
    ) -> None:
        source, alignment, like = sources[name], vocabulary.alignment, vocabulary.like
        self.source = source
        self._name = name
        self._sources = sources
        self._alignment = alignment
        self._vocabulary = vocabulary
        self._cache = TensorCache()
        config = with_rows(source.config, alignment.size)
        special = {k: v for k, v in sources[like].config.items() if k in _SPECIAL_IDS}
        infos = dict(source.tensors)
        for tensor in _vocabulary_tensors(source):
            dtype = _common_dtype(tensor, sources, infos[tensor].dtype, own=name == like)
            shape = (alignment.size, *infos[tensor].shape[1:])
            infos[tensor] = TensorInfo(tensor, dtype, shape, None)
        super().__init__(source.folder, config | special, infos)

    def read(self, name: str, device: "str | torch.device" = "cpu") -> "torch.Tensor":
        """A tensor, its rows those of the merged tokens where it has one a token.

        Raises:
            CheckpointError: There is no such tensor, another source lacks it, or a file
                changed under us.
        """
        if self._info(name) is self.source.tensors[name]:
            return self.source.read(name, device)
        return self._cache.get(name, lambda: self._aligned(name)).to(device)

    @property
    def tokenizer_folder(self) -> Path:
        """Where the merged tokenizer lies."""
        return Path(self._vocabulary.folder.name)

    @property
    def own_folder(self) -> Path:
        """The source's."""
        return self.source.own_folder

    @property
    def tokenizer(self) -> str:
        """``union``, or the source whose tokenizer this is."""
        return self._vocabulary.tokenizer

    @property
    def tied(self) -> bool:
        """Whether the source's output head is its input embedding."""
        return self.source.tied

    @property
    def fingerprint(self) -> str:
        """Identity of the source's own weights."""
        return self.source.fingerprint

    def _aligned(self, name: str) -> "torch.Tensor":
        import torch  # noqa: PLC0415 - takes a second; opening needs none of it

        dtype = getattr(torch, TORCH_NAMES[self.tensors[name].dtype])
        plan, own = self._alignment, self.source.read(name)
        if plan.is_prefix(self._name):
            return own[: plan.size].to(dtype)
        rows = torch.tensor(plan.rows[self._name])
        donors = torch.tensor(plan.donors)
        lacking = rows < 0
        out = torch.zeros((plan.size, *own.shape[1:]), dtype=dtype)
        out[~lacking] = own[rows[~lacking]].to(dtype)
        for donor in sorted(set(donors[lacking & (donors >= 0)].tolist())):
            places = lacking & (donors == donor)
            out[places] = self._rows_of(plan.sources[donor], name, places).to(dtype)
        places = lacking & (donors == MEAN)
        if places.any():
            out[places] = self._mean(name, places).to(dtype)
        places = donors == NO_TOKEN
        if places.any():
            out[places] = out[~places].float().mean(0).to(dtype)
        return out

    def _rows_of(self, source: str, name: str, places: "torch.Tensor") -> "torch.Tensor":
        """A source's own rows of some merged tokens; zero where it lacks them."""
        import torch  # noqa: PLC0415 - as above

        other = self._sources[source]
        stored = stored_name(name, other.tensors)
        if stored is None:
            raise CheckpointError(f"{source}: has no tensor {name}, whose rows are needed.")
        rows = torch.tensor(self._alignment.rows[source])[places]
        found = other.read(stored)[rows.clamp(min=0)]
        found[rows < 0] = 0
        return found

    def _mean(self, name: str, places: "torch.Tensor") -> "torch.Tensor":
        import torch  # noqa: PLC0415 - as above

        parts = [self._rows_of(source, name, places).float() for source in self._sources]
        has = [torch.tensor(self._alignment.rows[s])[places] >= 0 for s in self._sources]
        count = torch.stack(has).sum(0)
        return torch.stack(parts).sum(0) / count.view(-1, *[1] * (parts[0].dim() - 1))


def align_tokens(
    sources: Mapping[str, SourceModel],
    tokenizer: str,
    base: str | None = None,
    multiple: int = 1,
) -> dict[str, SourceModel]:
    """The same sources with one vocabulary, row by row for the same tokens.

    Args:
        sources: Opened source models by name; the first, or the base, is the reference.
        tokenizer: ``union``, which knows every source's tokens, or the name of the source
            whose tokenizer the merged model has.
        base: The source whose rows others take for tokens that they lack.
        multiple: The number of rows is rounded up to a multiple of it.

    Raises:
        CheckpointError: A tokenizer is missing, of an unknown format or cannot be extended;
            every problem is named.
    """
    reference = base or next(iter(sources))
    vocabularies = _vocabularies(sources, reference)
    folder = tempfile.TemporaryDirectory(prefix="evomerge-tokenizer-")
    out = Path(folder.name)
    like = reference
    if tokenizer == UNION:
        order = [reference, *(name for name in sources if name != reference)]
        merged: Mapping[str, int] = write_union(
            [sources[name].tokenizer_folder for name in order],
            [vocabularies[name] for name in order],
            out,
        )
    elif tokenizer in sources:
        like, merged = tokenizer, vocabularies[tokenizer]
        copy_tokenizer(sources[like].tokenizer_folder, out)
    else:
        raise CheckpointError(
            f"tokenizer {tokenizer!r}: expected {UNION!r} or a source, of {', '.join(sources)}."
        )
    _write_generation(sources[reference], sources[like], out)
    alignment = align(vocabularies, merged, base, multiple)
    vocabulary = MergedVocabulary(tokenizer, like, alignment, folder)
    return {name: AlignedModel(name, sources, vocabulary) for name in sources}


def _vocabularies(
    sources: Mapping[str, SourceModel], reference: str
) -> dict[str, Mapping[str, int]]:
    """Id by token of each source, of the tokens that have a row in its embedding."""
    found: dict[str, Mapping[str, int]] = {}
    problems: list[str] = []
    expected = sources[reference].tokenizer_folder
    for name, source in sources.items():
        folder = source.tokenizer_folder
        vocabulary = read_vocabulary(folder)
        if vocabulary is None or same_tokenizer_file(folder, expected):
            vocabulary = read_vocabulary(expected)
        embedding = embedding_name(source.tensors)
        if vocabulary is None or embedding is None:
            lacking = "tokenizer files" if vocabulary is None else "an input embedding"
            problems.append(f"{name}: {source.folder} lacks {lacking}.")
            continue
        if _is_digest(vocabulary):
            problems.append(
                f"{name}: {folder} has only tokenizer.model, whose tokens are not read; write "
                "tokenizer.json with AutoTokenizer.from_pretrained(…).save_pretrained(…)."
            )
            continue
        rows = source.tensors[embedding].shape[0]
        found[name] = {token: place for token, place in vocabulary.items() if place < rows}
    if problems:
        raise CheckpointError("\n".join(problems))
    return found


def _is_digest(vocabulary: Mapping[str, int]) -> bool:
    return len(vocabulary) == 1 and next(iter(vocabulary)).startswith("tokenizer.model ")


def _vocabulary_tensors(source: SourceModel) -> Iterable[str]:
    embedding = embedding_name(source.tensors)
    rows = source.tensors[embedding].shape[0] if embedding else -1
    for name, info in source.tensors.items():
        of_tokens = head_name([name]) or embedding_name([name]) or is_vocabulary_bias(name)
        if of_tokens and info.shape[0] == rows:
            yield name


def _common_dtype(
    tensor: str, sources: Mapping[str, SourceModel], dtype: str, *, own: bool
) -> str:
    """Wide enough for other sources' rows; the reference's own, which the result has."""
    if own:
        return dtype
    stored = (stored_name(tensor, source.tensors) for source in sources.values())
    found = {dtype} | {
        source.tensors[name].dtype
        for source, name in zip(sources.values(), stored, strict=True)
        if name is not None
    }
    if found == {"BF16", "F16"}:
        return "F32"
    return max(found, key=lambda name: _WIDTH.get(name, 0))


def _write_generation(reference: SourceModel, like: SourceModel, out: Path) -> None:
    """The reference's generation settings with the special ids of the merged tokenizer."""
    file = reference.side_file(_GENERATION)
    if file is None:
        return
    settings: dict[str, Any] = read_json_object(file)
    given = like.side_file(_GENERATION)
    special = like.config | (read_json_object(given) if given is not None else {})
    settings |= {key: special[key] for key in _SPECIAL_IDS if special.get(key) is not None}
    text = json.dumps(settings, indent=2) + "\n"
    (out / _GENERATION).write_text(text, encoding="utf-8")
