"""lm-eval tasks made in memory: a configuration with its documents, and no file."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset

from evomerge.fitness.harness_task import Document, LmEvalTask
from evomerge.fitness.item_bank import SPLITS

BuildTask = Callable[[dict[str, Any]], LmEvalTask]
"""Makes an lm-eval task of a configuration."""


@dataclass(frozen=True)
class MemoryTask:
    """What an lm-eval task is made of."""

    name: str

    options: Mapping[str, Any]
    """Keys of an lm-eval task file: what is asked, and how it is scored."""

    documents: Mapping[str, Sequence[Document]]
    """By split: search, validation and test, or all under one other name."""

    def build(self, build: BuildTask) -> LmEvalTask:
        """The lm-eval task, with its data loaded."""
        data = {split: Dataset.from_list(list(docs)) for split, docs in self.documents.items()}
        keys = ("training_split", "validation_split", "test_split")
        divided = dict(zip(keys, SPLITS, strict=True))
        splits = divided if set(data) == set(SPLITS) else {"test_split": next(iter(data))}
        config = {
            "num_fewshot": 0,
            "target_delimiter": " ",
            "metadata": {"version": 1},
            **self.options,
            **splits,
            "task": self.name,
            "custom_dataset": lambda **_: data,
        }
        task = build(config)
        # What makes the data is no part of what the task is; its documents are.
        task.set_config("custom_dataset", None)
        return task


def mean_metrics(*names: str) -> list[dict[str, Any]]:
    """A ``metric_list`` of metrics of which more is better, averaged over items."""
    return [{"metric": n, "aggregation": "mean", "higher_is_better": True} for n in names]
