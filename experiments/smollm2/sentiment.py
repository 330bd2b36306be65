"""Turns the SST-2 files into questions about the sentiment of a film review."""

from __future__ import annotations

import csv
import random
from pathlib import Path

from items import Item, SeenTexts, Sizes, Splits, cut

CHOICES = ("negative", "positive")


def read(file: Path) -> list[Item]:
    """Read one ``sentence<TAB>label`` file; ids name the file and the line."""
    with file.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [
        Item(
            id=f"{file.stem}-{number}",
            context=f"Review: {sentence.strip()}\nSentiment:",
            choices=CHOICES,
            label=int(label),
        )
        for number, (sentence, label) in enumerate(rows, start=1)
    ]


def splits(folder: Path, sizes: Sizes, seed: int) -> Splits:
    """Evaluation items from ``test.tsv``, training items from ``train.tsv``.

    A review that shares eight words in a row with an earlier one is left out.
    """
    rng = random.Random(seed)
    seen = SeenTexts()
    held_out = read(folder / "test.tsv")
    rng.shuffle(held_out)
    held_out = [item for item in held_out if seen.is_new([item.context[8:-11]])]
    search, validation, test, _ = cut(held_out, sizes)
    train = read(folder / "train.tsv")
    rng.shuffle(train)
    return Splits(
        train=tuple(item for item in train if seen.is_new([item.context[8:-11]])),
        search=search,
        validation=validation,
        test=test,
    )
