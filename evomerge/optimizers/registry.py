"""The optimizers by name: what each is for, its options, and how it is built."""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from pydantic import ValidationError

from evomerge.core.errors import ConfigError
from evomerge.core.near_names import unknown
from evomerge.core.outcomes import Genome
from evomerge.core.plugins import Registry
from evomerge.optimizers.contract import Optimizer
from evomerge.optimizers.options import CmaEsOptions, Nsga2Options, RandomSearchOptions
from evomerge.spaces.genes import Gene


@dataclass(frozen=True)
class OptimizerEntry:
    """One optimizer that an experiment file can name."""

    summary: str
    """One line for listings."""

    options: type
    """Frozen dataclass whose fields are the YAML keys, with ranges and descriptions."""

    target: str
    """``module:class``, imported when built; all take the arguments of ``make_optimizer``."""

    max_objectives: int | None = None
    """None where any number goes."""

    advice: str = ""
    """When to use it rather than another, and when not, in one or two sentences."""

    source: str = ""
    """The paper and the library that it goes by."""

    extra: str | None = None
    """Optional extra of evomerge that has to be installed for it."""

    learns_from_items: bool = False
    """Whether it needs the score of every single item, so that all candidates must answer the
    same items."""

    def build(
        self,
        genes: Sequence[Gene],
        objectives: int,
        seed: int,
        options: object,
        initial: Sequence[Genome],
    ) -> Optimizer:
        """Import the optimizer's module and make one."""
        module, _, attribute = self.target.partition(":")
        made: Optimizer = getattr(importlib.import_module(module), attribute)(
            genes, objectives, seed, options, initial
        )
        return made


OPTIMIZERS = Registry(
    "optimizers",
    {
        "nsga2": OptimizerEntry(
            "several objectives, and spaces with choices: a front of trade-offs",
            Nsga2Options,
            "evomerge.optimizers.nsga2:Nsga2",
            max_objectives=5,
        ),
        "cma_es": OptimizerEntry(
            "one objective over number genes: the quickest to converge",
            CmaEsOptions,
            "evomerge.optimizers.cma_es:CmaEs",
            max_objectives=1,
        ),
        "random": OptimizerEntry(
            "independent uniform draws: the baseline every search must beat",
            RandomSearchOptions,
            "evomerge.optimizers.random_search:RandomSearch",
        ),
    },
    OptimizerEntry,
)
"""evomerge's own optimizers and those of plugins."""


def make_optimizer(
    name: str,
    options: Mapping[str, Any],
    genes: Sequence[Gene],
    objectives: int,
    seed: int,
    initial: Sequence[Genome] = (),
) -> Optimizer:
    """Build an optimizer by name.

    Args:
        name: A key of ``OPTIMIZERS``.
        options: YAML keys below ``optimizer:``, without ``name``; what is left out is default.
        genes: The genes of the search space.
        objectives: Number of losses a scored candidate will have.
        seed: Names the random stream; equal seeds give equal searches.
        initial: Genomes to propose first, such as encoded baselines.

    Raises:
        ConfigError: With every problem that ``check_options`` finds, or a genome that does
            not fit the genes.
    """
    problems = check_options(name, options, len(genes), objectives)
    if problems:
        raise ConfigError(problems)
    entry = OPTIMIZERS[name]
    return entry.build(genes, objectives, seed, entry.options(**options), initial)


def check_options(
    name: str, options: Mapping[str, Any], genes_count: int, objectives: int
) -> list[str]:
    """Everything wrong with an ``optimizer:`` section, one message each; loads no optimizer."""
    if name not in OPTIMIZERS:
        return [f"optimizer.name: {unknown('optimizer', name, OPTIMIZERS)}"]
    entry = OPTIMIZERS[name]
    known = [field.name for field in fields(entry.options)]
    problems = [
        f"optimizer.{key}: {unknown(f'option of {name}', key, known)}"
        for key in options
        if key not in known
    ]
    problems += _value_problems(entry, {k: v for k, v in options.items() if k in known})
    if genes_count == 0:
        problems.append("space: no genes, so nothing varies; give a parameter a range.")
    if objectives == 0:
        problems.append("objectives: none given; an optimizer needs at least one.")
    if entry.max_objectives is not None and objectives > entry.max_objectives:
        problems.append(_too_many(name, entry.max_objectives, objectives))
    return problems


def _value_problems(entry: OptimizerEntry, options: Mapping[str, Any]) -> list[str]:
    try:
        entry.options(**options)
    except ValidationError as error:
        return [
            f"optimizer.{'.'.join(map(str, e['loc']))}: {e['msg']}, got {e['input']!r}."
            for e in error.errors()
        ]
    return []


def _too_many(name: str, limit: int, found: int) -> str:
    if limit == 1:
        return (
            f"optimizer.name: {name} takes one objective, found {found}; use nsga2, or make "
            "them one objective over several tasks with 'tasks:'."
        )
    return (
        f"optimizer.name: {name} takes at most {limit} objectives, found {found}; "
        "join some into one objective over several tasks with 'tasks:'."
    )
