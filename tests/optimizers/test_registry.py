"""Optimizers by name, and what is said about wrong names, options and objectives."""

import subprocess
import sys
from dataclasses import FrozenInstanceError, fields

import pytest

from evomerge.core.errors import ConfigError
from evomerge.optimizers.registry import OPTIMIZERS, check_options, make_optimizer
from evomerge.optimizers.search_problem import SearchProblem
from evomerge.spaces.genes import FloatGene

GENES = [FloatGene("g", 0.0, 1.0)]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_is_made_with_its_defaults(name):
    assert check_options(name, {}, 1, 1) == []
    assert len(make_optimizer(name, {}, SearchProblem(GENES, 1, 0)).ask(1)) == 1


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_option_has_a_description_and_cannot_be_changed(name):
    options = OPTIMIZERS[name].options()
    for field in fields(options):
        assert type(options).__pydantic_fields__[field.name].description
        with pytest.raises((FrozenInstanceError, AttributeError)):
            setattr(options, field.name, 1)


def test_an_unknown_optimizer_is_answered_with_the_nearest():
    (problem,) = check_options("cma-es", {}, 1, 1)
    assert problem.startswith(
        "optimizer.name: unknown optimizer 'cma-es'; did you mean 'cma_es'?"
    )


def test_an_unknown_option_is_answered_with_the_nearest():
    (problem,) = check_options("cma_es", {"sigm": 0.1}, 1, 1)
    assert problem.startswith(
        "optimizer.sigm: unknown option of cma_es 'sigm'; did you mean 'sigma'?"
    )


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"population": 2}, "optimizer.population: Input should be greater than or equal to 4"),
        ({"population": "24"}, "optimizer.population: Input should be a valid integer"),
        ({"population": True}, "optimizer.population: Input should be a valid integer"),
        ({"population": 24.5}, "optimizer.population: Input should be a valid integer"),
        (
            {"crossover_probability": 1.5},
            "optimizer.crossover_probability: Input should be less",
        ),
        ({"mutation_eta": float("nan")}, "optimizer.mutation_eta: Input should be"),
    ],
    ids=str,
)
def test_a_value_out_of_range_or_of_the_wrong_type_is_named(options, named):
    (problem,) = check_options("nsga2", options, 1, 1)
    assert problem.startswith(named)
    assert f"got {next(iter(options.values()))!r}" in problem


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("nsga2", {"asynchronous": True, "ahead": 3}, "'asynchronous' needs nothing proposed"),
        ("de", {"scale_low": 1.0, "scale_high": 0.5}, "'scale_low', 1, must not be above"),
        ("map_surrogate", {"preference": [1.0]}, "'preference' has an effect with 'nested"),
    ],
)
def test_options_that_do_not_go_together_are_told_in_one_plain_sentence(name, options, said):
    (problem,) = check_options(name, options, 1, 1)
    assert problem.startswith(f"optimizer: {said}")
    assert "ArgsKwargs" not in problem
    assert "Value error" not in problem


def test_a_whole_number_does_for_a_real_option():
    assert check_options("nsga2", {"crossover_eta": 20}, 1, 1) == []


def test_all_problems_are_reported_at_once():
    problems = check_options("cma_es", {"sigm": 1, "population": 1, "sigma": 0.0}, 0, 3)
    assert [p.partition(":")[0] for p in problems] == [
        "optimizer.sigm",
        "optimizer.population",
        "optimizer.sigma",
        "space",
        "optimizer.name",
    ]


def test_several_objectives_with_cma_es_say_what_to_do():
    with pytest.raises(ConfigError, match=r"use nsga2, or make them one objective.*'tasks:'"):
        make_optimizer("cma_es", {}, SearchProblem(GENES, 2, 0))


def test_six_objectives_with_nsga2_say_what_to_do():
    with pytest.raises(ConfigError, match="at most 5 objectives, found 6; join some"):
        make_optimizer("nsga2", {}, SearchProblem(GENES, 6, 0))


def test_make_optimizer_raises_with_every_problem():
    with pytest.raises(ConfigError) as caught:
        make_optimizer("nsga2", {"popula": 3, "mutation_eta": 0}, SearchProblem(GENES, 1, 0))
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize(
    ("module", "not_loaded"),
    [
        ("registry", {"pymoo", "cma"}),
        ("designs.random_search", {"pymoo", "cma"}),
        ("cma_es.cma_es", {"pymoo"}),
        ("genetic.nsga2", {"cma"}),
    ],
)
def test_an_optimizer_loads_no_library_of_another(module, not_loaded):
    code = f"import evomerge.optimizers.{module}, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert not not_loaded & set(done.stdout.split())
