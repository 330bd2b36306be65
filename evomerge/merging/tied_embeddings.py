"""Tied embeddings, decided by the tensors that exist and not by what the config claims.

A language model whose output head shares the input embedding stores one tensor. Fine-tunes
of one base may differ in this, so a missing head is read as the embedding.
"""

from collections.abc import Collection, Iterable

_HEADS = ("lm_head.weight", "embed_out.weight")
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight")


def _ending(names: Iterable[str], endings: tuple[str, ...]) -> str | None:
    return next((n for n in names if any(n == e or n.endswith("." + e) for e in endings)), None)


def head_name(names: Iterable[str]) -> str | None:
    """The name of the output head among tensor names, or None."""
    return _ending(names, _HEADS)


def embedding_name(names: Iterable[str]) -> str | None:
    """The name of the input embedding among tensor names, or None."""
    return _ending(names, _EMBEDDINGS)


def stored_name(name: str, names: Collection[str]) -> str | None:
    """Under which of ``names`` the tensor ``name`` is stored, ties followed; None: nowhere.

    A missing head is the embedding; a missing embedding is the head, since some writers keep
    the head of a tied pair.
    """
    if name in names:
        return name
    if head_name([name]):
        return embedding_name(names)
    if embedding_name([name]):
        return head_name(names)
    return None
