"""FinalScoring: the best candidates on validation items, what stands there on test items."""

from collections.abc import Callable, Mapping, Sequence

from evomerge.core.errors import TrialError
from evomerge.core.objectives import losses
from evomerge.core.outcomes import Failed
from evomerge.search.asking import Asking, Heard, only
from evomerge.search.finalists import finalists, undominated
from evomerge.search.measuring import Measuring
from evomerge.search.observer import Phase
from evomerge.search.scoring import Scoring
from evomerge.spaces.genes import Gene
from evomerge.store.trials import Trial


class FinalScoring:
    """Re-scores sources, baselines and the best candidates on items that no search has seen.

    Args:
        asking: Has items answered.
        scoring: Items, objectives and how many finalists there are.
        measuring: Turns a split's responses into objectives and constraints.
        genes: Of the candidates' genomes.
        begin: Told of each phase: its name and how many trials it has.
        report: Told of each trial that has answered.
    """

    def __init__(
        self,
        asking: Asking,
        scoring: Scoring,
        measuring: Measuring,
        genes: Sequence[Gene],
        begin: Callable[[Phase, int], None],
        report: Callable[[Trial], None],
    ) -> None:
        self._asking = asking
        self._store = asking.store
        self._scoring = scoring
        self._measuring = measuring
        self._genes = genes
        self._begin = begin
        self._report = report
        self._unscored: list[tuple[int, str, str]] = []

    def run(self, trials: Mapping[int, Trial]) -> None:
        """Score the finalists, and note which they are and which dropped out."""
        complete = [t for t in trials.values() if t.status == "complete"]
        plain = [t.number for t in complete if t.kind != "candidate"]
        candidates = [t for t in complete if t.kind == "candidate"]
        scoring = self._scoring
        chosen = finalists(
            candidates,
            scoring.objectives,
            self._genes,
            scoring.finalists,
            scoring.constraints,
        )
        confirmed = self._rescored([trials[n] for n in [*plain, *chosen]], "validation")
        mine = [n for n in confirmed if n not in plain]
        measured = [m for n in mine if (m := self._measured(trials[n], "validation"))]
        final = [*(n for n in confirmed if n in plain), *self._confirmed(measured)]
        tested = self._rescored([trials[n] for n in final], "test")
        self._store.set_meta("finalists", {"validation": confirmed, "test": tested})
        self._store.set_meta("unscored", sorted(self._unscored))

    def _rescored(self, trials: Sequence[Trial], split: Phase) -> list[int]:
        """Put a split's items to trials; gives those that answered them all."""
        self._begin(split, len(trials))
        by_number = {trial.number: trial for trial in trials}

        def keep(heard: Heard) -> None:
            trial = by_number[heard.number]
            answers = self._asking.answers(trial, heard)
            if isinstance(heard.result, Failed):
                self._unscored.append((trial.number, split, heard.result.reason))
            elif answers is not None:
                self._store.add_responses(answers)
            self._report(trial)

        self._asking.work_off(trials, self._scoring.items[split], keep)
        failed = {number for number, where, _ in self._unscored if where == split}
        return [trial.number for trial in trials if trial.number not in failed]

    def _confirmed(self, measured: Sequence[Trial]) -> list[int]:
        """The front of what keeps the constraints on validation items too.

        Where nothing does, whatever misses them least, to be shown as that.
        """
        if not measured:
            return []
        least = min(trial.violation for trial in measured)
        return undominated(
            {
                trial.number: losses(self._scoring.objectives, trial.values)
                for trial in measured
                if trial.violation == least
            }
        )

    def _measured(self, trial: Trial, split: str) -> Trial | None:
        """The trial by a split's items; None, and noted, where nothing can be told."""
        try:
            answered = only(self._asking.known(trial), self._scoring.items[split])
            return self._measuring.measured(trial, answered)
        except TrialError as error:
            self._unscored.append((trial.number, split, str(error)))
            return None
