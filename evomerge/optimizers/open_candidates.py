"""Which candidates are out for evaluation: ids going out and outcomes coming back."""

import math
from collections.abc import Mapping

from evomerge.core.outcomes import Candidate, Genome, Outcome, Scored


class OpenCandidates:
    """Numbers candidates from 0 and lets every one come back once.

    Args:
        objectives: How many losses a scored candidate must have.
    """

    def __init__(self, objectives: int) -> None:
        self._objectives = objectives
        self._issued = 0
        self._open: set[int] = set()

    def issue(self, genome: Genome, generation: int = 0, known: int = 0) -> Candidate:
        """A candidate with the next id, open until its outcome is settled."""
        candidate = Candidate(self._issued, genome, generation, known)
        self._open.add(candidate.id)
        self._issued += 1
        return candidate

    def settle(self, outcomes: Mapping[int, Outcome]) -> None:
        """Close candidates; on any error none of them is closed.

        Raises:
            KeyError: An id was never issued, or was settled before.
            ValueError: A scored candidate has the wrong number of losses, or one not finite,
                or a violation that is not a finite number from 0 on.
        """
        for id_, outcome in outcomes.items():
            if id_ not in self._open:
                asked = isinstance(id_, int) and 0 <= id_ < self._issued
                what = "was told before" if asked else "was never asked"
                raise KeyError(f"candidate {id_!r} {what}; tell each asked id once.")
            if isinstance(outcome, Scored):
                self._check_losses(id_, outcome.losses)
                _check_violation(id_, outcome.violation)
        self._open.difference_update(outcomes)

    def _check_losses(self, id_: int, losses: tuple[float, ...]) -> None:
        if len(losses) != self._objectives or not all(map(math.isfinite, losses)):
            raise ValueError(
                f"candidate {id_}: expected {self._objectives} finite losses, got {losses}; "
                "tell a candidate without finite scores as Failed."
            )


def _check_violation(id_: int, violation: float) -> None:
    if not (math.isfinite(violation) and violation >= 0):
        raise ValueError(
            f"candidate {id_}: expected a finite violation from 0 on, got {violation}; tell a "
            "candidate that cannot be judged as Failed."
        )
