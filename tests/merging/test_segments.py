"""The segments operator: weighted sums by runs of rows."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evomerge.core.errors import ConfigError, TrialError
from evomerge.core.recipe import Recipe, Rule, Source
from evomerge.merging.operators.contract import Inputs, MaskKey
from evomerge.merging.operators.linear import LINEAR
from evomerge.merging.operators.segments import SEGMENTS
from evomerge.merging.recipe_check import validate_recipe
from evomerge.recipes.to_mergekit import recipe_to_mergekit
from evomerge.spaces.splits_noise import normals


def inputs(tensors, models, whole=None, operator=SEGMENTS, name="tensor"):
    names = tuple("abcdef"[: len(tensors)])
    settings = operator.settings(dict(zip(names, models, strict=True)), whole or {})
    return Inputs(tensors, None, settings, MaskKey(0, name, names))


def random_tensors(*shape, count=3, dtypes=(torch.float32,)):
    generator = torch.Generator().manual_seed(1)
    made = [torch.randn(shape, generator=generator) for _ in range(count)]
    return [tensor.to(dtypes[k % len(dtypes)]) for k, tensor in enumerate(made)]


@given(
    rows=st.integers(1, 12),
    data=st.data(),
    mixed=st.booleans(),
)
def test_each_run_of_rows_is_the_plain_weighted_sum(rows, data, mixed):
    dtypes = (torch.float32, torch.bfloat16, torch.float16) if mixed else (torch.float32,)
    tensors = random_tensors(rows, 3, 2, dtypes=dtypes)
    cuts = data.draw(st.lists(st.integers(1, rows), unique=True, max_size=4).map(sorted))
    cuts = tuple(c for c in cuts if c < rows)
    number = st.floats(-2, 2, width=32) | st.sampled_from([0.0, 1.0])
    size = len(cuts) + 1
    weights = [tuple(data.draw(st.lists(number, min_size=size, max_size=size))) for _ in "abc"]
    found = SEGMENTS(inputs(tensors, [{"weight": w} for w in weights], {"cuts": cuts}))
    ends = [0, *cuts, rows]
    for k in range(size):
        part = slice(ends[k], ends[k + 1])
        wanted = sum(w[k] * t[part].double() for w, t in zip(weights, tensors, strict=True))
        torch.testing.assert_close(found[part].double(), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_without_cuts_it_is_linear_to_the_bit(dtype):
    tensors = random_tensors(40, 70, dtypes=(dtype,))
    weights = (0.2, -0.7, 1.3)
    one = SEGMENTS(inputs(tensors, [{"weight": (w,)} for w in weights]))
    other = inputs(tensors, [{"weight": w} for w in weights], {"normalize": False}, LINEAR)
    assert torch.equal(one, LINEAR(other))


def test_the_compiled_and_the_tensor_way_give_the_same_bits():
    tensors = random_tensors(40, 70, dtypes=(torch.bfloat16,))
    call = inputs(
        tensors, [{"weight": (0.2, 0.0)}, {"weight": (0.5, 0.4)}, {"weight": (0.3, 0.6)}],
        {"cuts": (13,)},
    )  # fmt: skip
    blocks = SEGMENTS.merge(call)
    written = torch.empty(2800, dtype=torch.bfloat16)
    assert blocks.write(written, torch.bfloat16) is not None
    listed = torch.empty_like(written)
    for block, row in blocks:
        listed[block] = row.to(torch.bfloat16)
    difference = (written.float() - listed.float()).abs()
    assert float((difference / listed.float().abs().clamp_min(1e-3)).max()) <= 2**-7


def test_noise_is_added_by_seed_tensor_and_segment():
    tensors = random_tensors(6, 5, count=2)
    whole = {"cuts": (2,), "noise_seeds": (9, 11), "noise": (0.1, 0.0, 0.2, -0.3)}
    found = SEGMENTS(inputs(tensors, [{"weight": (1.0,)}, {"weight": (0.0,)}], whole, name="t"))
    nine, eleven = (torch.tensor(normals(seed, "t", 0, 30)).view(6, 5) for seed in (9, 11))
    wanted = tensors[0].double() + 0.1 * nine
    wanted[2:] = tensors[0][2:].double() + 0.2 * nine[2:] - 0.3 * eleven[2:]
    torch.testing.assert_close(found.double(), wanted, rtol=1e-6, atol=1e-6)


def test_nan_in_a_model_that_weighs_nothing_there_does_no_harm_and_elsewhere_is_named():
    tensors = random_tensors(4, 3, count=2)
    tensors[1][3, 0] = float("nan")
    weights = [{"weight": (1.0, 1.0)}, {"weight": (1.0, 0.0)}]
    assert SEGMENTS(inputs(tensors, weights, {"cuts": (2,)})).isfinite().all()
    weights[1] = {"weight": (0.0, 1.0)}
    with pytest.raises(TrialError, match="tensor: segments of a, b gives NaN"):
        SEGMENTS(inputs(tensors, weights, {"cuts": (2,)}))


def test_a_cut_beyond_the_last_row_names_the_tensor():
    with pytest.raises(TrialError, match="tensor: segments: a cut before row 4, but it has 4"):
        SEGMENTS(inputs(random_tensors(4, 3), [{}, {}, {}], {"cuts": (4,)}))
    with pytest.raises(TrialError, match="it has 1 rows"):
        SEGMENTS(inputs(random_tensors(4), [{}, {}, {}], {"cuts": (2,)}))


@pytest.mark.parametrize(
    ("own", "whole", "message"),
    [
        ({"weight": 0.5}, {}, "weight must be a list of numbers, got 0.5"),
        ({"weight": (0.5, float("inf"))}, {}, "weight must be a finite number, got inf"),
        ({"weight": (1.0, 2.0)}, {}, "0 cuts make 1 segments"),
        ({"weight": (1.0, 2.0)}, {"cuts": (3, 5)}, "weight has 1 or 3 numbers"),
        ({}, {"cuts": (3, 3)}, "ascending row numbers from 1 on"),
        ({}, {"cuts": (0,)}, "ascending row numbers from 1 on"),
        ({}, {"cuts": (1.5,)}, "must be whole numbers"),
        ({}, {"noise_seeds": (1,)}, "1 segments × 1 noise_seeds numbers, got 0"),
        ({}, {"noise_seeds": (-1,), "noise": (0.1,)}, "noise_seeds must be a finite number"),
    ],
)
def test_what_does_not_go_together_is_refused_before_a_merge(own, whole, message):
    with pytest.raises(ConfigError) as caught:
        SEGMENTS.settings({"a": own}, whole)
    assert message in str(caught.value)
    recipe = Recipe((Source("a", "a"),), (Rule("segments", {"a": own}, whole),))
    (problem,) = validate_recipe(recipe)
    assert message in problem


def test_mergekit_is_said_not_to_have_it():
    recipe = Recipe((Source("a", "a"),), (Rule("segments", {"a": {"weight": (1.0,)}}),))
    with pytest.raises(ConfigError, match="'segments'"):
        recipe_to_mergekit(recipe, lambda _: ["w"])
