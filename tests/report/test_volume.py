import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from evomerge.core.pareto import hypervolume
from evomerge.report.volume import Volume, measure

sets = st.integers(2, 4).flatmap(
    lambda m: arrays(
        np.float64,
        st.tuples(st.integers(1, 12), st.just(m)),
        elements=st.floats(0, 1, width=32),
    )
)


@given(sets)
@settings(max_examples=60, deadline=None)
def test_history_is_the_volume_of_each_prefix(points):
    reference = np.full(points.shape[1], 1.1)
    steps, volumes = measure(reference, points, seed=1).history(points)
    expected = [hypervolume(points[:n], reference) for n in steps]
    np.testing.assert_allclose(volumes, expected, rtol=1e-9, atol=1e-12)
    assert steps[-1] == len(points)
    assert (np.diff(volumes) >= -1e-12).all()


def test_long_histories_are_measured_at_a_few_hundred_counts_up_to_the_last():
    points = np.random.default_rng(0).random((5000, 2))
    steps, volumes = measure(np.ones(2), points, seed=1).history(points)
    assert 100 <= len(steps) <= 200
    assert steps[-1] == 5000
    assert volumes[-1] == hypervolume(points, np.ones(2))


def test_sampled_volumes_agree_with_exact_ones():
    rng = np.random.default_rng(3)
    points = rng.random((200, 6))
    sampled = measure(np.full(6, 1.1), points, seed=1, samples=20_000)
    exact = Volume(np.full(6, 1.1), None)
    assert not sampled.exact
    few = points[:12]
    assert abs(sampled.of(few) - exact.of(few)) < 0.03 * exact.of(few)
    _, history = sampled.history(points)
    assert history[-1] == sampled.of(points)
    assert (np.diff(history) >= 0).all()


def test_a_point_beyond_the_reference_adds_no_volume():
    points = np.array([[2.0, 0.0], [0.5, 0.5]])
    assert measure(np.ones(2), points, seed=1).of(points) == 0.25
