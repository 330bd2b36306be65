"""Lists the three experts: their data folder, their lm-eval task, how they are trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import sentiment
import stories
import topics
from items import Item, Sizes, Splits

SPLIT_SEED = 7
"""Of the splits; the same for tasks and training, whatever seed the training takes."""


@dataclass(frozen=True)
class Expert:
    """One skill: the questions that test it and the training that gives it."""

    name: str
    task: str
    folder: str
    """Name below the data folder."""

    sizes: Sizes
    make_splits: Callable[[Path, Sizes, int], Splits]
    examples: int
    """Training examples, each seen once."""

    learning_rate: float

    def splits(self, data: Path) -> Splits:
        """All items of the task."""
        return self.make_splits(data / self.folder, self.sizes, SPLIT_SEED)

    def training_items(self, data: Path, count: int) -> list[Item]:
        """Items to train on; none shares a text or a story with the task's items."""
        if self.make_splits is stories.splits:
            folder = data / self.folder
            return stories.training_items(folder, self.sizes, SPLIT_SEED, count)
        return list(self.splits(data).train[:count])


EXPERTS = {
    expert.name: expert
    for expert in (
        Expert(
            name="sst2",
            task="smol_sst2",
            folder="sst2",
            sizes=Sizes(search=300, validation=150, test=300),
            make_splits=sentiment.splits,
            examples=2400,
            learning_rate=5e-4,
        ),
        Expert(
            name="agnews",
            task="smol_agnews",
            folder="ag_news",
            sizes=Sizes(search=300, validation=150, test=300),
            make_splits=topics.splits,
            examples=1200,
            learning_rate=5e-4,
        ),
        Expert(
            name="svamp",
            task="smol_svamp",
            folder="svamp",
            sizes=Sizes(search=200, validation=100, test=250),
            make_splits=stories.splits,
            examples=4000,
            learning_rate=1e-3,
        ),
    )
}
