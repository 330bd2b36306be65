"""Summary: everything a report says, as numbers computed from the study alone."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from evomerge.core.objectives import Objective, losses
from evomerge.report import search_phase
from evomerge.report.final_phase import Final, final
from evomerge.report.search_phase import Best, Counts, Failure, FrontMember, History
from evomerge.report.study_facts import State, StudyFacts, objective_labels, read_facts
from evomerge.report.verdict import (
    Verdict,
    confirmed,
    missed_on_test,
    not_confirmed,
    nothing_feasible,
    nothing_scored,
)
from evomerge.report.volume import Volume
from evomerge.store.study_store import StudyStore
from evomerge.store.trials import Trial


@dataclass(frozen=True)
class Summary:
    """A study at one moment."""

    facts: StudyFacts
    labels: tuple[str, ...]
    """Axis title of each objective."""

    counts: Counts
    judgement: Verdict
    """What came of it, in words, with its tone and details."""

    front: tuple[FrontMember, ...]
    """Candidates that no other candidate dominates, by search scores; of those that meet the
    constraints."""

    plain_on_front: tuple[Trial, ...]
    """Sources and baselines that nothing dominates, by search scores."""

    result: tuple[FrontMember, ...]
    """The front to choose from: the final front once there is one, else the search's. Where
    no candidate meets the constraints, those that miss them least."""

    balanced: int | None
    """The result's compromise between all objectives, or what misses the constraints least: a
    trial number."""

    bests: tuple[Best, ...]
    """One an objective."""

    baselines: tuple[Trial, ...]
    """Sources, then baselines; failed ones included."""

    failures: tuple[Failure, ...]
    volume: Volume | None
    """How volumes are measured; None while no source or baseline is scored."""

    history: History
    final: Final | None
    """Scores on test items; None before the search has finished."""

    @property
    def name(self) -> str:
        """The study's name."""
        return self.facts.name

    @property
    def verdict(self) -> str:
        """What came of it, as one plain sentence."""
        return self.judgement.sentence

    @property
    def state(self) -> State:
        """Whether the search runs, was interrupted, or has finished."""
        return self.facts.state

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """What was searched for."""
        return self.facts.objectives

    @property
    def feasible(self) -> bool:
        """Whether the result meets the constraints; also without one."""
        return all(member.violation == 0 for member in self.result)

    @property
    def result_kind(
        self,
    ) -> Literal["final front", "search front", "least violating candidates"]:
        """Whether ``result`` was judged on test items or by the search's own scores."""
        if not self.feasible:
            return "least violating candidates"
        return "final front" if self.final and self.final.candidates else "search front"


def summarize(store: StudyStore) -> Summary:
    """Compute a study's summary; works at any time, also while the search runs.

    Args:
        store: An open study, read-only is enough.

    Raises:
        StoreError: The database holds no study of a search.
    """
    facts = read_facts(store)
    volume = search_phase.study_volume(facts)
    members = search_phase.front(facts)
    counts = search_phase.count(facts)
    failed = search_phase.failures(facts)
    bests = search_phase.bests(facts)
    finals = final(store, facts)
    if finals is not None and finals.candidates and not finals.feasible:
        rows = finals.candidates
        nearest = [FrontMember(r.trial, (), r.violation) for r in rows]
        judgement = nothing_feasible(counts, nearest[0], "validation", facts.state)
    elif not members and counts.complete:
        nearest = list(search_phase.least_violating(facts))
        judgement = nothing_feasible(counts, nearest[0], "search", facts.state)
    elif not members:
        candidates = {t.number for t in facts.of_kind("candidate")}
        relevant = [f for f in failed if candidates & set(f.trials)]
        judgement = nothing_scored(counts, relevant, facts.state)
    elif finals is None:
        judgement = not_confirmed(facts.objectives, members, bests, facts.state)
    else:
        judgement = confirmed(facts.objectives, finals)
        missing = missed_on_test(facts.constraints, finals)
        judgement = replace(judgement, details=judgement.details + missing)
    result, balanced = _result(facts, members, finals)
    return Summary(
        facts=facts,
        labels=objective_labels(facts.objectives),
        counts=counts,
        judgement=judgement,
        front=members,
        plain_on_front=search_phase.plain_on_front(facts),
        result=result,
        balanced=balanced,
        bests=bests,
        baselines=facts.of_kind("source") + facts.of_kind("baseline"),
        failures=failed,
        volume=volume,
        history=search_phase.history(facts, volume),
        final=finals,
    )


def _result(
    facts: StudyFacts, members: tuple[FrontMember, ...], finals: Final | None
) -> tuple[tuple[FrontMember, ...], int | None]:
    """The front to choose from and its compromise, which is never chosen on test items."""
    members = members or search_phase.least_violating(facts)
    scores = [member.trial.values for member in members]
    if finals is not None and finals.candidates:
        rows = finals.candidates
        members = tuple(FrontMember(row.trial, row.beaten_by, row.violation) for row in rows)
        scores = [tuple(e.value for e in row.validation or row.trial.estimates) for row in rows]
    if any(member.violation for member in members):
        nearest = min(members, key=lambda member: (member.violation, member.trial.number))
        return members, nearest.trial.number
    points = np.array([losses(facts.objectives, values) for values in scores])
    chosen = search_phase.balanced(points)
    return members, None if chosen is None else members[chosen].trial.number
