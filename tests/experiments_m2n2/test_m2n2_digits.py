"""The M2N2 test-bed's rules, against formulas written out naively."""

import math

import numpy as np
import pytest

from experiments.m2n2_digits import digits_network, methods
from experiments.m2n2_digits.methods import Bed, Budget, EliteGrid, NicheRules
from experiments.m2n2_digits.niches import (
    NicheArchive,
    attraction,
    pick,
    pick_parents,
    shared_fitness,
    worst,
)
from experiments.m2n2_digits.published_seeds import published_networks, threefry
from experiments.m2n2_digits.split_slerp import split_slerp

SCORES = np.array([[1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 0]], np.float32)


def naive_split_slerp(x: np.ndarray, y: np.ndarray, cut: int, weight: float) -> np.ndarray:
    angle = math.acos(np.dot(x, y) / (np.linalg.norm(x) * np.linalg.norm(y)))
    child = []
    for place in range(len(x)):
        share = weight if place < cut else 1 - weight
        first = math.sin((1 - share) * angle) / math.sin(angle)
        second = math.sin(share * angle) / math.sin(angle)
        child.append(first * x[place] + second * y[place])
    return np.array(child)


@pytest.mark.parametrize("cut", [0, 1, 40, 99, 100])
@pytest.mark.parametrize("weight", [0.0, 0.3, 0.5, 1.0])
def test_split_slerp_equals_the_formula_coordinate_by_coordinate(
    cut: int, weight: float
) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 100))
    child = split_slerp(x, y, cut, weight)
    np.testing.assert_allclose(child, naive_split_slerp(x, y, cut, weight), atol=1e-12)


def test_split_slerp_takes_the_first_parent_before_the_cut_at_weight_zero() -> None:
    x, y = np.random.default_rng(1).normal(size=(2, 6)).astype(np.float32)
    np.testing.assert_allclose(split_slerp(x, y, 2, 0.0), [*x[:2], *y[2:]], atol=1e-12)


@pytest.mark.parametrize("factor", [2.0, -1.0, 0.0], ids=["parallel", "opposite", "zero"])
def test_split_slerp_interpolates_linearly_where_the_angle_has_no_sine(factor: float) -> None:
    x = np.arange(1.0, 5.0)
    np.testing.assert_allclose(
        split_slerp(x, factor * x, 3, 0.25),
        np.array([0.75 + 0.25 * factor] * 3 + [0.25 + 0.75 * factor]) * x,
        atol=1e-12,
    )


def test_split_slerp_refuses_a_cut_outside_and_vectors_of_two_lengths() -> None:
    with pytest.raises(ValueError, match=r"0\.\.3, got 4"):
        split_slerp(np.ones(3), np.ones(3), 4, 0.5)
    with pytest.raises(ValueError, match=r"\(3,\) and \(4,\)"):
        split_slerp(np.ones(3), np.ones(4), 1, 0.5)


def test_a_data_point_is_shared_by_all_who_get_it_right() -> None:
    np.testing.assert_allclose(shared_fitness(SCORES, 1.0), [1 / 3 + 1, 1 / 3 + 1, 1 / 3])


def test_alpha_zero_counts_right_answers() -> None:
    np.testing.assert_array_equal(shared_fitness(SCORES, 0.0), [2, 2, 1])


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("parent", [0, 1, 2])
def test_attraction_is_what_another_adds_to_the_parent(alpha: float, parent: int) -> None:
    shares = SCORES / np.maximum(SCORES.sum(axis=0), 1) ** alpha
    expected = np.maximum(0, shares - shares[parent]).sum(axis=1)
    np.testing.assert_allclose(attraction(SCORES, parent, alpha), expected, rtol=1e-6)


def test_parents_come_by_fitness_and_then_by_attraction() -> None:
    rng = np.random.default_rng(0)
    drawn = [pick_parents(SCORES, 1.0, rng, attracted=True)[:2] for _ in range(3000)]
    firsts = np.bincount([first for first, _ in drawn], minlength=3) / len(drawn)
    np.testing.assert_allclose(firsts, np.array([4, 4, 1]) / 9, atol=0.03)
    assert {second for first, second in drawn if first == 0} == {1}
    assert {second for first, second in drawn if first == 2} == {0, 1}


def test_a_parent_that_nobody_adds_to_is_paired_by_fitness() -> None:
    rng = np.random.default_rng(0)
    scores = np.array([[1, 1, 1], [1, 0, 0], [0, 0, 0]], np.float32)
    drawn = [pick_parents(scores, 1.0, rng, attracted=True) for _ in range(500)]
    guarded = [second for first, second, unattracted in drawn if unattracted]
    assert all(unattracted == (first == 0) for first, _, unattracted in drawn)
    assert set(guarded) == {0, 1}
    assert guarded.count(0) > guarded.count(1)


