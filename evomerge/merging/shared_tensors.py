"""Which tensors models have in common, so that their weights can be compared entry by entry."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evomerge.core.errors import CheckpointError
from evomerge.core.tensor_names import layer_of, layer_stacks
from evomerge.merging.safetensors_header import FLOAT_BYTES
from evomerge.merging.source_model import SourceModel
from evomerge.merging.tied_embeddings import (
    embedding_name,
    head_name,
    is_vocabulary_bias,
    stored_name,
)

NamedModels = Sequence[tuple[str, SourceModel]]
"""Opened source models with their names; the base, where there is one, is the first."""

_STACK = 3
"""Dimensions of a stack of matrices."""

_LEAST_SHARED = 0.5
"""Models that have less than this share of a model's entries are of another architecture."""


@dataclass(frozen=True)
class SharedTensor:
    """A tensor that every model has."""

    stored: tuple[str, ...]
    """Under which name each model has it, in the order of the models."""

    shape: tuple[int, ...]
    """What is compared: the rows that every model has."""

    matrix: bool
    """Whether it counts for the similarity by columns."""

    @property
    def entries(self) -> int:
        """How many numbers are compared."""
        return math.prod(self.shape)

    @property
    def width(self) -> int:
        """Entries of a row, which is how many columns there are.

        A stack of matrices, as of experts, is one tall matrix.
        """
        stack = len(self.shape) == _STACK
        return max(1, self.shape[-1] if stack else math.prod(self.shape[1:]))


@dataclass(frozen=True)
class SharedTensors:
    """What several models are compared by."""

    tensors: tuple[SharedTensor, ...]
    left_out: tuple[str, ...]
    """Tensors that only some of the models have."""

    shortened: Mapping[str, int]
    """Rows compared of tensors of which some model has more."""


def shared_tensors(models: NamedModels) -> SharedTensors:
    """The tensors that all models have, names and ties followed.

    Embeddings, output heads and their biases may have other numbers of rows; the rows that
    all have are compared. An output head counts as a tensor of its own if that of any model
    is not its embedding.

    Args:
        models: At least one; the others are held against the first.

    Raises:
        CheckpointError: Models of another architecture or quantized ones; every one is named.
    """
    (reference, expected), *others = models
    sources = [source for _, source in models]
    problems = [p for name, source in models for p in _dtype_problems(name, source)]
    for name, source in others:
        problems += _problems(name, source, reference, expected)
    if problems:
        raise CheckpointError("\n".join(problems))
    names = _names(sources)
    found: dict[str, tuple[str, ...]] = {}
    for name in names:
        stored = [stored_name(name, source.tensors) for source in sources]
        if None not in stored:
            found[name] = tuple(each for each in stored if each is not None)
    shapes = {name: _common_shape(stored, sources) for name, stored in found.items()}
    matrices = _matrices(shapes)
    shared = tuple(
        SharedTensor(stored, shapes[name], name in matrices) for name, stored in found.items()
    )
    shortened = {
        name: shapes[name][0]
        for name, stored in found.items()
        if any(s.tensors[n].shape != shapes[name] for s, n in _pairs(stored, sources))
    }
    return SharedTensors(shared, _left_out(names, found, sources), shortened)


def _pairs(
    stored: tuple[str, ...], sources: Sequence[SourceModel]
) -> list[tuple[SourceModel, str]]:
    return list(zip(sources, stored, strict=True))


def _names(sources: Sequence[SourceModel]) -> list[str]:
    """The first model's tensors, with an output head if that of any model is its own."""
    names = list(sources[0].tensors)
    head, embedding = head_name(names), embedding_name(names)
    untied = next((model for model in sources if not model.tied), None)
    if untied is None and head is not None and embedding is not None:
        names.remove(head)
    elif untied is not None and head is None:
        names += [name for name in (head_name(untied.tensors),) if name is not None]
    return names


def _common_shape(stored: tuple[str, ...], sources: Sequence[SourceModel]) -> tuple[int, ...]:
    shapes = [source.tensors[name].shape for source, name in _pairs(stored, sources)]
    return (min(s[0] for s in shapes), *shapes[0][1:]) if shapes[0] else ()


def _matrices(shapes: Mapping[str, tuple[int, ...]]) -> set[str]:
    """Matrices inside of layers; where there are none all matrices, else all tensors."""
    matrices = {name for name, shape in shapes.items() if len(shape) > 1}
    return {name for name in matrices if layer_of(name) is not None} or matrices or {*shapes}


def _left_out(
    names: list[str], found: Mapping[str, tuple[str, ...]], sources: Sequence[SourceModel]
) -> tuple[str, ...]:
    lost = [name for name in names if name not in found]
    for source in sources:
        lost += [
            name
            for name in source.tensors
            if stored_name(name, names) is None and name not in lost
        ]
    return tuple(lost)


def _dtype_problems(name: str, source: SourceModel) -> list[str]:
    wrong = [info for info in source.tensors.values() if info.dtype not in FLOAT_BYTES]
    if not wrong:
        return []
    return [
        f"{name}: {wrong[0].name} is {wrong[0].dtype}; only {', '.join(FLOAT_BYTES)} can be "
        "compared, so give the model as it was before quantization."
    ]


def _problems(
    name: str, source: SourceModel, reference: str, expected: SourceModel
) -> list[str]:
    """Why a model is of another architecture than the reference, in one message."""
    ours, theirs = expected.tensors, source.tensors
    stored = {tensor: stored_name(tensor, theirs) for tensor in ours}
    shared = {tensor: found for tensor, found in stored.items() if found is not None}
    stacks = {s: n for s, n in layer_stacks(theirs).items() if s in layer_stacks(ours)}
    for stack, count in stacks.items():
        if count != layer_stacks(ours)[stack]:
            return [
                f"{name}: has {count} layers, {reference} has {layer_stacks(ours)[stack]}; "
                "models of one architecture can be compared."
            ]
    for tensor, found in shared.items():
        if not _comparable(tensor, ours[tensor].shape, theirs[found].shape):
            return [
                f"{name}: {found} has shape {list(theirs[found].shape)}, in {reference} it is "
                f"{list(ours[tensor].shape)}; models of one architecture can be compared."
            ]
    entries = sum(ours[tensor].entries for tensor in shared)
    if entries <= _LEAST_SHARED * sum(info.entries for info in ours.values()):
        return [
            f"{name}: has {len(shared)} of the {len(ours)} tensors of {reference}; models of "
            "one architecture can be compared."
        ]
    return []


def _comparable(name: str, ours: tuple[int, ...], theirs: tuple[int, ...]) -> bool:
    by_token = head_name([name]) or embedding_name([name]) or is_vocabulary_bias(name)
    return ours == theirs or (bool(by_token) and bool(ours) and ours[1:] == theirs[1:])
