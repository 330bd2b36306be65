"""Turns the AG-News file into questions about the topic of a news article."""

from __future__ import annotations

import csv
import html
import random
import re
from pathlib import Path

from items import Item, SeenTexts, Sizes, Splits, cut

CHOICES = ("World", "Sports", "Business", "Technology")
LONGEST = 38
"""Words of title and description together; about 70 tokens with the prompt."""

LONGEST_CHARACTERS = 240


def tidy(text: str) -> str:
    """Undo the file's escapes: backslashes for line breaks, `` #36;`` for ``$``."""
    text = text.replace("\\", " ")
    text = re.sub(r" ?(?<![&\w])(#\d+|quot|amp|lt|gt);", r"&\1;", text)
    text = re.sub(r"<[^>]*>", " ", html.unescape(html.unescape(text)))
    return re.sub(r"\s+", " ", text).strip()


def shorten(text: str, words: int, characters: int) -> str:
    """Keep whole words up to both limits."""
    kept: list[str] = []
    for word in text.split()[:words]:
        if len(" ".join([*kept, word])) > characters:
            break
        kept.append(word)
    return " ".join(kept)


def read(file: Path) -> list[tuple[Item, tuple[str, str]]]:
    """Read ``class,title,description`` rows as items with their two full texts."""
    with file.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.reader(lines))
    found = []
    for number, (topic, raw_title, raw_description) in enumerate(rows, start=1):
        title, description = tidy(raw_title), tidy(raw_description)
        article = shorten(f"{title}. {description}", LONGEST, LONGEST_CHARACTERS)
        item = Item(
            id=f"{file.stem}-{number}",
            context=f"Article: {article}\nTopic:",
            choices=CHOICES,
            label=int(topic) - 1,
        )
        found.append((item, (title, description)))
    return found


def splits(folder: Path, sizes: Sizes, seed: int) -> Splits:
    """All splits from ``test.csv``.

    An article whose title or description shares eight words in a row with an earlier
    one is left out, so updated versions of one story do not meet.
    """
    rng = random.Random(seed)
    articles = read(folder / "test.csv")
    rng.shuffle(articles)
    seen = SeenTexts()
    kept = [item for item, texts in articles if seen.is_new(texts)]
    search, validation, test, train = cut(kept, sizes)
    return Splits(train=train, search=search, validation=validation, test=test)
