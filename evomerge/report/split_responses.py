"""A trial's responses to all items of a split, with what objectives and constraints derive."""

from evomerge.core.errors import TrialError
from evomerge.core.responses import Responses
from evomerge.fitness.derived_metrics import with_derived
from evomerge.report.study_facts import Split, StudyFacts, known_responses, of_split
from evomerge.store.study_store import StudyStore
from evomerge.store.trials import Trial


class SplitResponses:
    """Reads responses split by split; those of reference models only once.

    Args:
        store: The study.
        facts: What it says.
    """

    def __init__(self, store: StudyStore, facts: StudyFacts) -> None:
        self._store = store
        self._facts = facts
        measured = [each.measured for each in facts.constraints]
        self._quantities = (*facts.objectives, *measured)
        names = {o.reference for o in self._quantities if o.kind == "forgetting"}
        self._known = {
            trial.name: known_responses(store, facts, trial)
            for trial in facts.of_kind("source")
            if trial.name in names
        }

    def of(self, trial: Trial, split: Split) -> Responses | None:
        """The responses to exactly a split's items, in the split's order.

        None where the trial, or a model that it is compared with, has not answered them all,
        or where they are too few for a standard error.
        """
        facts = self._facts
        answered = of_split(facts, known_responses(self._store, facts, trial), split)
        if answered is None:
            return None
        references = {
            name: responses
            for name, known in self._known.items()
            if (responses := of_split(facts, known, split)) is not None
        }
        try:
            return with_derived(answered, self._quantities, references)
        except TrialError:
            return None
