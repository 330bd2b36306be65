"""Searches that every optimizer must stand, with each number of objectives that it takes."""

import functools
import random
from collections.abc import Callable, Iterable, Sequence

import pytest

from evomerge.core.outcomes import Candidate, Failed, Genome, Outcome, Scored
from evomerge.optimizers.contract import Optimizer
from evomerge.optimizers.options import Parallel
from evomerge.optimizers.registry import OPTIMIZERS, check_options, make_optimizer
from evomerge.optimizers.search_problem import SearchProblem
from evomerge.spaces.genes import ChoiceGene, FloatGene, Gene, IntGene

FAILED = Failed("merge", "out of memory")

CHEAP: dict[str, dict[str, object]] = {
    "bayesian": {"design": 12, "batch": 24, "points": 32, "samples": 8},
    "map_surrogate": {"design": 20, "population": 16, "generations": 3},
}
"""Options with which slow optimizers come to their models soon and spend little time on them."""


def make(
    name: str,
    genes: Sequence[Gene],
    objectives: int,
    seed: int,
    initial: Sequence[Genome] = (),
    **options: object,
) -> Optimizer:
    """An optimizer with options that make it quick."""
    return make_optimizer(
        name, CHEAP.get(name, {}) | options, SearchProblem(genes, objectives, seed, initial)
    )


def mixed_genes(count: int) -> list[Gene]:
    kinds: list[Callable[[str], Gene]] = [
        lambda name: FloatGene(name, -0.5, 1.5),
        lambda name: IntGene(name, 2, 9),
        lambda name: FloatGene(name, 0.001, 10.0, log=True),
        lambda name: ChoiceGene(name, ("ties", "linear", "slerp")),
    ]
    return [kinds[k % len(kinds)](f"g{k}") for k in range(count)]


def numbers_of(candidate: Candidate) -> list[float]:
    """Numbers as they are; choices count by their length."""
    return [len(v) / 6 if isinstance(v, str) else float(v) for v in candidate.genome.values()]


def outcome(
    name: str, candidate: Candidate, losses: tuple[float, ...], violation: float = 0.0
) -> Scored:
    """With scores of single items for optimizers that learn from them."""
    if not OPTIMIZERS[name].learns_from_items:
        return Scored(losses, violation=violation)
    values = numbers_of(candidate)
    graded = [1 / (1 + (values[k % len(values)] - k / 10) ** 2) for k in range(20)]
    items = {f"0|task|{k}": x if k % 2 else round(x) * 1.0 for k, x in enumerate(graded)}
    return Scored(losses, violation=violation, items=items)


def scored(name: str, candidate: Candidate, objectives: int) -> Scored:
    """A smooth function of the numbers."""
    values = numbers_of(candidate)
    losses = (sum((v - k - 0.3) ** 2 for v in values) / len(values) for k in range(objectives))
    return outcome(name, candidate, tuple(losses))


def smooth(name: str, objectives: int) -> Callable[[Candidate], Outcome]:
    """``scored`` of a candidate alone."""
    return functools.partial(scored, name, objectives=objectives)


def search(
    optimizer: Optimizer,
    evaluate: Callable[[Candidate], Outcome],
    candidates: int,
    batch: int = 7,
) -> list[Candidate]:
    """Ask and tell in batches until so many candidates were asked, or the search is over."""
    asked: list[Candidate] = []
    while len(asked) < candidates and not optimizer.finished:
        batch_asked = optimizer.ask(min(batch, candidates - len(asked)))
        assert batch_asked, "with nothing open something must be proposed"
        asked += batch_asked
        optimizer.tell({c.id: evaluate(c) for c in batch_asked})
    assert len(asked) == candidates or optimizer.finished
    return asked


def cases(*numbers: int, names: Iterable[str] = OPTIMIZERS) -> list[object]:
    """Optimizers with the numbers of objectives they take; without its extra one is skipped."""
    found = []
    for name in names:
        entry = OPTIMIZERS[name]
        problems = check_options(name, {}, 5, 1)
        lacking = pytest.mark.skipif(bool(entry.extra and problems), reason=" ".join(problems))
        found += [
            pytest.param(name, number, id=f"{name}-{number}", marks=lacking)
            for number in numbers
            if entry.max_objectives is None or number <= entry.max_objectives
        ]
    return found


PARALLEL = [
    name
    for name, entry in OPTIMIZERS.items()
    if issubclass(entry.options, Parallel) or hasattr(entry.options, "parallel")
]


def recorded_search(
    optimizer: Optimizer, name: str, objectives: int, workers: int = 3
) -> list[tuple[str, object]]:
    """Workers that answer out of order, with some failures: a log of asks and tells."""
    rng = random.Random(5)
    log: list[tuple[str, object]] = []
    waiting: list[Candidate] = []
    while len(log) < 90 and (waiting or not optimizer.finished):
        free = workers - len(waiting)
        asked = optimizer.ask(free)
        log.append(("ask", (free, asked)))
        waiting += asked
        if waiting:
            done = waiting.pop(rng.randrange(len(waiting)))
            told = {done.id: FAILED if rng.random() < 0.2 else scored(name, done, objectives)}
            optimizer.tell(told)
            log.append(("tell", told))
    return log


def assert_replayed(optimizer: Optimizer, log: list[tuple[str, object]]) -> None:
    for what, content in log:
        if what == "ask":
            count, recorded = content
            assert optimizer.ask(count) == recorded
        else:
            optimizer.tell(content)


def sometimes_failing(name: str, objectives: int) -> Callable[[Candidate], Outcome]:
    return lambda c: scored(name, c, objectives) if c.id % 5 else FAILED
