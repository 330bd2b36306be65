"""Model cards: what was merged, how, and what it scored, as the README of an export."""

import re
from collections.abc import Mapping
from typing import Any

import yaml

from evomerge.core.recipe import Recipe
from evomerge.merging.operators.registry import operator

_UNSAFE = str.maketrans({"|": "\\|", "\n": " ", "<": "&lt;", ">": "&gt;"})


_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
"""What the hub accepts as a model's name; a local folder in its place would be refused."""


def model_card(
    recipe_yaml: str, recipe: Recipe, scores: Mapping[str, Mapping[str, str]]
) -> str:
    """Markdown with the front matter by which the hub lists a merge.

    Args:
        recipe_yaml: The recipe as text, to be shown whole.
        recipe: The same recipe.
        scores: By row (a task, say), by column (model or estimate), text to show.
    """
    on_the_hub = [s.model for s in recipe.sources if _HUB_ID.fullmatch(s.model)]
    front: dict[str, Any] = {"base_model": on_the_hub} if on_the_hub else {}
    front |= {"library_name": "transformers", "tags": ["evomerge", "merge"]}
    operators = [operator(name) for name in dict.fromkeys(r.operator for r in recipe.rules)]
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---",
        "# Merged model",
        "Merged by evomerge. The recipe below makes the same weights again.",
        "## Source models",
        _table(
            ("name", "model", "role"),
            [
                (s.name, s.model, "base" if s.name == recipe.base else "source")
                for s in recipe.sources
            ],
        ),
        "## Method",
        _table(
            ("operator", "what it does", "paper"),
            [(found.name, found.summary, found.paper) for found in operators],
        ),
        *_scores(scores),
        "## Recipe",
        f"{_fence(recipe_yaml)}yaml\n{recipe_yaml.rstrip()}\n{_fence(recipe_yaml)}",
    ]
    return "\n\n".join(parts) + "\n"


def _scores(scores: Mapping[str, Mapping[str, str]]) -> list[str]:
    if not scores:
        return []
    columns = list(dict.fromkeys(column for row in scores.values() for column in row))
    rows = [
        (name, *(row.get(column, "") for column in columns)) for name, row in scores.items()
    ]
    return ["## Scores", _table(("", *columns), rows)]


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(
        "| " + " | ".join(str(cell).translate(_UNSAFE) for cell in line) + " |"
        for line in lines
    )


def _fence(text: str) -> str:
    longest = max(map(len, re.findall("`+", text)), default=0)
    return "`" * max(3, longest + 1)
