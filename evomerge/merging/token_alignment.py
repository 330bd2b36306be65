"""Which row of each source's embedding belongs to which token of the merged model.

The rules for tokens that a source lacks are mergekit's (docs of ``tokenizer``): the row of
the only source that has it, else the base's if it has it, else the mean of those that have
it; a token that nobody has is zero.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ZERO, MEAN, NO_TOKEN = -1, -2, -3
"""Where a missing row comes from, beside the place of a source: no source has the token; the
mean of those that have it; the id is no token's."""


@dataclass(frozen=True)
class TokenAlignment:
    """Rows of every source by the token ids of the merged model."""

    sources: tuple[str, ...]
    rows: Mapping[str, Sequence[int]]
    """By source: for each id the row in the source's own embedding, or -1."""

    donors: Sequence[int]
    """For each id where a source without the token takes its row from: a place among the
    sources, or one of ``ZERO``, ``MEAN`` and ``NO_TOKEN``."""

    @property
    def size(self) -> int:
        """Rows of the merged model's embedding."""
        return len(self.donors)

    def is_prefix(self, source: str) -> bool:
        """Whether the source's first rows are the merged model's, in order."""
        return all(row == token for token, row in enumerate(self.rows[source]))


def align(
    vocabularies: Mapping[str, Mapping[str, int]],
    merged: Mapping[str, int],
    base: str | None = None,
    multiple: int = 1,
) -> TokenAlignment:
    """Find every merged token in every source.

    Args:
        vocabularies: Id by token of each source, of tokens with a row in its embedding.
        merged: Id by token of the merged model.
        base: The source that gives rows to those without the token, where it has them.
        multiple: The number of rows is rounded up to a multiple of it.
    """
    names = tuple(vocabularies)
    size = 1 + max(merged.values(), default=-1)
    size = -(-size // multiple) * multiple
    rows = {name: [-1] * size for name in names}
    donors = [NO_TOKEN] * size
    for token, place in merged.items():
        having = [k for k, name in enumerate(names) if token in vocabularies[name]]
        for k in having:
            rows[names[k]][place] = vocabularies[names[k]][token]
        donors[place] = _donor(having, names.index(base) if base in names else None)
    return TokenAlignment(names, rows, donors)


def _donor(having: Sequence[int], base: int | None) -> int:
    if not having:
        return ZERO
    if len(having) == 1:
        return having[0]
    return base if base is not None and base in having else MEAN
