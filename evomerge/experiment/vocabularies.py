"""Sources whose tokenizers differ, made to fit as the user chose."""

from collections.abc import Mapping

from evomerge.core.recipe import UNION
from evomerge.merging.aligned_model import align_tokens
from evomerge.merging.compatibility import check_tensors, check_vocabularies
from evomerge.merging.source_model import SourceModel
from evomerge.merging.tied_embeddings import embedding_name

ERROR, BASE_ROWS = "error", "base"
"""Policies for tokenizers that differ, beside ``union`` and the name of a source: refuse;
take the reference's tokenizer."""

POLICIES = (ERROR, BASE_ROWS, UNION)


def merged_tokenizer(
    policy: str, sources: Mapping[str, SourceModel], reference: str
) -> str | None:
    """By which tokenizer sources are aligned token by token; None: row by row.

    Rows of the reference have a counterpart where embeddings have equally many; where they
    do not, tokens have.
    """
    if policy == ERROR:
        return None
    if policy != BASE_ROWS:
        return policy
    names = [(source, embedding_name(source.tensors)) for source in sources.values()]
    rows = {source.tensors[name].shape[0] for source, name in names if name is not None}
    return reference if len(rows) > 1 else None


def fitted(
    sources: Mapping[str, SourceModel],
    reference: str,
    base: str | None,
    policy: str,
    tokenizer: str | None,
) -> tuple[dict[str, SourceModel], list[str]]:
    """The sources, of one vocabulary if they are to have one, and why they do not fit.

    Args:
        sources: Opened source models by name.
        reference: The one whose tensors the merged model has.
        base: The base model, if there is one.
        policy: One of ``POLICIES``, or the name of a source.
        tokenizer: By which tokens are aligned; None: they are not.

    Raises:
        CheckpointError: A tokenizer cannot be read or extended.
    """
    found = dict(sources)
    if tokenizer is not None:
        found = align_tokens(sources, tokenizer, base)
    compared = {reference: found[reference]} if policy == BASE_ROWS else found
    return found, check_tensors(found, reference) + check_vocabularies(compared, reference)
