"""Contestants of a comparison: an optimizer with options, as one word of the command line."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from evomerge.core.errors import ConfigError
from evomerge.core.streams import derived_seed
from evomerge.optimizers.contract import Optimizer
from evomerge.optimizers.registry import check_options, make_optimizer
from evomerge.optimizers.search_problem import SearchProblem
from evomerge.recipes.yaml_text import YamlError, load_yaml

INITIAL = "initial"
"""Not an option of an optimizer: whether it is given the encoded baselines to begin with."""


@dataclass(frozen=True)
class Contestant:
    """An optimizer with options."""

    label: str
    """As it was named."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    initial: bool = True
    """Whether it is given the encoded baselines to begin with, as every search is."""

    @property
    def folder(self) -> str:
        """The label as a folder's name."""
        return re.sub(r"[^\w.=-]+", "_", self.label)

    def optimizer(self, problem: SearchProblem) -> Optimizer:
        """A fresh one, seeded as an experiment with the problem's seed would."""
        own = replace(
            problem,
            seed=derived_seed(problem.seed, "optimizer", self.name),
            initial=problem.initial if self.initial else (),
        )
        return make_optimizer(self.name, self.options, own)

    def problems(self, genes: int, objectives: int) -> list[str]:
        """Why it cannot search such a space, one message each."""
        return [
            f"--optimizers {self.label}: {problem.removeprefix('optimizer.name: ')}"
            for problem in check_options(self.name, self.options, genes, objectives)
        ]


def read_contestants(given: Sequence[str]) -> tuple[Contestant, ...]:
    """Contestants from words such as ``cma_es`` or ``nsga2:population=12:initial=false``.

    Raises:
        ConfigError: None is given, one stands twice, or an option has no value.
    """
    problems: list[str] = []
    found: list[Contestant] = []
    for word in given:
        name, *assignments = word.split(":")
        options: dict[str, Any] = {}
        for assignment in assignments:
            key, equals, text = assignment.partition("=")
            if not key or not equals:
                problems.append(
                    f"--optimizers {word}: expected NAME:OPTION=VALUE, found {assignment!r}."
                )
                continue
            try:
                options[key] = load_yaml(text)
            except YamlError as error:
                problems.append(f"--optimizers {word}: {text!r} is no YAML value: {error}.")
        initial = options.pop(INITIAL, True)
        if not isinstance(initial, bool):
            problems.append(f"--optimizers {word}: initial is true or false, not {initial!r}.")
        if any(each.label == word for each in found):
            problems.append(f"--optimizers {word}: named twice.")
        found.append(Contestant(word, name, options, bool(initial)))
    if not found:
        problems.append("--optimizers: none named; give at least one, e.g. cma_es,random.")
    if problems:
        raise ConfigError(problems)
    return tuple(found)
