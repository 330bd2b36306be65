"""The optimizers by name: what each is for, its options, and how it is built."""

import importlib
import importlib.util
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from pydantic import ValidationError

from evomerge.core.errors import ConfigError
from evomerge.core.near_names import unknown
from evomerge.core.plugins import Registry
from evomerge.optimizers.cma_es.options import CmaEsOptions
from evomerge.optimizers.contract import Optimizer
from evomerge.optimizers.designs.options import GridOptions, RandomSearchOptions, SobolOptions
from evomerge.optimizers.genetic.options import (
    DeOptions,
    GaOptions,
    MoeadOptions,
    Nsga2Options,
    Nsga3Options,
    SmsEmoaOptions,
)
from evomerge.optimizers.m2n2.options import M2n2Options
from evomerge.optimizers.nevergrad.options import NevergradOptions
from evomerge.optimizers.rl.options import RlOptions
from evomerge.optimizers.search_problem import SearchProblem
from evomerge.optimizers.soups.options import SoupsOptions
from evomerge.optimizers.surrogates.options import BayesianOptions, MapSurrogateOptions
from evomerge.spaces.genes import ChoiceGene, Gene
from evomerge.spaces.splits_gene import SplitsGene


@dataclass(frozen=True)
class OptimizerEntry:
    """One optimizer that an experiment file can name."""

    summary: str
    """One line for listings."""

    options: type
    """Frozen dataclass whose fields are the YAML keys, with ranges and descriptions."""

    target: str
    """``module:class``, imported when built; all take a problem and options."""

    max_objectives: int | None = None
    """None where any number goes."""

    advice: str = ""
    """When to use it rather than another, and when not, in one or two sentences."""

    source: str = ""
    """The paper and the library that it goes by."""

    extra: str | None = None
    """Optional extra of evomerge that has to be installed for it."""

    library: str | None = None
    """Module that the extra installs, looked for before the optimizer is built."""

    never_waits: bool = False
    """Whether no outcome has an effect on what is proposed, so that workers never wait."""

    draws: bool = True
    """Whether chance has a part in it; else all seeds give the same search, along a list of
    candidates that ends."""

    learns_from_items: bool = False
    """Whether it needs the score of every single item, so that all candidates must answer the
    same items."""

    def build(self, problem: SearchProblem, options: object) -> Optimizer:
        """Import the optimizer's module and make one.

        Raises:
            ConfigError: It is not to be called with a problem and options.
        """
        module, _, attribute = self.target.partition(":")
        kind = getattr(importlib.import_module(module), attribute)
        signature = inspect.signature(kind)
        try:
            signature.bind(problem, options)
        except TypeError as error:
            raise ConfigError(
                f"optimizer.name: {self.target} takes {signature}; expected an optimizer "
                "that is called with a SearchProblem and its options (docs/plugins.md)."
            ) from error
        made: Optimizer = kind(problem, options)
        return made


