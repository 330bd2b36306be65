"""Turns the SVAMP file into number questions, split so that no story is shared."""

from __future__ import annotations

import json
import math
import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from items import Item, Sizes, Splits

SAME_STORY = 0.4
"""Shared word weight from which two bodies count as variants of one story."""

LARGEST = 9999
DISTRACTORS = 3
NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class Problem:
    """One word problem."""

    id: str
    text: str
    body: str
    equation: tuple[str, ...]
    """Tokens: brackets, operators, whole numbers."""

    answer: int

    @property
    def operands(self) -> tuple[int, ...]:
        """The numbers of the equation in their order."""
        return tuple(int(token) for token in self.equation if token.isdigit())

    @property
    def numbers(self) -> tuple[int, ...]:
        """The numbers of the text in their order, each once."""
        return tuple(dict.fromkeys(int(found) for found in NUMBER.findall(self.text)))


def evaluate(equation: Sequence[str]) -> int | None:
    """Value of a bracketed equation, None where it is not a whole number from 0 on."""
    values: list[Fraction] = []
    operators: list[str] = []
    for token in equation:
        if token in "+-*/":
            operators.append(token)
        elif token == ")" and operators:
            right, left = values.pop(), values.pop()
            operator = operators.pop()
            if operator == "/" and right == 0:
                return None
            values.append(
                {"+": left + right, "-": left - right, "*": left * right}[operator]
                if operator != "/"
                else left / right
            )
        elif token not in "()":
            values.append(Fraction(token))
    (value,) = values
    return int(value) if value.denominator == 1 and value >= 0 else None


def read(file: Path) -> list[Problem]:
    """Read the problems whose equation gives the stated answer, up to four digits."""
    problems = []
    for row in json.loads(file.read_text(encoding="utf-8")):
        body = row["Body"].strip()
        asked = row["Question"].strip()
        whole = body.endswith((".", "?", "!"))
        joined = f"{body} {asked}" if whole else f"{body}, {asked[0].lower()}{asked[1:]}"
        equation = tuple(re.sub(r"(\d+)\.0\b", r"\1", row["Equation"]).split())
        answer = evaluate(equation)
        if answer is not None and answer == row["Answer"] and answer <= LARGEST:
            text = re.sub(r"\s+", " ", joined)
            problems.append(Problem(row["ID"], text, body, equation, answer))
    return problems


def by_story(problems: Sequence[Problem]) -> list[list[Problem]]:
    """Group problems told about the same story.

    Two bodies are linked when the rarity-weighted share of their common words reaches
    ``SAME_STORY`` (numbers left out); a group is everything linked directly or through
    others.
    """
    words = [frozenset(re.findall(r"[a-z]+", p.body.lower())) for p in problems]
    seen_in = Counter(word for bag in words for word in bag)
    weight = {word: math.log(len(problems) / count) for word, count in seen_in.items()}
    group = list(range(len(problems)))
    for right in range(len(problems)):
        for left in range(right):
            if group[left] == group[right]:
                continue
            shared = sum(weight[word] for word in sorted(words[left] & words[right]))
            either = sum(weight[word] for word in sorted(words[left] | words[right]))
            if shared >= SAME_STORY * either:
                old, new = group[right], group[left]
                group = [new if member == old else member for member in group]
    stories: dict[int, list[Problem]] = {}
    for member, problem in zip(group, problems, strict=True):
        stories.setdefault(member, []).append(problem)
    return list(stories.values())


