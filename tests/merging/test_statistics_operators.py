"""Fisher averaging, RegMean and AIM against their formulas in float64."""

import pytest
import torch

from evomerge.merging.operators.contract import Inputs, MaskKey
from evomerge.merging.operators.registry import OPERATORS

OUT, IN = 6, 9


def merged(name, tensors, statistics=(), *, base=None, once=None, weights=None, **whole):
    operator = OPERATORS[name]
    names = tuple("abcd"[: len(tensors)])
    own = [{} if weights is None else {"weight": weight} for weight in weights or names]
    inputs = Inputs(
        tensors,
        base,
        operator.settings(dict(zip(names, own, strict=True)), whole),
        MaskKey(0, "tensor", names),
        statistics=statistics,
        **({} if once is None else {"once": once}),
    )
    return operator(inputs)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def models() -> list[torch.Tensor]:
    return [drawn(OUT, IN, seed=seed) for seed in (1, 2, 3)]


@pytest.fixture
def inputs() -> list[torch.Tensor]:
    """What each model's layer sees; features differ in size, as those of language models do."""
    return [drawn(40, IN, seed=seed) * torch.logspace(-1, 1, IN) for seed in (4, 5, 6)]


@pytest.fixture
def grams(inputs) -> list[torch.Tensor]:
    return [x.T @ x / len(x) for x in inputs]


@pytest.fixture
def fishers() -> list[torch.Tensor]:
    return [drawn(OUT, IN, seed=seed).square() for seed in (7, 8, 9)]


def mean(tensors, weights=(1, 1, 1)):
    return sum(w * t for w, t in zip(weights, tensors, strict=True)) / sum(weights)


AVERAGING = ["fisher", "regmean"]


@pytest.fixture
def statistics(fishers, grams):
    return {"fisher": fishers, "regmean": grams}


# ---- all that average


@pytest.mark.parametrize("name", AVERAGING)
@pytest.mark.parametrize("weights", [(1, 1, 1), (0.2, 3, 0.5), (0, 1, 1)])
def test_tensors_without_a_statistic_are_averaged_by_weight(name, models, statistics, weights):
    for lacking in ((), (None, None, None), (*statistics[name][:2], None)):
        found = merged(name, models, lacking, weights=weights)
        torch.testing.assert_close(found, mean(models, weights))


