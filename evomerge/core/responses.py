"""Item responses: what a model scored on single items of a task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class ItemResponses:
    """One model's scores on some items of one task.

    ``values[metric][k]`` belongs to item ``items[k]``; every metric has one finite value an
    item (accuracy 0 or 1, log-likelihoods in nats).
    """

    items: tuple[int, ...]
    values: Mapping[str, tuple[float, ...]]

    def only(self, items: Sequence[int]) -> "ItemResponses":
        """The responses to these items, in this order.

        Raises:
            KeyError: An item has no response.
        """
        where = {item: position for position, item in enumerate(self.items)}
        positions = [where[item] for item in items]
        return ItemResponses(
            tuple(items),
            {m: tuple(v[p] for p in positions) for m, v in self.values.items()},
        )

    def joined(self, other: "ItemResponses") -> "ItemResponses":
        """These responses and those of the other to items not answered here.

        Only metrics that both have are kept; an empty side does not count.
        """
        if not self.items:
            return other
        known = set(self.items)
        fresh = [k for k, item in enumerate(other.items) if item not in known]
        metrics = [m for m in self.values if m in other.values] if fresh else list(self.values)
        return ItemResponses(
            self.items + tuple(other.items[k] for k in fresh),
            {m: self.values[m] + tuple(other.values[m][k] for k in fresh) for m in metrics},
        )


Responses = Mapping[str, ItemResponses]
"""Item responses by task name."""

Items = Mapping[str, tuple[int, ...]]
"""Chosen item ids by task name."""
