"""Every operator against its formula, written out slowly in numpy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from merging import formulas

from evomerge.core.errors import ConfigError, TrialError
from evomerge.merging.operators.contract import Inputs, MaskKey, Operator
from evomerge.merging.operators.random_masks import bound, mask_stream, numbers
from evomerge.merging.operators.registry import OPERATORS, operator

KEY = MaskKey(3, "model.layers.0.mlp.up_proj.weight", ("a", "b", "c"))
# Multiples of 1/64 make equal magnitudes and exact sums common, where operators go wrong.
ENTRIES = st.lists(
    st.tuples(*[st.integers(-128, 128).map(lambda n: n / 64)] * 4), min_size=1, max_size=40
)
WEIGHTS = st.tuples(*[st.integers(1, 16).map(lambda n: n / 8)] * 3)
DENSITIES = st.tuples(*[st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.9, 1.0])] * 3)


def merged(name, models, base=None, per_model=(), whole=None, key=KEY):
    found = operator(name)
    tensors = [torch.tensor(m, dtype=torch.float32) for m in models]
    origin = None if base is None else torch.tensor(base, dtype=torch.float32)
    names = "abc"[: len(models)]
    own = dict(zip(names, per_model or [{}] * len(models), strict=True))
    settings_ = found.settings(own, whole or {})
    return found(Inputs(tensors, origin, settings_, key)).numpy()


def random_mask(entries, density, model):
    drawn = numbers(torch.zeros(entries), mask_stream(KEY.seed, KEY.tensor, model)).numpy()
    return drawn < bound(density) if density < 1 else np.ones(entries, dtype=bool)


def columns(entries):
    rows = np.array(entries, dtype=np.float32).T
    return list(rows[:3]), rows[3]


@given(ENTRIES, WEIGHTS, st.booleans())
def test_linear_is_the_weighted_mean_or_sum(entries, weights, normalize):
    models, _ = columns(entries)
    got = merged(
        "linear", models, None, [{"weight": w} for w in weights], {"normalize": normalize}
    )
    np.testing.assert_allclose(got, formulas.linear(models, weights, normalize), atol=2e-6)


@given(ENTRIES, st.floats(0, 1))
def test_slerp_follows_the_arc_between_two_tensors(entries, t):
    (a, b, _), _ = columns(entries)
    if not (a.any() and b.any()) or np.isclose(
        abs(np.dot(a, b)) / np.linalg.norm(a) / np.linalg.norm(b), 0.9995, atol=1e-5
    ):
        return
    want = formulas.slerp(a.astype(np.float64), b.astype(np.float64), t)
    np.testing.assert_allclose(merged("slerp", [a, b], whole={"t": t}), want, atol=2e-4)


def test_slerp_of_nearly_parallel_tensors_is_linear():
    a = np.linspace(1, 2, 50, dtype=np.float32)
    b = a * 2 + np.float32(1e-3)
    np.testing.assert_allclose(merged("slerp", [a, b], whole={"t": 0.25}), 0.75 * a + 0.25 * b)


@pytest.mark.parametrize("end", [0, 1])
def test_slerp_at_its_ends_gives_the_models_themselves(end):
    models = [np.float32([0.3, -7, 0.1]), np.float32([5, 0.7, 0.9])]
    np.testing.assert_array_equal(merged("slerp", models, whole={"t": end}), models[end])


def test_slerp_with_a_zero_tensor_is_linear():
    got = merged("slerp", [np.float32([0, 0]), np.float32([2, 4])], whole={"t": 0.5})
    np.testing.assert_array_equal(got, [1, 2])


@given(ENTRIES, WEIGHTS, st.floats(-2, 2), st.booleans())
def test_task_arithmetic_adds_weighted_task_vectors(entries, weights, scale, normalize):
    models, base = columns(entries)
    got = merged(
        "task_arithmetic",
        models,
        base,
        [{"weight": w} for w in weights],
        {"lambda": scale, "normalize": normalize},
    )
    want = formulas.task_arithmetic(models, base, weights, scale, normalize)
    np.testing.assert_allclose(got, want, atol=2e-5)


@given(ENTRIES, WEIGHTS, DENSITIES, st.floats(-2, 2), st.booleans())
@settings(max_examples=200)
def test_ties_trims_elects_and_averages(entries, weights, densities, scale, normalize):
    models, base = columns(entries)
    got = merged(
        "ties",
        models,
        base,
        [{"weight": w, "density": d} for w, d in zip(weights, densities, strict=True)],
        {"lambda": scale, "normalize": normalize},
    )
    want = formulas.ties(models, base, weights, densities, scale, normalize)
    np.testing.assert_allclose(got, want, atol=3e-5)


@given(ENTRIES, WEIGHTS, DENSITIES, st.floats(-2, 2), st.booleans())
def test_dare_ties_drops_rescales_and_elects(entries, weights, densities, scale, normalize):
    # One power of two a model keeps the sum's sign clear of the rescaling's rounding.
    models, base = columns([(a, b * 4.1, c * 16.7, o) for a, b, c, o in entries])
    masks = [random_mask(len(base), d, n) for d, n in zip(densities, "abc", strict=True)]
    got = merged(
        "dare_ties",
        models,
        base,
        [{"weight": w, "density": d} for w, d in zip(weights, densities, strict=True)],
        {"lambda": scale, "normalize": normalize},
    )
    want = formulas.dare_ties(models, base, weights, masks, scale, normalize)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-3)


def test_ties_keeps_the_election_of_the_trimmed_not_of_the_whole_vectors():
    base = np.zeros(2, dtype=np.float32)
    models = [np.float32([1, 10]), np.float32([-3, 20]), np.float32([1.5, 30])]
    per_model = [{"density": 0.5}, {"density": 1.0}, {"density": 0.5}]
    np.testing.assert_allclose(merged("ties", models, base, per_model), [-3, 20])


def test_a_sum_of_zero_elects_the_positive_sign():
    got = merged("ties", [np.float32([2]), np.float32([-2])], np.float32([0]), [{}, {}])
    np.testing.assert_array_equal(got, [2])


def test_ties_with_no_models_left_is_the_base():
    base = np.float32([1, 2, 3])
    found = operator("ties")
    inputs = Inputs([], torch.tensor(base), found.settings({}, {}), MaskKey(0, "x", ()))
    got = found(inputs)
    np.testing.assert_array_equal(got.numpy(), base)


def test_lambda_scales_what_normalized_weights_cannot():
    models, base = [np.float32([2, 4])], np.float32([0, 0])
    doubled = merged("ties", models, base, [{"weight": 2.0}])
    np.testing.assert_array_equal(doubled, [2, 4])
    np.testing.assert_array_equal(
        merged("ties", models, base, [{"weight": 2.0}], {"lambda": 2.0}), [4, 8]
    )


def test_weights_that_sum_to_zero_fail_the_trial_by_name():
    with pytest.raises(TrialError, match=r"up_proj.*sum to 0"):
        merged("linear", [np.ones(2), np.ones(2)], None, [{"weight": 1.0}, {"weight": -1.0}])


def test_an_unknown_operator_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'dare_ties'"):
        operator("dare-ties")


@pytest.mark.parametrize(
    ("per_model", "whole", "message"),
    [
        ({"wieght": 1.0}, {}, "did you mean 'weight'"),
        ({"density": 1.5}, {}, "density must be a finite number from 0 to 1"),
        ({"density": True}, {}, "density must be a number"),
        ({"weight": float("nan")}, {}, "weight must be a finite number"),
        ({"lambda": 1.0}, {}, "'lambda' belongs to the merge as a whole"),
        ({}, {"lamda": 1.0}, "did you mean 'lambda'"),
        ({}, {"normalize": 1}, "normalize must be true or false"),
    ],
)
def test_wrong_parameters_are_named(per_model, whole, message):
    with pytest.raises(ConfigError, match=message):
        OPERATORS["ties"].settings({"a": per_model}, whole)


def test_a_per_model_parameter_given_for_the_whole_holds_for_models_without_one():
    filled = OPERATORS["ties"].settings({"a": {"density": 0.2}, "b": {}}, {"density": 0.7})
    assert filled.of_models("density") == [0.2, 0.7]


@pytest.mark.parametrize(
    ("merge", "message"),
    [
        (lambda inputs: None, "operator mine .* failed: TypeError"),
        (lambda inputs: [(slice(0, 3), torch.zeros(3))], "gave 3 of 8 entries"),
        (
            lambda inputs: [(slice(0, 8), torch.zeros(5))],
            "operator mine .* failed: RuntimeError",
        ),
    ],
)
def test_a_foreign_operator_s_mistake_fails_the_trial_and_names_it(merge, message):
    mine = Operator("mine", "an operator of others", merge, (), "none")
    inputs = Inputs(
        [torch.ones(8)], None, mine.settings({"a": {}}, {}), MaskKey(0, "t", ("a",))
    )
    with pytest.raises(TrialError, match=message):
        mine(inputs)
