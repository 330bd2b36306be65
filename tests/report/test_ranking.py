"""Which results of a study come first when it hands its models on."""

import numpy as np
import pytest

from evomerge.core.pareto import hypervolume, reference_point
from evomerge.report.final_phase import constraint_estimates, estimates
from evomerge.report.ranking import ranked, spread_order
from evomerge.report.split_responses import SplitResponses
from evomerge.report.study_facts import read_facts
from evomerge.store.study_store import StudyStore


def looked_at(run_dir):
    with StudyStore.open(run_dir, read_only=True) as store:
        facts = read_facts(store)
        answered = SplitResponses(store, facts)
        order = ranked(store, facts)
        responses = [answered.of(trial, "validation") for trial in order]
    scores = [estimates(facts.objectives, t, r) for t, r in zip(order, responses, strict=True)]
    signs = [objective.sign for objective in facts.objectives]
    losses = np.array([[e.value for e in row] for row in scores]) * signs
    return facts, order, responses, losses


def test_with_one_objective_the_best_on_validation_items_come_first(build):
    facts, order, _, losses = looked_at(build(objectives=1))
    assert {trial.number for trial in order} == set(facts.finalists["validation"])
    assert list(losses[:, 0]) == sorted(losses[:, 0])


@pytest.mark.parametrize("gain", [0.35, -0.5])
def test_of_equal_scores_a_source_comes_before_a_candidate(build, gain):
    _, order, _, losses = looked_at(build(objectives=1, gain=gain))
    kinds = {"source": 0, "baseline": 1, "candidate": 2}
    for k in range(len(order) - 1):
        if losses[k, 0] == losses[k + 1, 0]:
            assert kinds[order[k].kind] <= kinds[order[k + 1].kind]
    if gain < 0:
        assert order[0].kind != "candidate"


def test_with_several_objectives_nothing_comes_before_what_dominates_it(build):
    _, order, _, losses = looked_at(build(objectives=2))
    assert order[0].kind == "candidate"
    for early in range(len(order)):
        for late in range(early + 1, len(order)):
            better = (losses[late] <= losses[early]).all() and (
                losses[late] < losses[early]
            ).any()
            assert not better


def test_what_misses_a_constraint_comes_after_everything_that_meets_it(build):
    facts, order, responses, _ = looked_at(build(objectives=2, guard=0.6))
    missed = [
        sum(
            constraint.violation(estimate)
            for constraint, estimate in zip(
                facts.constraints, constraint_estimates(facts.constraints, t, r), strict=True
            )
        )
        for t, r in zip(order, responses, strict=True)
    ]
    assert 0 < sum(m > 0 for m in missed) < len(missed)
    first = next(k for k, m in enumerate(missed) if m > 0)
    assert missed[first:] == sorted(missed[first:])
    assert all(m > 0 for m in missed[first:])


def test_an_order_begins_balanced_and_adds_what_is_worth_most():
    points = np.array([[0.0, 1.0], [0.05, 0.95], [0.4, 0.5], [1.0, 0.0], [0.45, 0.48]])
    order = spread_order(points)
    assert sorted(order) == [0, 1, 2, 3, 4]
    assert order[0] == 4  # whose larger shortfall, 0.48, is the smallest
    reference = reference_point(points)
    added = [hypervolume(points[[order[0], k]], reference) for k in range(5)]
    assert order[1] == int(np.argmax(added))
    assert spread_order(points[:1]) == [0]
    assert spread_order(points[:0]) == []