def test_an_archive_that_gets_nothing_right_still_yields_parents() -> None:
    rng = np.random.default_rng(0)
    scores = np.zeros((3, 4), np.float32)
    firsts = {pick_parents(scores, 1.0, rng, attracted=True)[0] for _ in range(100)}
    assert firsts == {0, 1, 2}


def test_nothing_is_picked_from_zero_weights() -> None:
    rng = np.random.default_rng(0)
    assert pick(np.zeros(3, np.float32), rng) is None
    assert {pick(np.array([0, 1, 0], np.float32), rng) for _ in range(50)} == {1}


def test_a_newcomer_drives_out_the_first_of_the_worst() -> None:
    archive = NicheArchive(3, 2, 4, alpha=1.0)
    for place, score in enumerate(SCORES):
        assert archive.insert(np.full(2, place, np.float32), score)
    assert archive.insert(np.full(2, 9, np.float32), np.array([0, 0, 0, 1], np.float32))
    np.testing.assert_array_equal(archive.weights[:, 0], [0, 1, 9])
    np.testing.assert_array_equal(archive.scores[2], [0, 0, 0, 1])


def test_the_worst_newcomer_leaves_the_archive_as_it_is() -> None:
    archive = NicheArchive(2, 2, 4, alpha=1.0)
    for score in SCORES[:2]:
        archive.insert(np.ones(2, np.float32), score)
    assert not archive.insert(np.zeros(2, np.float32), SCORES[2])
    np.testing.assert_array_equal(archive.scores, SCORES[:2])


def test_sharing_keeps_a_rare_skill_that_counting_drops() -> None:
    scores = np.array([[1, 1, 0], [1, 1, 0], [1, 1, 0], [0, 0, 1]], np.float32)
    assert worst(scores, alpha=0.0) == 3
    assert worst(scores, alpha=1.0) == 0


def test_a_perfect_network_has_a_cell_of_the_grid() -> None:
    labels = np.arange(10, dtype=np.int64)
    grid = EliteGrid(labels)
    grid.insert(np.ones(digits_network.DIMENSION, np.float32), np.ones(10, np.float32))
    grid.insert(np.zeros(digits_network.DIMENSION, np.float32), np.zeros(10, np.float32))
    assert np.flatnonzero(grid.qualities).tolist() == [99]


def test_the_grader_agrees_with_the_network_written_out() -> None:
    digits = digits_network.load()[1]
    flat = digits_network.random_network(np.random.default_rng(3)).astype(np.float64)
    inward, bias, outward, last = np.split(flat, [16384, 16640, 19200])
    hidden = np.maximum(digits.images[:, :64] @ inward.reshape(64, 256) + bias, 0)
    answers = (hidden @ outward.reshape(256, 10) + last).argmax(axis=1)
    right = digits_network.Grader(digits).right(flat.astype(np.float32))
    assert len(right) == 360
    np.testing.assert_array_equal(right, answers == digits.labels)


def test_threefry_passes_the_known_answer_of_its_authors() -> None:
    everything = np.full((2, 1), 0xFFFFFFFF, np.uint32)
    words = threefry(everything[:, 0], everything)
    assert [hex(word) for word in words[:, 0]] == ["0x1cb996fc", "0xbb002be7"]


def test_the_published_networks_are_those_that_jax_draws() -> None:
    first, second = published_networks()
    places = [0, 1, 9605, 19209]
    drawn_by_jax = [
        [-0.003350799, 0.010188495, -0.007268857, -0.000881198],
        [0.010514723, -0.000680246, -0.004264875, 0.011557181],
    ]
    np.testing.assert_allclose([first[places], second[places]], drawn_by_jax, atol=1e-7)


def run(seed: int) -> list[methods.Progress]:
    rng = np.random.default_rng(9)
    seeds = digits_network.random_network(rng), digits_network.random_network(rng)
    bed = Bed(*digits_network.load(), seeds)
    budget = Budget(evaluations=90, every=30)
    return list(methods.niches(bed, NicheRules(), 0.01, budget, np.random.default_rng(seed)))


def test_a_run_repeats_for_its_seed_and_learns() -> None:
    progress = run(1)
    assert progress == run(1)
    assert progress != run(2)
    assert [item.evaluations for item in progress] == [30, 60, 90]
    assert progress[-1].train > progress[0].train