def other_results(left: int, right: int) -> list[int]:
    """What the four operations make of two numbers, in a fixed order."""
    larger, smaller = max(left, right), min(left, right)
    results = [larger + smaller, larger - smaller, larger * smaller]
    if smaller and larger % smaller == 0:
        results.append(larger // smaller)
    return results


def distractors(problem: Problem) -> tuple[int, ...]:
    """Three wrong answers a careless reader could give, all different.

    They come from another operation on the equation's numbers, from wrong numbers of
    the text or from copying one; slips by a few or by 10 fill up. How many should lie
    below the answer is drawn first, so that size tells little, and one slip may serve
    that.
    """
    rng = random.Random(problem.id)
    first, *rest = problem.operands
    numbers = problem.numbers
    pairs = [(a, b) for at, a in enumerate(numbers) for b in numbers[at + 1 :]]
    wrong_operation = [r for other in rest for r in other_results(first, other)]
    wrong_numbers = [r for a, b in pairs for r in other_results(a, b)[:2]]
    wrong_numbers.extend(numbers)
    slips = [problem.answer + step for step in (1, 10, 2, -1, -10, -2)]
    for pool in (wrong_operation, wrong_numbers, slips):
        rng.shuffle(pool)
    misread = _usable([*wrong_operation, *wrong_numbers], problem.answer)
    slips = [slip for slip in _usable(slips, problem.answer) if slip not in misread]
    wanted = rng.randint(0, DISTRACTORS)
    below = [value for value in misread if value < problem.answer][:wanted]
    above = [value for value in misread if value > problem.answer]
    above = above[: DISTRACTORS - wanted]
    lacking = wanted - len(below)
    one_slip = [slip for slip in slips if (slip < problem.answer) == (lacking > 0)][:1]
    order = dict.fromkeys([*below, *above, *one_slip, *misread, *slips])
    return tuple(order)[:DISTRACTORS]


def _usable(values: Sequence[int], answer: int) -> list[int]:
    """Different values in range, without the answer."""
    return [v for v in dict.fromkeys(values) if v != answer and 0 <= v <= LARGEST]


def item(problem: Problem) -> Item:
    """The question with four choices in rising order.

    Each choice ends in a full stop, so that no choice is the beginning of another and
    short numbers are not favoured.
    """
    values = sorted((problem.answer, *distractors(problem)))
    return Item(
        id=problem.id,
        context=f"Question: {problem.text}\nAnswer:",
        choices=tuple(f"{value}." for value in values),
        label=values.index(problem.answer),
    )


def retold(problem: Problem, rng: random.Random) -> Problem:
    """The same problem with other numbers of as many digits.

    Numbers below 3 stay, because the grammar hangs on them. A problem whose numbers
    are not all different, or not all in the text, stays as it is.
    """
    in_text = NUMBER.findall(problem.text)
    plain = len(set(in_text)) == len(in_text)
    if not plain or not set(problem.operands) <= set(problem.numbers):
        return problem
    for _ in range(2000):
        new = {str(n): str(_as_long_as(n, rng)) for n in problem.numbers}
        equation = tuple(new.get(token, token) for token in problem.equation)
        answer = evaluate(equation)
        if answer is not None and 0 < answer <= LARGEST:
            parts = re.split(r"(\d+)", problem.text)
            text = "".join(new.get(part, part) for part in parts)
            return Problem(f"{problem.id}-retold", text, problem.body, equation, answer)
    return problem


def _as_long_as(number: int, rng: random.Random) -> int:
    if number <= 2:
        return number
    digits = len(str(number))
    return rng.randint(max(3, 10 ** (digits - 1)), 10**digits - 1)


def splits(folder: Path, sizes: Sizes, seed: int) -> Splits:
    """Whole stories go to test, then validation, then search, the rest to training.

    The last story of an evaluation split is cut to the split's size.
    """
    rng = random.Random(seed)
    stories = by_story(read(folder / "SVAMP.json"))
    rng.shuffle(stories)
    filled: dict[str, tuple[Item, ...]] = {}
    for name in ("test", "validation", "search"):
        wanted: int = getattr(sizes, name)
        problems: list[Problem] = []
        while len(problems) < wanted:
            if not stories:
                raise ValueError(f"No story is left for the {name} items.")
            problems += stories.pop()
        filled[name] = tuple(item(problem) for problem in problems[:wanted])
    return Splits(train=tuple(item(p) for story in stories for p in story), **filled)


def training_items(folder: Path, sizes: Sizes, seed: int, count: int) -> list[Item]:
    """Training items: each problem as printed, then retold with other numbers.

    Args:
        folder: Holds ``SVAMP.json``.
        sizes: Of the evaluation splits.
        seed: Of the splits and of the new numbers.
        count: How many items; the problems are gone through in turns.
    """
    allowed = {entry.id for entry in splits(folder, sizes, seed).train}
    problems = [p for p in read(folder / "SVAMP.json") if p.id in allowed]
    rng = random.Random(f"{seed} retold")
    rng.shuffle(problems)
    made: list[Item] = []
    while len(made) < count:
        turn = problems if not made else [retold(problem, rng) for problem in problems]
        made += [Item(p.id, f"Question: {p.text}\nAnswer:", (f"{p.answer}.",), 0) for p in turn]
    return made[:count]
