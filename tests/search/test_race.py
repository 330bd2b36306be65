"""The race: who is stopped, and whom candidates compete with."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.core.outcomes import Scored
from evomerge.search.race import Rivals, hopeless

LOSSES = st.integers(-6, 6).map(lambda k: k / 8)
ERRORS = st.sampled_from((0.0, 0.01, 0.07, 0.2, 0.6))
CONFIDENCES = st.floats(0.5, 0.999)


def scored(objectives: int = 2):
    several = {"min_size": objectives, "max_size": objectives}
    return st.builds(
        Scored,
        st.lists(LOSSES, **several).map(tuple),
        st.lists(ERRORS, **several).map(tuple),
    )


def beaten_by_one(candidate: Scored, rivals: list[Scored], confidence: float) -> bool:
    """The definition, rival by rival and objective by objective."""
    z = NormalDist().inv_cdf(confidence)
    for rival in rivals:
        enough = differs = 0
        for mine, theirs, error, other in zip(
            candidate.losses,
            rival.losses,
            candidate.standard_errors,
            rival.standard_errors,
            strict=True,
        ):
            enough += mine - theirs >= z * math.sqrt(error**2 + other**2)
            differs += mine > theirs
        if enough == len(candidate.losses) and differs:
            return True
    return False


@given(scored(), st.lists(scored(), max_size=6), CONFIDENCES)
def test_a_candidate_is_stopped_exactly_where_some_rival_beats_it_everywhere(
    candidate, rivals, confidence
):
    assert hopeless(candidate, rivals, confidence) == beaten_by_one(
        candidate, rivals, confidence
    )


@given(scored(), CONFIDENCES)
def test_nobody_is_stopped_without_rivals(candidate, confidence):
    assert not hopeless(candidate, [], confidence)


@given(scored(), st.lists(scored(), max_size=6), CONFIDENCES, st.integers(0, 1))
def test_a_candidate_that_leads_in_one_objective_goes_on(candidate, rivals, confidence, place):
    best = min((rival.losses[place] for rival in rivals), default=0.0)
    losses = list(candidate.losses)
    losses[place] = best - 1e-9
    assert not hopeless(Scored(tuple(losses), candidate.standard_errors), rivals, confidence)


@given(scored(3), st.lists(scored(3), max_size=4), CONFIDENCES, CONFIDENCES)
def test_more_confidence_never_stops_more(candidate, rivals, one, other):
    low, high = sorted((one, other))
    if hopeless(candidate, rivals, high):
        assert hopeless(candidate, rivals, low)


@given(
    scored(), st.lists(scored(), max_size=4), CONFIDENCES, st.tuples(st.floats(0, 3), ERRORS)
)
def test_a_larger_loss_never_saves_a_candidate(candidate, rivals, confidence, more):
    if hopeless(candidate, rivals, confidence):
        worse = tuple(loss + extra for loss, extra in zip(candidate.losses, more, strict=True))
        assert hopeless(Scored(worse, candidate.standard_errors), rivals, confidence)


@given(scored(), st.lists(scored(), max_size=4), scored(), CONFIDENCES)
def test_a_further_rival_never_saves_a_candidate(candidate, rivals, further, confidence):
    if hopeless(candidate, rivals, confidence):
        assert hopeless(candidate, [*rivals, further], confidence)


def test_an_objective_without_error_needs_no_margin_but_something_must_be_worse():
    size = Scored((0.5, 7.0), (0.1, 0.0))
    assert hopeless(size, [Scored((0.1, 7.0), (0.1, 0.0))], 0.9)
    assert not hopeless(size, [Scored((0.1, 7.1), (0.1, 0.0))], 0.9)
    assert not hopeless(size, [Scored((0.5, 7.0), (0.0, 0.0))], 0.5)
    assert hopeless(Scored((3.0,), (0.0,)), [Scored((2.999,), (0.0,))], 0.99)
    assert not hopeless(Scored((3.0,), (0.0,)), [Scored((3.0,), (0.0,))], 0.99)


@pytest.mark.parametrize("confidence", [0.6, 0.75, 0.9, 0.975])
def test_one_that_is_as_good_as_its_rival_is_stopped_as_rarely_as_promised(confidence):
    rng = np.random.default_rng(4)
    errors = (0.03, 0.08)
    stopped = [
        hopeless(
            Scored((rng.normal(0.4, errors[0]),), errors[:1]),
            [Scored((rng.normal(0.4, errors[1]),), errors[1:])],
            confidence,
        )
        for _ in range(3000)
    ]
    assert np.mean(stopped) == pytest.approx(1 - confidence, abs=0.025)


# ---- whom candidates compete with


def rivals_of(added: list[tuple[Scored, int]]) -> Rivals:
    rivals = Rivals()
    for each, generation in added:
        rivals.add(each, generation)
    return rivals


def test_sources_and_baselines_are_rivals_of_the_first_generation():
    source = Scored((0.3, 0.4), (0.0, 0.0))
    assert rivals_of([(source, -1)]).of(0) == [source]


def test_before_anything_is_scored_there_are_no_rivals():
    assert Rivals().of(0) == []


@given(
    st.lists(st.tuples(scored(), st.integers(-1, 3)), max_size=12),
    st.lists(st.tuples(scored(), st.integers(2, 4)), max_size=6),
)
def test_a_generation_races_only_against_those_before_it(before, later):
    earlier = [(each, when) for each, when in before if when < 2]
    expected = rivals_of(earlier).of(2)
    assert rivals_of([*earlier, *later]).of(2) == expected
    growing = rivals_of(earlier)
    assert growing.of(2) == expected
    for each, when in later:
        growing.add(each, when)
    assert growing.of(2) == expected


@given(
    st.lists(st.tuples(scored(1), st.integers(-1, 1)), max_size=10),
    st.lists(scored(1), min_size=1, max_size=5),
    CONFIDENCES,
    st.data(),
)
def test_the_order_in_which_trials_finish_decides_no_race(added, candidates, confidence, data):
    shuffled = data.draw(st.permutations(added))
    one, other = rivals_of(added).of(2), rivals_of(shuffled).of(2)
    for candidate in candidates:
        assert hopeless(candidate, one, confidence) == hopeless(candidate, other, confidence)


def test_of_equals_the_surer_one_counts_whenever_it_came():
    vague, sure = Scored((0.2, 0.2), (0.3, 0.3)), Scored((0.2, 0.2), (0.0, 0.0))
    candidate = Scored((0.3, 0.3), (0.05, 0.05))
    for added in ([(vague, 0), (sure, 0)], [(sure, 0), (vague, 0)]):
        assert hopeless(candidate, rivals_of(added).of(1), 0.9)


@given(st.lists(scored(), min_size=1, max_size=10))
def test_rivals_are_undominated_and_whoever_is_not_is_among_them(added):
    found = rivals_of([(each, 0) for each in added]).of(1)
    for each in added:
        dominated = any(
            all(o <= m for o, m in zip(other.losses, each.losses, strict=True))
            and other.losses != each.losses
            for other in added
        )
        assert (each in found) == (not dominated)
