"""One job from recipe to responses, with and without neighbours to compare with."""

from dataclasses import dataclass, field

import pytest

from evomerge.core.errors import TrialError
from evomerge.core.outcomes import Failed
from evomerge.core.recipe import Recipe, Rule, Source
from evomerge.core.responses import ItemResponses, Items
from evomerge.search.evaluate import Neighbourhood, evaluator
from evomerge.workers.contract import Answered, Job

RECIPE = Recipe((Source("a", "a"),), (Rule("linear", {"a": {}}),))
ITEMS = {"near": (3, 4, 5, 8), "other": (1, 2)}


@dataclass
class Resident:
    """A model whose state is the name of what was merged last; it answers by that."""

    state: str = "nothing"
    asked: list[tuple[str, Items]] = field(default_factory=list)
    broken: str | None = None

    def merge(self, name: str):
        def into(recipe: Recipe) -> None:
            self.state = name
            if name == self.broken:
                raise TrialError(f"{name} is not finite")

        return into

    def answer(self, items: Items):
        self.asked.append((self.state, dict(items)))
        wrong = {"second": {3, 8}}.get(self.state, set())
        return {
            task: ItemResponses(
                chosen, {"choice": tuple(1.0 if i in wrong else 0.0 for i in chosen)}
            )
            for task, chosen in items.items()
        }

    def evaluate(self, tasks=("near",)):
        merges = (self.merge("first"), self.merge("second"))
        return evaluator(
            self.merge("recipe"), self.answer, neighbourhood=Neighbourhood(tasks, merges)
        )(Job(1, RECIPE, ITEMS))


def test_each_item_is_put_to_the_recipe_and_to_one_neighbour():
    resident = Resident()
    resident.evaluate()
    assert resident.asked == [
        ("first", {"near": (4, 8)}),
        ("second", {"near": (3, 5)}),
        ("recipe", ITEMS),
    ]


def test_stability_tells_item_by_item_whether_the_neighbour_agrees():
    result = Resident().evaluate()
    assert isinstance(result, Answered)
    assert result.responses["near"].items == (3, 4, 5, 8)
    assert result.responses["near"].values["stability"] == (0.0, 1.0, 1.0, 1.0)
    assert "stability" not in result.responses["other"].values
    assert set(result.timings) == {"stability", "merge", "evaluate"}


def test_an_items_neighbour_does_not_depend_on_what_else_is_asked():
    whole, part = Resident(), Resident()
    whole.evaluate()
    merges = (part.merge("first"), part.merge("second"))
    evaluator(
        part.merge("recipe"), part.answer, neighbourhood=Neighbourhood(("near",), merges)
    )(Job(1, RECIPE, {"near": (8, 5)}))
    assert part.asked[:2] == [("first", {"near": (8,)}), ("second", {"near": (5,)})]


def test_the_recipes_own_weights_are_what_is_left_in_memory():
    resident = Resident()
    resident.evaluate()
    assert resident.state == "recipe"


def test_a_broken_neighbour_fails_the_trial_with_its_reason():
    assert Resident(broken="second").evaluate() == Failed("evaluate", "second is not finite")


def test_without_neighbours_a_job_is_one_merge_and_one_question():
    resident = Resident()
    result = evaluator(resident.merge("recipe"), resident.answer)(Job(1, RECIPE, ITEMS))
    assert resident.asked == [("recipe", ITEMS)]
    assert isinstance(result, Answered)
    assert set(result.timings) == {"merge", "evaluate"}


@pytest.mark.parametrize(("broken", "stage"), [("recipe", "merge")])
def test_a_merge_that_is_not_finite_fails_as_a_merge(broken, stage):
    assert Resident(broken=broken).evaluate() == Failed(stage, f"{broken} is not finite")
