"""Packed choices: all continuations of a context in one row of one forward pass.

A row holds its context once and behind it the continuations as a tree of tokens, in which a
common beginning is one branch. A token sees the context and its own ancestors only, and stands
at the position that it has when its continuation follows the context alone. The last token of
a continuation is predicted, never read, so that one-token continuations need no column at all.
Contexts are padded on the left: every row's tree begins in the same column, and the output
head works on that column's predecessor and the tree, not on the context.
"""

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate

import torch
import transformers

from evomerge.fitness.batch_plan import Limits, batches
from evomerge.fitness.prefix_forward import PrefixForward

Tokens = tuple[int, ...]
"""Token ids."""

LogLikelihood = tuple[float, bool]
"""A continuation's log-likelihood in nats, and whether each token was the likeliest one."""

_LOGITS_IN_A_PASS = 2**26
"""Bounds a batch where the vocabulary is large; in float32, 256 MB."""

_LOGITS_AT_ONCE = 2**23
"""Normalised together, in float32."""

_TREE = 256
"""Tokens of continuations that may share a row however short their context is."""

_LIMITS = (
    "sliding_window",
    "sliding_window_size",
    "window_size",
    "attention_window_size",
    "attention_chunk_size",
    "max_position_embeddings",
    "n_positions",
)
"""Names in configurations for how far back some layer looks, or how long its masks are."""

_COLUMNS_A_PASS = {"cpu": 25}
"""What reading all weights costs, in columns computed, by device: a property of the machine,
measured with 1 and 135 million parameters in float32 and bfloat16 (25 to 38)."""

_COLUMNS_A_PASS_ELSEWHERE = 300
"""For accelerators: their operations in the time in which they read two bytes."""

_CALLS = 1.2e7
"""Parameters whose use for one column takes the time in which a layer's calls are made."""

_LAYERS = {"full_attention", "sliding_attention", "chunked_attention"}
"""Kinds of layers that obey a mask given from outside."""


@dataclass(frozen=True, eq=False)
class PackedItem:
    """One context with the tree of its continuations.

    Position 0 is the context's last token, position k + 1 is node k.
    """

    context: Tokens
    nodes: Tokens
    """The tree's tokens, parents before children."""

    depths: Tokens
    """Ancestors of each node."""

    visible: torch.Tensor
    """``(nodes, nodes)`` booleans: row k is true at node k and its ancestors."""

    paths: tuple[Tokens, ...]
    """For each continuation, the positions that predict its tokens."""

    continuations: tuple[Tokens, ...]

    @property
    def columns(self) -> int:
        """Tokens in the row."""
        return len(self.context) + len(self.nodes)


def packed_items(
    context: Tokens, continuations: Sequence[Tokens], longest_row: float
) -> list[PackedItem]:
    """Lay out one context and its continuations, in several rows where they are many.

    Attention compares all columns of a row with each other, so that a tree much larger than
    its context costs more than reading the context again.

    Args:
        context: At least one token.
        continuations: None of them empty.
        longest_row: Most columns of a row; a continuation may exceed it alone.

    Returns:
        Items whose continuations, one after the other, are those given.
    """
    most = min(max(_TREE, len(context)), longest_row - len(context))
    rows: list[list[Tokens]] = [[]]
    nodes = 0
    for continuation in continuations:
        nodes += len(continuation) - 1
        if rows[-1] and nodes > most:
            rows.append([])
            nodes = len(continuation) - 1
        rows[-1].append(continuation)
    return [packed_item(context, tuple(row)) for row in rows]


def packed_item(context: Tokens, continuations: tuple[Tokens, ...]) -> PackedItem:
    """Lay out one context and its continuations, none of them empty."""
    known: dict[tuple[int, int], int] = {}
    parents: list[int] = []
    depths = [0]
    paths = []
    for continuation in continuations:
        position, path = 0, [0]
        for token in continuation[:-1]:
            if (position, token) not in known:
                parents.append(position)
                depths.append(depths[position] + 1)
                known[position, token] = len(parents)
            position = known[position, token]
            path.append(position)
        paths.append(tuple(path))
    visible = torch.eye(len(parents), dtype=torch.bool)
    for node, parent in enumerate(parents):
        if parent:
            visible[node] |= visible[parent - 1]
    nodes = tuple(token for _, token in known)
    below = tuple(depth - 1 for depth in depths[1:])
    return PackedItem(context, nodes, below, visible, tuple(paths), continuations)


class PackedChoices:
    """Scores packed items with a causal language model.

    Args:
        model: In evaluation mode, on the device where it is to run. ``why_not`` must know
            nothing against it.
        batch_size: Rows of the longest item in a forward pass; of shorter ones as many more
            as fill the same space.
        logits: Gives the model's logits for its inputs; by default the model itself does.
    """

    def __init__(
        self,
        model: transformers.PreTrainedModel,
        batch_size: int,
        logits: Callable[..., torch.Tensor] | None = None,
    ) -> None:
        self._model = model
        self._logits = logits or PrefixForward(model, 0).logits
        self.longest_row = longest_row(model)
        """The most columns that an item may have."""
        outputs = _LOGITS_IN_A_PASS // model.config.get_text_config().vocab_size
        self._limits = Limits(batch_size, self.longest_row, outputs, _pass_cost(model))
        self._keeps = "logits_to_keep" in inspect.signature(model.forward).parameters

    def loglikelihoods(self, items: Sequence[PackedItem]) -> list[list[LogLikelihood]]:
        """For each item, each continuation's log-likelihood after the context.

        Log-likelihoods are normalised and summed in float32 or better, whatever the model's
        own dtype.
        """
        answers: list[list[LogLikelihood]] = [[] for _ in items]
        shapes = tuple((len(item.context), len(item.nodes)) for item in items)
        for batch in batches(shapes, self._limits):
            chosen = [items[k] for k in batch]
            for k, answer in zip(batch, self._batch(chosen), strict=True):
                answers[k] = answer
        return answers

    @torch.no_grad()
    def _batch(self, items: Sequence[PackedItem]) -> list[list[LogLikelihood]]:
        model = self._model
        tokens, positions, visible = layout(items)
        mask = torch.zeros(visible.shape, dtype=model.dtype)
        mask.masked_fill_(~visible, torch.finfo(model.dtype).min)
        tree = max(len(item.nodes) for item in items)
        with _whole_rows_to(model.get_output_embeddings()):
            logits = self._logits(
                input_ids=tokens,
                attention_mask=mask,
                position_ids=positions,
                use_cache=False,
                **({"logits_to_keep": tree + 1} if self._keeps else {}),
            )
        return _read(logits[:, -(tree + 1) :], items)


