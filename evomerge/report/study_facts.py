"""What a study's database says, read once into typed values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from evomerge.core.constraints import Constraint
from evomerge.core.errors import StoreError
from evomerge.core.objectives import Objective
from evomerge.core.outcomes import GeneValue
from evomerge.core.responses import Responses
from evomerge.core.worker_state import Incident, WorkerState
from evomerge.store.session_log import Session
from evomerge.store.study_store import StudyStore
from evomerge.store.trials import Trial

State = Literal["running", "interrupted", "finished"]
Split = Literal["search", "validation", "test"]

_FEWEST_ITEMS = 2
"""Below this no variance can be told."""

_SAME_WEIGHT = 1e-6


@dataclass(frozen=True)
class GeneFacts:
    """A gene as the report needs it."""

    name: str
    kind: Literal["float", "int", "choice", "splits"]
    low: float | None = None
    high: float | None = None
    log: bool = False
    options: tuple[GeneValue, ...] = ()


@dataclass(frozen=True)
class Crew:
    """The workers of a session as they stood at its end."""

    session: Session
    workers: tuple[WorkerState, ...]
    incidents: tuple[Incident, ...]

    @property
    def utilisation(self) -> float:
        """Share of the workers' time spent on candidates."""
        ready = sum(worker.ready_seconds for worker in self.workers)
        return min(1.0, sum(w.busy_seconds for w in self.workers) / ready) if ready else 0.0


@dataclass(frozen=True)
class StudyFacts:
    """Everything fixed for a study, and its trials at one moment."""

    name: str
    seed: int
    version: str
    """Of evomerge, when the study began."""

    state: State
    experiment: Mapping[str, Any]
    """The experiment with every default spelled out."""

    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]
    genes: tuple[GeneFacts, ...]
    items: Mapping[Split, Mapping[str, tuple[int, ...]]]
    """Chosen item ids by split and task."""

    banks: Mapping[str, Mapping[str, Any]]
    settings: Mapping[str, Any]
    settings_digest: str
    sources: Mapping[str, Mapping[str, Any]]
    budget: Mapping[str, Any]
    finalists: Mapping[str, tuple[int, ...]] | None
    """Trial numbers scored on validation and on test items; None before the search ended."""

    trials: tuple[Trial, ...]
    order: tuple[int, ...]
    """Numbers of finished candidates as their outcomes came in, whatever the clock said."""

    sessions: tuple[Session, ...]
    crews: tuple[Crew, ...]
    """Of the sessions that had workers."""

    item_evaluations: int
    seconds: float

    def of_kind(self, *kinds: str) -> tuple[Trial, ...]:
        """Trials of these kinds, by number."""
        return tuple(t for t in self.trials if t.kind in kinds)

    def complete(self, *kinds: str) -> tuple[Trial, ...]:
        """Scored trials of these kinds, by number."""
        return tuple(t for t in self.of_kind(*kinds) if t.status == "complete")

    def feasible(self, *kinds: str) -> tuple[Trial, ...]:
        """Scored trials of these kinds that meet every constraint, by number."""
        return tuple(t for t in self.of_kind(*kinds) if t.feasible)