@pytest.mark.parametrize("name", AVERAGING)
def test_equal_models_give_themselves(name, models, statistics):
    found = merged(name, [models[0]] * 3, statistics[name])
    torch.testing.assert_close(found, models[0], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", AVERAGING)
def test_one_model_gives_itself_to_the_last_bit(name, models, statistics):
    assert torch.equal(merged(name, models[:1], statistics[name][:1]), models[0])


@pytest.mark.parametrize("name", AVERAGING)
def test_all_weight_on_one_model_gives_that_model(name, models, statistics):
    found = merged(name, models, statistics[name], weights=(0, 2, 0))
    torch.testing.assert_close(found, models[1], atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("name", AVERAGING)
def test_weights_that_are_all_zero_count_as_equal(name, models, statistics):
    found = merged(name, models, statistics[name], weights=(0, 0, 0))
    torch.testing.assert_close(found, merged(name, models, statistics[name]))


@pytest.mark.parametrize("name", AVERAGING)
def test_a_statistic_of_zeros_gives_the_plain_average(name, models, statistics):
    nothing = [torch.zeros_like(tensor) for tensor in statistics[name]]
    torch.testing.assert_close(merged(name, models, nothing), mean(models))


@pytest.mark.parametrize("name", AVERAGING)
def test_the_scale_that_all_statistics_share_does_not_matter(name, models, statistics):
    larger = [tensor * 1000 for tensor in statistics[name]]
    found = merged(name, models, larger, **({"floor": 0.0} if name == "fisher" else {}))
    expected = merged(
        name, models, statistics[name], **({"floor": 0.0} if name == "fisher" else {})
    )
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", [*AVERAGING, "aim"])
@pytest.mark.parametrize("shape", [(), (1,), (7,), (0, 4), (3, 2, 5), (4, 2, 3, 3)])
def test_other_shapes_than_matrices_are_merged_too(name, shape):
    tensors = [drawn(*shape, seed=seed) for seed in (1, 2)]
    base = torch.zeros(shape) if name == "aim" else None
    found = merged(name, tensors, [None] * (1 if base is not None else 2), base=base)
    expected = sum(tensors) / (1 if base is not None else 2)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", AVERAGING)
def test_low_precision_models_are_merged_in_float32(name, models, statistics):
    halves = [model.bfloat16() for model in models]
    found = merged(name, halves, statistics[name])
    expected = merged(name, [half.float() for half in halves], statistics[name])
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)


# ---- Fisher


@pytest.mark.parametrize("weights", [(1, 1, 1), (0.1, 2, 0.7)])
def test_fisher_weighs_every_entry_by_its_information(models, fishers, weights):
    top = sum(w * f.double() * m for w, f, m in zip(weights, fishers, models, strict=True))
    bottom = sum(w * f.double() for w, f in zip(weights, fishers, strict=True))
    found = merged("fisher", models, fishers, weights=weights, floor=0.0)
    torch.testing.assert_close(found.double(), top / bottom, atol=1e-5, rtol=1e-5)


def test_a_large_floor_makes_fisher_the_plain_average(models, fishers):
    found = merged("fisher", models, fishers, floor=1e6)
    torch.testing.assert_close(found, mean(models), atol=1e-4, rtol=1e-4)


def test_fisher_follows_the_only_model_that_knows(models, fishers):
    fishers = [fisher.clone() for fisher in fishers]
    for other in (0, 2):
        fishers[other][2, 3] = 0
    found = merged("fisher", models, fishers, floor=0.0)
    torch.testing.assert_close(found[2, 3], models[1][2, 3])


def test_fisher_of_long_tensors_is_that_of_their_parts():
    """Longer than one block of the work."""
    tensors = [drawn(500, 700, seed=seed) for seed in (1, 2)]
    fishers = [drawn(500, 700, seed=seed).square() for seed in (3, 4)]
    whole = merged("fisher", tensors, fishers)
    part = merged("fisher", [t[400:] for t in tensors], [f[400:] for f in fishers])
    assert torch.equal(whole[400:], part)


# ---- RegMean


def scaled(gram, alpha):
    return alpha * gram + (1 - alpha) * torch.diag(gram.diagonal())


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("weights", [(1, 1, 1), (0.1, 2, 0.7)])
def test_regmean_is_the_closed_form(models, grams, alpha, weights):
    each = [w * scaled(g.double(), alpha) for w, g in zip(weights, grams, strict=True)]
    top = sum(m.double() @ g for m, g in zip(models, each, strict=True))
    expected = top @ torch.linalg.inv(sum(each))
    found = merged("regmean", models, grams, weights=weights, alpha=alpha)
    torch.testing.assert_close(found.double(), expected, atol=1e-3, rtol=1e-3)


def distance(weight, models, inputs) -> float:
    """What RegMean minimises: how far outputs are from those of each model on its inputs."""
    pairs = zip(models, inputs, strict=True)
    return float(sum(((weight - m) @ x.T).square().mean() for m, x in pairs))


def test_regmean_keeps_outputs_as_near_to_the_models_as_can_be(models, grams, inputs):
    found = merged("regmean", models, grams, alpha=1.0)
    least = distance(found, models, inputs)
    assert least < 0.95 * distance(mean(models), models, inputs)
    for seed in range(20):
        assert least < distance(found + 0.01 * drawn(OUT, IN, seed=seed), models, inputs)


def test_inputs_that_are_always_zero_get_the_average(models, inputs):
    for x in inputs:
        x[:, 4] = 0
    found = merged("regmean", models, [x.T @ x / len(x) for x in inputs])
    torch.testing.assert_close(found[:, 4], mean(models)[:, 4])
    assert found.isfinite().all()


@pytest.mark.parametrize("alpha", [0.9, 1.0])
def test_fewer_examples_than_inputs_are_enough(models, inputs, alpha):
    few = [x[:2] for x in inputs]
    found = merged("regmean", models, [x.T @ x / 2 for x in few], alpha=alpha)
    assert found.isfinite().all()
    assert distance(found, models, few) < distance(mean(models), models, few)


def test_a_statistic_of_another_shape_is_no_layers_so_the_tensor_is_averaged(models):
    odd = [torch.eye(IN + 1)] * 3
    torch.testing.assert_close(merged("regmean", models, odd), mean(models))


def test_products_with_gram_matrices_are_made_once_for_all_weights_and_alphas(models, grams):
    kept, made = {}, []

    def once(what, facts, make, model=None):
        if (what, facts, model) not in kept:
            made.append(what)
            kept[what, facts, model] = make()
        return kept[what, facts, model]

    for weights, alpha in (((1, 1, 1), 0.9), ((0.3, 2, 1), 0.9), ((1, 1, 1), 0.2)):
        found = merged("regmean", models, grams, once=once, weights=weights, alpha=alpha)
        anew = merged("regmean", models, grams, weights=weights, alpha=alpha)
        assert torch.equal(found, anew)
    assert len(made) == 1


# ---- AIM


@pytest.fixture
def base() -> torch.Tensor:
    return drawn(OUT, IN, seed=11)


@pytest.fixture
def magnitudes() -> torch.Tensor:
    return drawn(IN, seed=12).abs() * 50


@pytest.mark.parametrize("omega", [0.0, 0.4, 1.0])
def test_aim_relaxes_the_task_vectors_by_the_bases_activations(models, base, magnitudes, omega):
    weights = (0.5, 1, -0.3)
    moved = sum(w * (m - base).double() for w, m in zip(weights, models, strict=True))
    share = 1 - (1 - omega) * (magnitudes / magnitudes.max()).double()
    found = merged(
        "aim", models, (magnitudes,), base=base, weights=weights, omega=omega, **{"lambda": 1.5}
    )
    expected = base.double() + 1.5 * share * moved
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-5)


