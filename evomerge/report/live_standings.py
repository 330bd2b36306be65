"""LiveStandings: front, best values, failures and rates, carried on from look to look."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evomerge.core.objectives import Objective, losses
from evomerge.core.outcomes import Failed
from evomerge.core.pareto import front_mask
from evomerge.report.live_view import Counts, FailureGroup, PlainTrial, Point, Step
from evomerge.store.recent_changes import TrialState

_RATE_SECONDS = 120.0
_RATE_FEWEST = 20
_RATE_MOST = 5000
"""Rates are taken over two minutes, or over 20 candidates where these took longer."""


@dataclass(frozen=True)
class Rates:
    """How fast candidates are done, lately."""

    candidates: float
    """Finished a second."""

    items: float
    """Item evaluations a second."""


class LiveStandings:
    """What a study's trials add up to; taking in new ones costs time in their number.

    Args:
        objectives: Of the study.
    """

    def __init__(self, objectives: Sequence[Objective]) -> None:
        self._objectives = tuple(objectives)
        self.last = 0
        """The highest number known."""

        self.candidates: list[Point] = []
        self.steps: list[list[Step]] = [[] for _ in self._objectives]
        self.feasible = 0
        """Candidates that meet every constraint."""

        self._nearest: Point | None = None
        self._open: dict[int, TrialState] = {}
        self._plain: dict[int, TrialState] = {}
        self._front: dict[int, Point] = {}
        self._failures: dict[Failed, tuple[int, int]] = {}
        self._ends: deque[tuple[float, int]] = deque(maxlen=_RATE_MOST)
        self._failed = 0
        self._items = 0

    @property
    def waiting(self) -> list[int]:
        """Numbers of the trials that were open."""
        return list(self._open)

    def take(self, trials: Sequence[TrialState]) -> None:
        """Take in trials that are new, and how those stand that were open."""
        fresh: list[Point] = []
        for trial in sorted(trials, key=lambda t: (t.finished_at or 0.0, t.number)):
            self.last = max(self.last, trial.number)
            self._open.pop(trial.number, None)
            if trial.kind != "candidate":
                self._plain[trial.number] = trial
            if trial.status == "open":
                self._open[trial.number] = trial
            else:
                fresh += self._ended(trial)
        self._improve_front(fresh)

    def _ended(self, trial: TrialState) -> list[Point]:
        """Count a finished trial; gives its point if it is a candidate that may win."""
        self._items += trial.item_evaluations
        if trial.failure is not None:
            count, _ = self._failures.pop(trial.failure, (0, 0))
            self._failures[trial.failure] = (count + 1, trial.number)  # now the latest
        if trial.kind != "candidate":
            return []
        self._ends.append((trial.finished_at or 0.0, trial.item_evaluations))
        if trial.status == "failed":
            self._failed += 1
            return []
        point = _point(trial)
        self.candidates.append(point)
        if point.violation:
            held = self._nearest or point
            self._nearest = min(held, point, key=lambda p: (p.violation, p.number))
            return []
        self.feasible += 1
        for k, objective in enumerate(self._objectives):
            value, steps = point.estimates[k].value, self.steps[k]
            if not steps or objective.sign * value < objective.sign * steps[-1].value:
                steps.append(Step(len(self.candidates), value, point.number))
        return [point]

    def _improve_front(self, fresh: Sequence[Point]) -> None:
        if not fresh:
            return
        # by number, so that of equals the first asked is kept, whichever was done first
        rivals = sorted([*self._front.values(), *fresh], key=lambda point: point.number)
        mask = front_mask(np.array([self._losses(point) for point in rivals]))
        self._front = {p.number: p for p, on in zip(rivals, mask, strict=True) if on}

    def _losses(self, point: Point) -> tuple[float, ...]:
        return losses(self._objectives, [estimate.value for estimate in point.estimates])

    # ---- what it all adds up to

    @property
    def front(self) -> tuple[Point, ...]:
        """Candidates that no other dominates, best in the first objective first."""
        return tuple(sorted(self._front.values(), key=self._losses))

    @property
    def plain(self) -> tuple[PlainTrial, ...]:
        """Sources and baselines, by number."""
        return tuple(
            PlainTrial(t.number, t.kind, t.name, t.status, t.estimates, t.violation)
            for _, t in sorted(self._plain.items())
        )

    def to_beat(self, objective: int) -> Point | None:
        """The best source or baseline in an objective, by its place."""
        sign = self._objectives[objective].sign
        scored = [t for t in self._plain.values() if t.status == "complete" and not t.violation]
        if not scored:
            return None
        return _point(min(scored, key=lambda t: sign * t.estimates[objective].value))

    @property
    def nearest(self) -> Point | None:
        """The candidate that misses the constraints least, while none meets them."""
        return None if self.feasible else self._nearest

    @property
    def counts(self) -> Counts:
        """How many candidates there are."""
        waiting = sum(trial.kind == "candidate" for trial in self._open.values())
        complete = len(self.candidates)
        return Counts(complete + self._failed + waiting, complete, self._failed, waiting)

    @property
    def item_evaluations(self) -> int:
        """Put to all trials for their search scores."""
        return self._items + sum(t.item_evaluations for t in self._open.values())

    @property
    def failure_reasons(self) -> int:
        """How many different ones there are."""
        return len(self._failures)

    def failures(self, most: int) -> tuple[FailureGroup, ...]:
        """The latest reasons, newest first."""
        latest = list(self._failures.items())[: -most - 1 : -1]
        return tuple(
            FailureGroup(why.stage, why.reason, count, number)
            for why, (count, number) in latest
        )

    def rates(self, since: float, now: float) -> Rates | None:
        """How fast candidates are done; None while too few are.

        Args:
            since: Only what was done after this counts, such as the session's start.
            now: The present; a long wait for the next candidate lowers the rate.
        """
        ends = [end for end in self._ends if end[0] >= since]
        late = [end for end in ends if end[0] >= now - _RATE_SECONDS]
        ends = late if len(late) > _RATE_FEWEST else ends[-_RATE_FEWEST - 1 :]
        span = ends[-1][0] - ends[0][0] if ends else 0.0
        if span <= 0:
            return None
        done = len(ends) - 1
        overdue = max(0.0, now - ends[-1][0] - span / done)
        return Rates(done / (span + overdue), sum(e[1] for e in ends[1:]) / (span + overdue))


def _point(trial: TrialState) -> Point:
    return Point(trial.number, trial.kind, trial.name, trial.estimates, trial.violation)
