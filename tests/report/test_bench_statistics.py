"""Paired tests over seeds: exact, corrected, and silent where seeds are too few."""

import numpy as np
import pytest
from scipy.stats import wilcoxon

from evomerge.report.bench_statistics import (
    ALPHA,
    compare,
    fewest_seeds,
    holm,
    median_interval,
    signed_rank_p,
)


@pytest.mark.parametrize("seeds", [5, 8, 10, 14, 30])
def test_the_signed_rank_p_is_scipys_where_nothing_ties(seeds):
    differences = np.random.default_rng(seeds).normal(0.3, 1.0, seeds)
    assert signed_rank_p(differences) == pytest.approx(wilcoxon(differences).pvalue, rel=1e-9)


def test_ties_and_zeros_are_enumerated_exactly():
    # Ranks of |d| = 0, 1, 1, 2: 1, 2.5, 2.5, 4. All three signs positive: 2 of 8 sums as far out.
    assert signed_rank_p(np.array([0.0, 1.0, 1.0, 2.0])) == pytest.approx(2 / 8)
    # One rank of 2.5 negative: sums 0, 9 | 2.5, 2.5, 6.5, 6.5 | 4, 5; 6 lie at least so far out.
    assert signed_rank_p(np.array([0.0, -1.0, 1.0, 2.0])) == pytest.approx(6 / 8)
    assert signed_rank_p(np.zeros(6)) == 1.0


def test_holm_steps_down_and_never_decreases():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize(("larger", "judgement"), [(True, "better"), (False, "worse")])
def test_a_clear_difference_is_called_by_its_direction(larger, judgement):
    reference = np.random.default_rng(0).random(10)
    above = reference + 0.1 + 0.01 * np.arange(10)
    clear, same = compare(reference, [above, reference], larger=larger)
    assert clear.judgement == judgement
    assert clear.p_holm == pytest.approx(2 * clear.p)
    assert abs(clear.effect.value) == pytest.approx(0.145)
    assert clear.effect.low <= clear.effect.value <= clear.effect.high
    assert (same.judgement, same.p, same.effect.value) == ("tied", 1.0, 0.0)
    assert (clear.wins, clear.losses) == ((10, 0) if larger else (0, 10))


def test_noise_is_rarely_called_a_difference():
    rng = np.random.default_rng(1)
    called = 0
    for _ in range(300):
        reference, *others = rng.normal(size=(5, 8))
        called += min(holm([signed_rank_p(other - reference) for other in others])) < ALPHA
    assert called / 300 < 0.08


def test_too_few_seeds_can_call_nothing():
    for comparisons in (1, 4, 9):
        seeds = fewest_seeds(comparisons)
        reference = np.zeros(seeds)
        others = [np.arange(1.0, seeds + 1)] * comparisons
        assert compare(reference, others, larger=True)[0].judgement == "better"
        short = [other[1:] for other in others]
        assert compare(reference[1:], short, larger=True)[0].judgement == "tied"


def test_the_interval_of_a_median_is_the_same_every_time_and_holds_it():
    differences = np.random.default_rng(2).normal(0.2, 0.1, 12)
    first, second = median_interval(differences), median_interval(differences)
    assert first == second
    assert first.low < np.median(differences) < first.high
    assert first.low > 0