def test_with_omega_one_aim_is_task_arithmetic(models, base, magnitudes):
    found = merged("aim", models, (magnitudes,), base=base, omega=1.0)
    torch.testing.assert_close(found, merged("task_arithmetic", models, base=base))


def test_aim_without_a_statistic_is_task_arithmetic(models, base):
    for lacking in ((), (None,), (torch.zeros(IN),), (torch.ones(IN + 1),)):
        found = merged("aim", models, lacking, base=base)
        torch.testing.assert_close(found, merged("task_arithmetic", models, base=base))


def test_aim_spares_rows_where_the_weight_is_stored_transposed(models, base):
    magnitudes = drawn(OUT, seed=13).abs()
    found = merged("aim", models, (magnitudes.unsqueeze(1),), base=base)
    turned = merged("aim", [m.T for m in models], (magnitudes,), base=base.T)
    torch.testing.assert_close(found, turned.T)


def test_aim_of_long_tensors_and_of_norms_is_that_of_their_parts():
    base, tensor = drawn(300, 1000, seed=1), drawn(300, 1000, seed=2)
    magnitudes = drawn(1000, seed=3).abs()
    whole = merged("aim", [tensor], (magnitudes,), base=base)
    assert torch.equal(
        whole[250:], merged("aim", [tensor[250:]], (magnitudes,), base=base[250:])
    )
    assert torch.equal(whole[7], merged("aim", [tensor[7]], (magnitudes,), base=base[7]))
