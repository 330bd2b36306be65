"""Whether source models fit each other, from headers and small files: every problem at once."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from evomerge.core.tensor_names import layer_of, layer_stacks, stack_of
from evomerge.merging.operators.contract import is_finite
from evomerge.merging.safetensors_header import FLOAT_BYTES
from evomerge.merging.source_model import SourceModel
from evomerge.merging.tied_embeddings import embedding_name, head_name, stored_name
from evomerge.merging.vocabulary import (
    read_chat_template,
    read_merges,
    read_vocabulary,
    same_tokenizer_file,
)

if TYPE_CHECKING:
    from torch import Tensor

_SHOWN = 5
_FINITE_CHECK_ENTRIES = 1 << 17


def check(sources: Mapping[str, SourceModel], reference: str) -> list[str]:
    """Every reason why these sources cannot be merged, in plain words; empty if they can.

    Args:
        sources: Opened source models by name.
        reference: The source whose tensor names and shapes the merged model has.

    Raises:
        CheckpointError: A tokenizer file is unreadable.
    """
    return check_tensors(sources, reference) + check_vocabularies(sources, reference)


def check_tensors(sources: Mapping[str, SourceModel], reference: str) -> list[str]:
    """Missing and extra tensors, shapes, layer counts and dtypes, against the reference."""
    expected = sources[reference]
    problems: list[str] = []
    for name, source in sources.items():
        problems += _dtype_problems(name, source) + _config_problems(name, source)
        if name == reference:
            continue
        problems += _layer_problems(name, reference, source, expected)
        problems += _name_problems(name, reference, sources)
        problems += _shape_problems(name, reference, sources)
    return problems


def check_vocabularies(sources: Mapping[str, SourceModel], reference: str) -> list[str]:
    """Tokens that do not have the same id in every source, or no row in the embedding."""
    expected = read_vocabulary(sources[reference].tokenizer_folder)
    if expected is None:
        return []
    problems = _rows_problems(reference, sources[reference], expected)
    for name, source in sources.items():
        if same_tokenizer_file(source.tokenizer_folder, sources[reference].tokenizer_folder):
            continue
        found = read_vocabulary(source.tokenizer_folder)
        if found is None or found == expected:
            continue
        tokens = [*expected, *(t for t in found if t not in expected)]
        differing = [t for t in tokens if expected.get(t) != found.get(t)]
        shown = ", ".join(
            f"{t!r}: {_place(found.get(t))} against {_place(expected.get(t))}"
            for t in differing[:3]
        )
        problems.append(
            f"{name}: its tokenizer differs from {reference}'s in {len(differing)} tokens "
            f"({shown}); choose with --tokenizer-mismatch (in an experiment file: "
            "models.tokenizer_mismatch) which tokens the merged model has."
        )
    return problems


def notes(sources: Mapping[str, SourceModel], reference: str) -> list[str]:
    """Differences that do not forbid a merge but are worth a look."""
    expected, remarks = sources[reference], _uneven_stacks(sources[reference])
    for name, source in sources.items():
        if name == reference:
            continue
        if read_vocabulary(source.tokenizer_folder) is None:
            remarks.append(f"{name}: has no tokenizer files; taken to share {reference}'s.")
        elif read_merges(source.tokenizer_folder) != read_merges(expected.tokenizer_folder):
            remarks.append(f"{name}: its tokenizer's merges differ from {reference}'s.")
        if read_chat_template(source.tokenizer_folder) != read_chat_template(
            expected.tokenizer_folder
        ):
            remarks.append(
                f"{name}: its chat template differs; the merged model gets {reference}'s."
            )
        differing = [
            key
            for key in ("rope_theta", "rope_scaling", "rope_parameters", "rms_norm_eps")
            if source.config.get(key) != expected.config.get(key)
        ]
        if differing:
            remarks.append(
                f"{name}: config.json differs in {', '.join(differing)}; "
                f"the merged model gets {reference}'s."
            )
    return remarks


def check_finite(source: SourceModel) -> list[str]:
    """The names of tensors that hold NaN or infinities; reads all weights once."""
    return [
        name
        for name in source.tensors
        if not all(is_finite(block) for block in _blocks(source.read(name)))
    ]


def _blocks(tensor: "Tensor") -> "Iterator[Tensor]":
    entries = tensor.reshape(-1)
    for start in range(0, len(entries), _FINITE_CHECK_ENTRIES):
        yield entries[start : start + _FINITE_CHECK_ENTRIES].float()


def nearest(name: str, names: Iterable[str]) -> str:
    """``; nearest name: …``, or nothing where no name comes near."""
    found = difflib.get_close_matches(name, list(names), n=1, cutoff=0.6)
    return f"; nearest name: {found[0]}" if found else ""


def _uneven_stacks(source: SourceModel) -> list[str]:
    stacks = layer_stacks(source.tensors)
    if len(set(stacks.values())) < 2:
        return []
    counts = ", ".join(f"{count} in {stack}" for stack, count in stacks.items())
    return [
        f"layers are counted from 0 in each stack ({counts}), and a range of layers is meant "
        "in all of them; a part of the name (components) tells them apart."
    ]


def _dtype_problems(name: str, source: SourceModel) -> list[str]:
    wrong = [info for info in source.tensors.values() if info.dtype not in FLOAT_BYTES]
    if not wrong:
        return []
    hint = " (a quantized model)" if "quantization_config" in source.config else ""
    return [
        f"{name}: {wrong[0].name} is {wrong[0].dtype}{_and_more(len(wrong))}{hint}; "
        f"only {', '.join(FLOAT_BYTES)} can be merged."
    ]


def _config_problems(name: str, source: SourceModel) -> list[str]:
    stacks = layer_stacks(source.tensors)
    claimed = source.config.get("num_hidden_layers", source.config.get("n_layer"))
    if not stacks or not isinstance(claimed, int) or claimed in stacks.values():
        return []
    stored = " and ".join(str(count) for count in dict.fromkeys(stacks.values()))
    return [f"{name}: config.json says {claimed} layers, the tensors are of {stored}."]


def _layer_problems(
    name: str, reference: str, source: SourceModel, expected: SourceModel
) -> list[str]:
    theirs, ours = layer_stacks(source.tensors), layer_stacks(expected.tensors)
    several = len(ours) > 1
    return [
        f"{name}: has {theirs[stack]} layers{f' in {stack}' if several else ''}, "
        f"{reference} has {count}."
        for stack, count in ours.items()
        if stack in theirs and theirs[stack] != count
    ]


def _name_problems(name: str, reference: str, sources: Mapping[str, SourceModel]) -> list[str]:
    ours, theirs = sources[reference].tensors, sources[name].tensors
    missing = [t for t in ours if stored_name(t, theirs) is None]
    extra = [t for t in theirs if stored_name(t, ours) is None]
    problems = []
    for lost, owner, there in ((missing, name, theirs), (extra, reference, ours)):
        # Tensors of layers that the other does not have are said by the layer counts.
        stacks = layer_stacks(there)
        told = [t for t in lost if (layer_of(t) or 0) < stacks.get(stack_of(t) or "", 1 << 30)]
        if told:
            other = reference if owner == name else name
            problems.append(
                f"{owner}: lacks {told[0]}{_and_more(len(told))}, which {other} has"
                f"{nearest(told[0], there)}."
            )
    return problems


def _shape_problems(name: str, reference: str, sources: Mapping[str, SourceModel]) -> list[str]:
    ours, theirs = sources[reference].tensors, sources[name].tensors
    problems = []
    for tensor, info in ours.items():
        stored = stored_name(tensor, theirs)
        if stored is None or theirs[stored].shape == info.shape:
            continue
        hint = ""
        is_embedding = head_name([tensor]) or embedding_name([tensor])
        if is_embedding and theirs[stored].shape[1:] == info.shape[1:]:
            hint = " (another vocabulary size: align the tokens with --tokenizer-mismatch)"
        problems.append(
            f"{name}: {stored} has shape {list(theirs[stored].shape)}, "
            f"in {reference} it is {list(info.shape)}{hint}."
        )
    if len(problems) > _SHOWN:
        more = len(problems) - _SHOWN
        return [*problems[:_SHOWN], f"{name}: {more} more tensors differ in shape."]
    return problems


def _rows_problems(name: str, source: SourceModel, vocabulary: Mapping[str, int]) -> list[str]:
    embedding = embedding_name(source.tensors)
    if embedding is None or not vocabulary:
        return []
    token = max(vocabulary, key=lambda t: vocabulary[t])
    rows = source.tensors[embedding].shape[0]
    if vocabulary[token] < rows:
        return []
    return [
        f"{name}: token {token!r} has id {vocabulary[token]}, "
        f"but {embedding} has only {rows} rows."
    ]


def _place(token_id: int | None) -> str:
    return "missing" if token_id is None else str(token_id)


def _and_more(count: int) -> str:
    return f" (and {count - 1} more)" if count > 1 else ""
