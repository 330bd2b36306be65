"""Turns: of the trials with one recipe only one is under way, the others wait for it."""

from collections import deque
from collections.abc import Callable

from evomerge.store.trials import Trial


class Turns:
    """Lets trials begin, one at a time for each recipe.

    The second of two trials with one recipe finds every answer of the first, as it does with
    a single worker; so the number of workers changes neither costs nor scores.

    Args:
        begin: Begins a trial; tells whether it is open now.
    """

    def __init__(self, begin: Callable[[Trial], bool]) -> None:
        self._begin = begin
        self._recipes: dict[int, str] = {}
        self._held: dict[str, deque[Trial]] = {}

    @property
    def under_way(self) -> int:
        """How many trials have begun and not ended."""
        return len(self._recipes)

    def begin(self, trial: Trial) -> None:
        """Begin a trial, now or when those before it with its recipe have ended."""
        recipe = trial.recipe.digest
        if recipe in self._held:
            self._held[recipe].append(trial)
        elif self._begin(trial):
            self._recipes[trial.number] = recipe
            self._held[recipe] = deque()

    def end(self, number: int) -> None:
        """A trial has ended; those that waited for it begin."""
        for trial in self._held.pop(self._recipes.pop(number)):
            self.begin(trial)