OPTIMIZERS = Registry(
    "optimizers",
    {
        "nsga2": OptimizerEntry(
            "several objectives, and spaces with choices: a front of trade-offs",
            Nsga2Options,
            "evomerge.optimizers.genetic.nsga2:Nsga2",
            max_objectives=5,
            advice="The first choice for two or three objectives. With more, nearly every "
            "candidate is a trade-off and nsga3 presses harder.",
            source="Deb et al. 2002; operators and survival by pymoo",
        ),
        "nsga3": OptimizerEntry(
            "three objectives and more: a front spread along reference directions",
            Nsga3Options,
            "evomerge.optimizers.genetic.nsga3:Nsga3",
            advice="For four objectives and more, or for an evenly spread front of three. With "
            "two, nsga2 does as well.",
            source="Deb and Jain 2014, Seada and Deb 2016 (U-NSGA-III); survival by pymoo",
        ),
        "sms_emoa": OptimizerEntry(
            "two to five objectives: a front of the largest hypervolume, one child at a time",
            SmsEmoaOptions,
            "evomerge.optimizers.genetic.sms_emoa:SmsEmoa",
            max_objectives=5,
            advice="Where candidates are costly and the hypervolume is what counts. With "
            "several workers set 'ahead' or 'asynchronous', or all but one wait.",
            source="Beume, Naujoks and Emmerich 2007; hypervolume by moocore",
        ),
        "moead": OptimizerEntry(
            "several objectives as many weighted single ones that help each other",
            MoeadOptions,
            "evomerge.optimizers.genetic.moead:Moead",
            advice="Where the front is smooth and its whole breadth is wanted; less apt than "
            "nsga2 for fronts with gaps.",
            source="Zhang and Li 2007",
        ),
        "ga": OptimizerEntry(
            "one objective over any genes: the plain genetic algorithm",
            GaOptions,
            "evomerge.optimizers.genetic.ga:Ga",
            max_objectives=1,
            advice="For one objective and many choice or int genes. Over number genes cma_es "
            "converges sooner.",
            source="Deb and Agrawal 1995 (operators, by pymoo)",
        ),
        "de": OptimizerEntry(
            "one objective, mostly number genes, with local optima",
            DeOptions,
            "evomerge.optimizers.genetic.de:De",
            max_objectives=1,
            advice="For one objective where cma_es gets stuck, with budgets of 300 candidates "
            "and more.",
            source="Storn and Price 1997; Price, Storn and Lampinen 2005",
        ),
        "cma_es": OptimizerEntry(
            "one objective over number genes: the quickest to converge",
            CmaEsOptions,
            "evomerge.optimizers.cma_es.cma_es:CmaEs",
            max_objectives=1,
            advice="For one objective over float and int genes, from 60 candidates on. Where "
            "most genes are choices take nsga2 or nevergrad, since it gives options an order.",
            source="Hansen and Ostermeier 2001; restarts: Auger and Hansen 2005, Hansen 2009; "
            "noise: Nomura et al. 2023, arXiv:2304.03473; pycma and cmaes",
        ),
        "random": OptimizerEntry(
            "independent uniform draws: the baseline every search must beat",
            RandomSearchOptions,
            "evomerge.optimizers.designs.random_search:RandomSearch",
            advice="As a baseline at the same budget; to look at a space, sobol is better.",
            source="Bergstra and Bengio 2012",
            never_waits=True,
        ),
        "sobol": OptimizerEntry(
            "points that cover the space evenly: a first look, and a stronger baseline",
            SobolOptions,
            "evomerge.optimizers.designs.sobol:Sobol",
            advice="To see how scores vary over a space, at a power of two of candidates, and "
            "as a baseline; it does not learn from scores.",
            source="Sobol 1967; Owen 1998; scipy",
            never_waits=True,
        ),
        "grid": OptimizerEntry(
            "every combination of a few levels of each gene, once",
            GridOptions,
            "evomerge.optimizers.designs.grid:Grid",
            advice="For up to three genes, or to score a whole landscape once; with more genes "
            "a grid has few levels each, and sobol shows more.",
            never_waits=True,
        ),
        "nevergrad": OptimizerEntry(
            "any optimizer of the nevergrad library by name",
            NevergradOptions,
            "evomerge.optimizers.nevergrad.nevergrad_search:NevergradSearch",
            max_objectives=5,
            advice="For mixed genes and one objective (DiscreteOnePlusOne, TwoPointsDE), or to "
            "compare with a method that evomerge has not. For several objectives nsga2 "
            "finds better fronts.",
            source="Rapin and Teytaud 2018, nevergrad",
        ),
        "rl": OptimizerEntry(
            "choices that depend on those before them, such as the moves of layer_moves",
            RlOptions,
            "evomerge.optimizers.rl.rl:Rl",
            advice="For genomes that are sequences of choices, with 300 candidates or more to "
            "learn from (RMM took 700). Where choices interact without order nsga2 finds more, "
            "over number genes cma_es does. Objectives are joined by their ranks: nothing "
            "spreads a front.",
            source="Han et al. 2025 (RMM), arXiv:2503.21272; Schulman et al. 2017 (PPO), "
            "arXiv:1707.06347",
        ),
        "m2n2": OptimizerEntry(
            "an archive of merges that differ in what they solve: over space 'splits'",
            M2n2Options,
            "evomerge.optimizers.m2n2.m2n2:M2n2",
            advice="With space 'splits', where the models solve different items and one merge "
            "should solve all, with some hundred candidates; it looks at single items, so that "
            "all candidates answer the same ones. Over other spaces it works too, but cma_es "
            "or nsga2 use numbers better.",
            source="Abrantes, Lange and Tang 2025, arXiv:2508.16204",
            learns_from_items=True,
        ),
        "soups": OptimizerEntry(
            "models added to an average one by one, the best first: a cheap baseline",
            SoupsOptions,
            "evomerge.optimizers.soups.soups:Soups",
            advice="As a baseline of two candidates a model (greedy) or ten (heuristic), and "
            "where there are many models and little budget. It ends by itself, and tunes only "
            "the experts' weights, one a model.",
            source="Wortsman et al. 2022, arXiv:2203.05482; Zhao et al. 2024 (Model-GLUE), "
            "arXiv:2410.05357",
            draws=False,
        ),
        "map_surrogate": OptimizerEntry(
            "few weights, several objectives: a front from quadratics fitted to the losses",
            MapSurrogateOptions,
            "evomerge.optimizers.surrogates.map_surrogate:MapSurrogate",
            max_objectives=8,
            advice="For up to ten number genes whose effect is smooth, such as weights of "
            "experts, and 30 to 150 candidates. Where a gene works by steps (density, layers) "
            "nsga2 is safer; 'nested' merges many experts pair by pair.",
            source="Li et al. 2024 (MAP), arXiv:2406.07529; NSGA-III's survival by pymoo",
        ),
        "bayesian": OptimizerEntry(
            "few, expensive or noisy candidates: Gaussian processes over up to about 20 genes",
            BayesianOptions,
            "evomerge.optimizers.surrogates.bayesian:Bayesian",
            advice="For 20 to 150 candidates that take long to evaluate, with one objective or "
            "up to four, and where scores come with standard errors. It thinks for up to a "
            "second a candidate, so that with quick candidates cma_es or nsga2 get further.",
            source="Balandat et al. 2020 (BoTorch), Ament et al. 2023 (LogEI), Daulton et al. "
            "2021 (qNEHVI)",
            extra="bayesian",
            library="botorch",
        ),
    },
    OptimizerEntry,
)
"""evomerge's own optimizers and those of plugins."""


