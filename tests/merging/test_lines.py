"""LiNeS: the merged task vector grows from the first layer to the last."""

import numpy as np
import pytest
from merging.operator_calls import fine_tunes, merged

from evomerge.merging.operators.registry import OPERATORS

GROWING = [
    name
    for name, operator in OPERATORS.items()
    if any(parameter.name == "lines" for parameter in operator.parameters)
]


@pytest.mark.parametrize(
    ("depth", "factor"), [(0.0, 0.5), (0.25, 0.75), (1.0, 1.5), (None, 0.5)]
)
def test_task_arithmetic_scales_by_lambda_plus_lines_times_depth(depth, factor):
    base, models = fine_tunes((6, 9))
    got = merged(
        "task_arithmetic", models, base, whole={"lambda": 0.5, "lines": 1.0}, depth=depth
    )
    want = base + factor * sum(model - base for model in models)
    np.testing.assert_allclose(got, want, atol=1e-6)


@pytest.mark.parametrize("name", GROWING)
def test_growth_composes_with_every_operator_that_has_it(name):
    base, models = fine_tunes((6, 9), count=min(3, OPERATORS[name].max_models or 3))
    models = [model + 0.3 for model in models]  # some changes are common to all
    grown = merged(name, models, base, whole={"lambda": 0.25, "lines": 1.5}, depth=0.5)
    plain = merged(name, models, base, whole={"lambda": 1.0})
    assert np.abs(plain - base.numpy()).max() > 5e-5
    np.testing.assert_allclose(grown, plain, atol=1e-6)


@pytest.mark.parametrize(
    "name",
    [
        "task_arithmetic",
        "ties",
        "dare_ties",
        "pcb",
        "consensus_ta",
        "emr",
        "widen",
        "tsv_m",
        "iso_c",
        "iso_cts",
        "wudi",
        "star",
        "dc_merge",
    ],
)
def test_operators_on_task_vectors_have_it(name):
    assert name in GROWING