def read_facts(store: StudyStore) -> StudyFacts:
    """Read a study, running or finished.

    Raises:
        StoreError: The database holds no objectives, so no search wrote it.
    """
    if not store.meta("objectives"):
        raise StoreError(
            f"{store.path}: says nothing of its objectives; expected a study written by "
            "'evomerge run'."
        )
    finalists = store.meta("finalists")
    return StudyFacts(
        name=str(store.meta("name") or store.path.parent.name),
        seed=int(store.meta("seed") or 0),
        version=str(store.meta("evomerge") or "unknown"),
        state=cast("State", store.meta("state") or "running"),
        experiment=store.meta("experiment") or {},
        objectives=tuple(Objective.from_plain(plain) for plain in store.meta("objectives")),
        constraints=tuple(
            Constraint.from_plain(plain) for plain in store.meta("constraints") or []
        ),
        genes=tuple(_gene(plain) for plain in store.meta("genes") or []),
        items=_items(store.meta("items") or {}),
        banks=store.meta("banks") or {},
        settings=store.meta("settings") or {},
        settings_digest=str(store.meta("settings_digest") or ""),
        sources=store.meta("sources") or {},
        budget=store.meta("budget") or {},
        finalists={s: tuple(n) for s, n in finalists.items()} if finalists else None,
        trials=tuple(store.trials()),
        order=tuple(n for e in store.events() if e.kind == "tell" for n in e.trials),
        sessions=tuple(store.sessions.all()),
        crews=_crews(store),
        item_evaluations=store.count_responses(store.meta("asks")),
        seconds=store.sessions.seconds_worked(),
    )


def _crews(store: StudyStore) -> tuple[Crew, ...]:
    log = store.sessions
    found = [
        Crew(session, tuple(log.workers(session.id)), tuple(log.incidents(session.id)))
        for session in log.all()
    ]
    return tuple(crew for crew in found if crew.workers)


def known_responses(store: StudyStore, facts: StudyFacts, trial: Trial) -> Responses:
    """Everything a trial's recipe has answered under the study's settings."""
    versions = {task: str(bank.get("version")) for task, bank in facts.banks.items()}
    return store.responses(trial.recipe.digest, facts.settings_digest, versions)


def of_split(facts: StudyFacts, known: Responses, split: Split) -> Responses | None:
    """The responses to exactly the items of a split, in the split's order.

    None where a task of an objective or a constraint is not fully answered or has too few
    items for a standard error, so that means are always taken over the same items for every
    trial.
    """
    chosen = facts.items[split]
    answered = {}
    quantities = [*facts.objectives, *(each.quantity for each in facts.constraints)]
    for task in sorted({task for quantity in quantities for task in quantity.tasks}):
        items = chosen.get(task, ())
        if len(items) < _FEWEST_ITEMS or task not in known:
            return None
        if not set(items) <= set(known[task].items):
            return None
        answered[task] = known[task].only(items)
    return answered


def objective_label(objective: Objective) -> str:
    """The objective as an axis title: ``accuracy on sort``, ``accuracy on sum + sort``."""
    if not objective.tasks:
        return objective.metric
    if max(objective.tasks.values()) - min(objective.tasks.values()) < _SAME_WEIGHT:
        return f"{objective.metric} on {' + '.join(objective.tasks)}"
    parts = (f"{weight:.2g} {task}" for task, weight in objective.tasks.items())
    return f"{objective.metric} on {' + '.join(parts)}"


def objective_labels(objectives: Sequence[Objective]) -> tuple[str, ...]:
    """One label an objective."""
    return tuple(objective_label(objective) for objective in objectives)


def constraint_label(constraint: Constraint) -> str:
    """A constraint in words: ``loss of accuracy on town against base at most 0.02``."""
    return f"{constraint.named(objective_label(constraint.quantity))} {constraint.limit}"


def constraint_labels(constraints: Sequence[Constraint]) -> tuple[str, ...]:
    """One label a constraint."""
    return tuple(constraint_label(constraint) for constraint in constraints)


def _gene(plain: Mapping[str, Any]) -> GeneFacts:
    return GeneFacts(
        name=plain["name"],
        kind=plain["kind"],
        low=plain.get("low"),
        high=plain.get("high"),
        log=bool(plain.get("log")),
        options=tuple(plain.get("options") or ()),
    )


def _items(plain: Mapping[str, Any]) -> dict[Split, dict[str, tuple[int, ...]]]:
    splits: tuple[Split, ...] = ("search", "validation", "test")
    return {
        split: {task: tuple(ids) for task, ids in plain.get(split, {}).items()}
        for split in splits
    }