@contextmanager
def _whole_rows_to(head: torch.nn.Module | None) -> Iterator[None]:
    """Copy the columns that a head reads out of their rows first.

    In bfloat16 on CPUs, torch 2.13 takes a hundred times as long for a part of a tensor.
    """
    if head is None:
        yield
        return
    handle = head.register_forward_pre_hook(
        lambda _, inputs: tuple(given.contiguous() for given in inputs)
    )
    try:
        yield
    finally:
        handle.remove()


def _read(logits: torch.Tensor, items: Sequence[PackedItem]) -> list[list[LogLikelihood]]:
    """Log-likelihoods from ``(rows, tree + 1, vocabulary)`` logits."""
    counts = [len(item.nodes) + 1 for item in items]
    first = [0, *accumulate(counts)]
    rows = [row for row, count in enumerate(counts) for _ in range(count)]
    columns = [column for count in counts for column in range(count)]
    pairs = [
        (start + position, token)
        for start, item in zip(first, items, strict=False)
        for path, continuation in zip(item.paths, item.continuations, strict=True)
        for position, token in zip(path, continuation, strict=True)
    ]
    at = torch.tensor(pairs, device=logits.device).T
    flat = logits[rows, columns]
    best = flat.argmax(dim=-1)[at[0]] == at[1]
    scores = _normalised(flat, at[0], at[1])
    values, likeliest = scores.tolist(), best.tolist()
    answers: list[list[LogLikelihood]] = []
    done = 0
    for item in items:
        answers.append([])
        for path in item.paths:
            end = done + len(path)
            answers[-1].append((sum(values[done:end]), all(likeliest[done:end])))
            done = end
    return answers


def _normalised(
    logits: torch.Tensor, positions: torch.Tensor, tokens: torch.Tensor
) -> torch.Tensor:
    """``(pairs,)`` log-probabilities of tokens at positions of ``(positions, vocabulary)``."""
    at_once = max(1, _LOGITS_AT_ONCE // logits.shape[1])
    totals = [part.float().logsumexp(dim=-1) for part in torch.split(logits, at_once)]
    return logits[positions, tokens].float() - torch.cat(totals)[positions]


def layout(items: Sequence[PackedItem]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """One row an item: its padded context, then its tree.

    Returns:
        Token ids and positions ``(rows, columns)``, and ``(rows, 1, columns, columns)``
        booleans that tell which columns a column sees. Padding sees only itself.
    """
    width = max(len(item.context) for item in items)
    tree = max(len(item.nodes) for item in items)
    size = width + tree
    pads = torch.tensor([width - len(item.context) for item in items])
    tokens = torch.zeros(len(items), size, dtype=torch.long)
    column = torch.arange(size)
    positions = (column - pads[:, None]).clamp(min=0)
    positions[:, width:] = 0
    visible = (column[None, :] <= column[:, None]) & (column < width)
    visible = visible & (column >= pads[:, None])[:, None, :]
    for row, item in enumerate(items):
        start, end = width - len(item.context), width + len(item.nodes)
        tokens[row, start:end] = torch.tensor(item.context + item.nodes)
        positions[row, width:end] = len(item.context) + torch.tensor(item.depths)
        visible[row, width:end, width:end] = item.visible
    visible |= torch.eye(size, dtype=torch.bool)
    return tokens, positions, visible[:, None]


def why_not(model: transformers.PreTrainedModel) -> str | None:
    """What is known to keep a model from taking packed rows, or None.

    None is no promise: what a model does with a mask and positions shows in its answers.
    """
    config = model.config.get_text_config()
    attention = getattr(config, "_attn_implementation", None)
    parameters = inspect.signature(model.forward).parameters
    if "position_ids" not in parameters or "attention_mask" not in parameters:
        return f"{type(model).__name__} takes no position_ids and attention_mask"
    if attention not in ("sdpa", "eager"):
        return f"its attention is {attention}, which takes no mask of its own for each row"
    others = set(getattr(config, "layer_types", None) or ()) - _LAYERS
    if others:
        return f"it has layers of another kind than attention: {', '.join(sorted(others))}"
    return None


def _pass_cost(model: transformers.PreTrainedModel) -> int:
    """Columns that take as long as it takes to begin a forward pass."""
    reading = _COLUMNS_A_PASS.get(model.device.type, _COLUMNS_A_PASS_ELSEWHERE)
    layers = getattr(model.config.get_text_config(), "num_hidden_layers", 0)
    return reading + int(_CALLS * layers / max(1, model.num_parameters()))


def longest_row(model: transformers.PreTrainedModel) -> float:
    """The most columns in which every layer sees everything before it, infinite if any."""
    config = model.config.get_text_config()
    limits = [getattr(config, name, None) for name in _LIMITS]
    return min((n for n in limits if isinstance(n, int) and n > 0), default=math.inf)
