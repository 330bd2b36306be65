"""Custom tasks: item banks of what is no lm-eval task, known by item numbers alone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from evomerge.core.digest import digest
from evomerge.core.errors import TrialError
from evomerge.core.responses import ItemResponses
from evomerge.core.streams import stream
from evomerge.fitness.custom_values import item_responses, whole_responses, whole_score
from evomerge.fitness.item_bank import SPLITS, ItemBank, divide

STAND_INS = 16
"""Items a split of a task that has one score for the whole; even, see ``whole_responses``."""


@dataclass(frozen=True)
class CustomTask:
    """A task whose items are numbers that only the user's own code gives a meaning."""

    name: str
    bank: ItemBank
    metrics: Mapping[str, bool]
    """Metrics in the order of the experiment file. Which way is better the objectives say;
    here higher is."""


@dataclass(frozen=True)
class CustomItems:
    """The items of a custom task as the user gives them."""

    count: int | Mapping[str, int] | None = None
    """How many there are, to be divided at random; or how many of each split, numbered one
    split after the other; None for a task that is scored as a whole."""

    metrics: tuple[str, ...] = ("score",)


def custom_bank(name: str, definition: Any, items: CustomItems, seed: int) -> ItemBank:  # noqa: ANN401 - anything JSON can hold
    """The item bank of a custom task.

    Args:
        name: The task's.
        definition: Everything that decides a score besides model and item, as plain JSON.
        items: How many, and what is measured on each.
        seed: Decides a random division into splits, and nothing else.
    """
    count = items.count
    whole = count is None
    if isinstance(count, int):
        splits = divide([str(item) for item in range(count)], stream(seed, "splits", name))
    else:
        sizes = dict.fromkeys(SPLITS, STAND_INS) if count is None else count
        ends = list(accumulate(sizes[split] for split in SPLITS))
        splits = {
            split: tuple(range(end - sizes[split], end))
            for split, end in zip(SPLITS, ends, strict=True)
        }
    given = dict(count) if isinstance(count, Mapping) else count
    asked = {"definition": definition, "items": given, "metrics": list(items.metrics)}
    return ItemBank(
        task=name,
        version=digest(asked),
        count=sum(map(len, splits.values())),
        splits=splits,
        whole=whole,
    )


def scored(
    task: CustomTask,
    items: Sequence[int],
    ask: Callable[[tuple[int, ...] | str], Any],
    identity: str,
) -> ItemResponses:
    """A task's responses to items, from what the user's code hands back.

    A task that is scored as a whole is asked for the splits that hold the items, and has
    responses to all items of these.

    Args:
        task: The task.
        items: What is wanted.
        ask: Calls the user's code for items, or for a split of a task scored as a whole.
        identity: Of the model; two models' measurements have independent errors.

    Raises:
        TrialError: What came back is no score.
    """
    metrics = tuple(task.metrics)
    try:
        if not task.bank.whole:
            return item_responses(ask(tuple(items)), items, metrics)
        answered = ItemResponses((), {})
        for split in (split for split in SPLITS if {*items} & {*task.bank.items(split)}):
            scores = whole_score(ask(split), metrics)
            signs = stream(0, "whole score", task.name, split, identity)
            answered = answered.joined(whole_responses(scores, task.bank, split, signs))
    except TrialError as error:
        raise TrialError(f"task {task.name}: {error}.") from error
    return answered