def default_optimizer(genes: Sequence[Gene], objectives: int) -> str:
    """The optimizer of an experiment that names none."""
    if any(isinstance(gene, SplitsGene) for gene in genes):
        return "m2n2"
    if objectives == 1:
        return "nsga2" if any(isinstance(g, ChoiceGene) for g in genes) else "cma_es"
    return (
        "nsga2" if objectives <= (OPTIMIZERS["nsga2"].max_objectives or objectives) else "nsga3"
    )


def learns_from_items(name: str) -> bool:
    """Whether candidates must all answer the same items; False for an unknown optimizer."""
    return name in OPTIMIZERS and OPTIMIZERS[name].learns_from_items


def checked_options(name: str, options: Mapping[str, Any]) -> object:
    """An optimizer's options, which ``check_options`` has found right, with their defaults."""
    return OPTIMIZERS[name].options(**options)


def make_optimizer(name: str, options: Mapping[str, Any], problem: SearchProblem) -> Optimizer:
    """Build an optimizer by name.

    Args:
        name: A key of ``OPTIMIZERS``.
        options: YAML keys below ``optimizer:``, without ``name``; what is left out is default.
        problem: What is searched; of equal initial genomes one counts.

    Raises:
        ConfigError: With every problem that ``check_options`` finds, or a genome that does
            not fit the genes.
    """
    problems = check_options(name, options, len(problem.genes), problem.objectives)
    if problems:
        raise ConfigError(problems)
    entry = OPTIMIZERS[name]
    once = {tuple(sorted(genome.items())): genome for genome in problem.initial}
    return entry.build(replace(problem, initial=[*once.values()]), entry.options(**options))


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
    if entry.library is not None and importlib.util.find_spec(entry.library) is None:
        problems.append(
            f"optimizer.name: {name} needs {entry.library}, which is not installed: "
            f"pip install 'evomerge[{entry.extra}]'."
        )
    return problems


def _value_problems(entry: OptimizerEntry, options: Mapping[str, Any]) -> list[str]:
    try:
        entry.options(**options)
    except ValidationError as error:
        return [
            _value_problem(each["loc"], each["msg"], each["input"]) for each in error.errors()
        ]
    return []


def _value_problem(place: Sequence[int | str], message: str, found: object) -> str:
    if not place:  # what several options together must keep to
        return f"optimizer: {message.removeprefix('Value error, ')}."
    return f"optimizer.{'.'.join(map(str, place))}: {message}, got {found!r}."


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
