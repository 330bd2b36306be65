"""Agreement with girth, an independent implementation of marginal maximum likelihood."""

import warnings

import numpy as np
import pytest

from evomerge.fitness.irt.fit import FitSettings, fit_1pl, fit_2pl
from evomerge.fitness.irt.item_prior import ItemPrior
from evomerge.fitness.irt.model import ItemParameters

girth = pytest.importorskip("girth", reason="girth, the oracle, is in the dev extra")

UNSHRUNK = FitSettings(prior=ItemPrior.flat(1), tolerance=1e-6)


def simulated(models, slopes, seed):
    rng = np.random.default_rng(seed)
    truth = ItemParameters(slopes[:, None], rng.uniform(-1.5, 1.5, size=len(slopes)))
    p = truth.probabilities(rng.normal(size=(models, 1)))
    return (rng.random(p.shape) < p).astype(int)


def asked(method, answers, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return method(answers.T, **options)


@pytest.mark.parametrize(("models", "items", "seed"), [(2000, 20, 0), (1000, 40, 1)])
def test_two_parameter_items_agree_with_girth(models, items, seed):
    slopes = np.random.default_rng(seed).uniform(0.6, 2.0, size=items)
    answers = simulated(models, slopes, seed)
    theirs = asked(girth.twopl_mml, answers)
    ours = fit_2pl(answers, 1, UNSHRUNK).parameters
    found = ours.discrimination[:, 0]
    np.testing.assert_allclose(found, theirs["Discrimination"], atol=0.02)
    np.testing.assert_allclose(ours.difficulty / found, theirs["Difficulty"], atol=0.03)


def test_rasch_items_agree_with_girth():
    answers = simulated(1500, np.full(30, 1.3), seed=2)
    ours = fit_1pl(answers, UNSHRUNK).parameters
    slope = ours.discrimination[0, 0]
    one_slope = asked(girth.onepl_mml, answers)
    assert slope == pytest.approx(one_slope["Discrimination"], abs=0.01)
    np.testing.assert_allclose(ours.difficulty / slope, one_slope["Difficulty"], atol=0.01)
    rasch = asked(girth.rasch_mml, answers, discrimination=slope)
    np.testing.assert_allclose(ours.difficulty / slope, rasch["Difficulty"], atol=0.01)
