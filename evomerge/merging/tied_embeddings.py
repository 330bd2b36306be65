"""Tensors found under another name: ties, copies, prefixes, told by the tensors that exist.

A language model whose output head shares the input embedding stores one tensor. Fine-tunes
of one base may differ in this, so a missing head is read as the embedding. The names are
those that model code gives heads and embeddings; what precedes them does not matter.
"""

from collections.abc import Collection, Iterable

_HEADS = (
    "lm_head.weight",
    "embed_out.weight",
    "predictions.decoder.weight",
    "lm_head.decoder.weight",
)
_EMBEDDINGS = (
    "shared.weight",
    "embed_tokens.weight",
    "wte.weight",
    "word_embeddings.weight",
    "tok_embeddings.weight",
    "embed_in.weight",
)
_STACK_EMBEDDINGS = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
_SHARED = "shared.weight"
_BIAS_COPY, _BIAS = ".decoder.bias", ".bias"
_BIASES = (
    "predictions.bias",
    "lm_head.bias",
    "predictions.decoder.bias",
    "lm_head.decoder.bias",
)


def _ending(names: Iterable[str], endings: tuple[str, ...]) -> str | None:
    """The name with the earliest of the endings; of several, the first."""
    found = [n for n in names if n.endswith(endings)]
    whole = ((n, e) for e in endings for n in found if n == e or n.endswith("." + e))
    return next((n for n, _ in whole), None)


def head_name(names: Iterable[str]) -> str | None:
    """The name of the output head among tensor names, or None."""
    return _ending(names, _HEADS)


def embedding_name(names: Iterable[str]) -> str | None:
    """The name of the input embedding among tensor names, or None.

    Where an encoder and a decoder share one, the shared one.
    """
    return _ending(names, _EMBEDDINGS)


def is_vocabulary_bias(name: str) -> bool:
    """Whether the tensor is a bias with one entry a token, beside an output head."""
    return _ending([name], _BIASES) is not None


def copied_name(name: str, names: Collection[str]) -> str | None:
    """Which other of ``names`` the tensor ``name`` repeats by its model's construction.

    An encoder's and a decoder's embeddings repeat the shared one; the bias inside of an
    output head repeats the one beside it.
    """
    if _ending([name], _STACK_EMBEDDINGS) is not None:
        shared = _ending(names, (_SHARED,))
        return shared if shared != name else None
    if name.endswith(_BIAS_COPY):
        beside = name.removesuffix(_BIAS_COPY) + _BIAS
        return beside if beside in names else None
    return None


def stored_name(name: str, names: Collection[str]) -> str | None:
    """Under which of ``names`` the tensor ``name`` is stored, ties followed; None: nowhere.

    A missing head is the embedding; a missing embedding is the head, since some writers keep
    the head of a tied pair. Where neither helps, one more or one less part at the front is
    allowed for: models are saved with and without the task's prefix (``transformer.h.0.…``).
    """
    if name in names:
        return name
    if head_name([name]):
        return embedding_name(names)
    copied = copied_name(name, names)
    if copied is None and embedding_name([name]):
        return embedding_name(names) or head_name(names)
    return copied or _with_other_front(name, names)


def _with_other_front(name: str, names: Collection[str]) -> str | None:
    shorter = name.partition(".")[2]
    if shorter in names:
        return shorter
    fronts = dict.fromkeys(other.partition(".")[0] for other in names)
    return next((f"{front}.{name}" for front in fronts if f"{front}.{name}" in names), None)
