"""Held-out models of public response matrices; skipped where the matrices are not at hand."""

from pathlib import Path

import numpy as np
import pytest

from evomerge.fitness.irt.ability import fit_ability
from evomerge.fitness.irt.fit import fit_2pl

FOLDER = Path(__file__).parents[3] / "shared/data/responses"


def responses(name, dataset=None):
    path = FOLDER / f"{name}.npz"
    if not path.exists():
        pytest.skip(f"{path} is not at hand")
    with np.load(path, allow_pickle=False) as arrays:
        values = arrays["responses"].astype(np.float64)
        if dataset is not None:
            values = values[:, arrays["dataset"] == dataset]
    return values


@pytest.mark.parametrize(
    ("name", "dataset", "group"),
    [
        ("farel", None, 2),
        ("zeroeval_crux", None, 1),
        ("lcb_generation", None, 1),
        ("evalperf", None, 1),
        ("nlu10", "mutual-plus", 5),
    ],
    ids=["binary", "saturated", "graded with gaps", "graded and small", "relatives"],
)
def test_items_unseen_by_held_out_models_are_predicted_better_than_by_their_means(
    name, dataset, group
):
    values = responses(name, dataset)
    rng = np.random.default_rng(0)
    families = np.arange(len(values)) // group
    out = np.isin(families, rng.permutation(families.max() + 1)[: (families.max() + 1) // 4])
    values = values[:, ~np.isnan(values[~out]).all(axis=0)]
    fit = fit_2pl(values[~out], 2)
    seen = rng.random(values[out].shape) < 0.5
    ability = fit_ability(fit.parameters, np.where(seen, values[out], np.nan))
    predicted = fit.parameters.probabilities(ability.theta)
    unseen = ~seen & ~np.isnan(values[out])
    truth = values[out][unseen]
    means = np.broadcast_to(np.nanmean(values[~out], axis=0), seen.shape)[unseen]
    error = ((predicted[unseen] - truth) ** 2).mean()
    assert error < 0.92 * ((means - truth) ** 2).mean()
