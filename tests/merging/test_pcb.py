"""PCB-Merging against its formula in numpy."""

import numpy as np
import pytest
import torch
from merging.operator_calls import Keeper, fine_tunes, merged, task_vectors


def pcb(base, models, weights, density, scale):
    deltas = [delta.ravel() for delta in task_vectors(base, models)]
    count, size = len(deltas), deltas[0].size
    outside = int(1e-4 * size)
    scores, clamped = [], []
    for delta in deltas:
        sizes = np.sort(np.abs(delta))
        own = np.clip(np.abs(delta), sizes[outside], sizes[size - 1 - outside])
        clamped.append(np.sign(delta) * own)
        x = (own - own.min()) / (own.max() - own.min())
        score = np.exp(count * x**2) * np.tanh(delta * sum(deltas))
        cut = np.sort(score)[min(int(size * (1 - density)), size - 2)]
        scores.append((np.maximum(score, cut) - cut) / (score.max() - cut))
    whole = np.maximum(sum(scores), 1e-12)
    mixed = sum(w * s * c for w, s, c in zip(weights, scores, clamped, strict=True)) / whole
    return base.double().numpy() + scale * mixed.reshape(base.shape)


@pytest.mark.parametrize("shape", [(40, 30), (50,), (3, 4, 5), (2,)])
@pytest.mark.parametrize("density", [0.05, 0.3, 1.0])
def test_it_is_the_mean_by_balanced_scores(shape, density):
    base, models = fine_tunes(shape, size=1.0)
    weights = [1.2, 0.8, -0.5]
    whole = {"density": density, "lambda": 1.5}
    got = merged("pcb", models, base, weights=weights, whole=whole)
    np.testing.assert_allclose(got, pcb(base, models, weights, density, 1.5), atol=2e-5)


def test_outliers_are_clamped_in_large_tensors():
    base, models = fine_tunes((300, 100), size=1.0)
    models[0][7, 7] = base[7, 7] + 1000.0
    got = merged("pcb", models, base)
    np.testing.assert_allclose(got, pcb(base, models, [1] * 3, 0.1, 1.0), atol=2e-5)
    assert abs(got[7, 7] - base[7, 7]) < 10


def test_all_but_the_share_of_entries_stays_at_the_base():
    base, models = fine_tunes((50, 40), count=1)
    got = merged("pcb", models, base, whole={"density": 0.1})
    changed = got != base.double().numpy()
    assert changed.sum() == 199  # the entry at the cut counts as dropped
    np.testing.assert_allclose(got[changed], models[0].numpy()[changed], atol=1e-6)


def test_many_models_do_not_overflow():
    base, models = fine_tunes((20, 20), count=4)
    models = models * 40
    names = [f"m{k}" for k in range(len(models))]
    from evomerge.merging.operators.contract import Inputs, MaskKey
    from evomerge.merging.operators.pcb import PCB

    settings = PCB.settings({name: {} for name in names}, {})
    got = PCB(Inputs(models, base, settings, MaskKey(0, "t", tuple(names))))
    assert torch.isfinite(got).all()
    assert not torch.equal(got, base)


@pytest.mark.parametrize("entries", [1, 2, 3])
def test_tensors_of_a_few_entries_keep_their_largest_change(entries):
    base = torch.zeros(entries)
    model = torch.arange(1.0, entries + 1)
    got = merged("pcb", [model, model / 2], base)
    assert got[-1] > 0
    assert not got[:-1].any()


def test_models_outvoted_everywhere_add_nothing():
    base = torch.zeros(1)
    got = merged("pcb", [torch.tensor([2.0]), torch.tensor([-1.0])], base)
    np.testing.assert_array_equal(got, [2.0])


def test_only_another_density_costs_a_ranking():
    base, models = fine_tunes((30, 30))
    keeper = Keeper()
    for density in (0.1, 0.2, 0.1):
        merged("pcb", models, base, whole={"density": density}, once=keeper)
    assert len(keeper.made) == 2
