"""MAP's quadratics: links, ridge, what they find, and nesting."""

import statistics

import numpy as np
import pytest

from evomerge.core.errors import ConfigError
from evomerge.core.outcomes import Failed, Scored
from evomerge.core.pareto import hypervolume
from evomerge.optimizers.registry import check_options, make_optimizer
from evomerge.optimizers.search_problem import SearchProblem
from evomerge.optimizers.surrogates.encoded_genes import EncodedGenes
from evomerge.optimizers.surrogates.links import Identity, Log, Logit, links_of
from evomerge.optimizers.surrogates.quadratic_surrogate import QuadraticSurrogate
from evomerge.optimizers.surrogates.ridge import RidgeProblem
from evomerge.spaces.genes import ChoiceGene, FloatGene, IntGene

CANDIDATES = 60


def floats(count):
    return [FloatGene(f"g{k}", 0.0, 1.0) for k in range(count)]


def two_tasks(genome):
    """Two quadratics of four genes with different minima and a product of genes."""
    x = np.array(list(genome.values()))

    def loss(centre, widths):
        d = x - centre
        return float((widths * d**2).sum() + 0.3 * d[0] * d[1])

    return loss([0.8, 0.2, 0.3, 0.4], [1, 1, 2, 0.5]), loss(
        [0.2, 0.7, 0.5, 0.4], [1.5, 1, 1, 1]
    )


def losses_of(optimizer, evaluate, candidates=CANDIDATES):
    losses = []
    while len(losses) < candidates and not optimizer.finished:
        batch = optimizer.ask(candidates - len(losses))
        outcomes = {c.id: evaluate(c) for c in batch}
        optimizer.tell(outcomes)
        losses += [o.losses for o in outcomes.values() if isinstance(o, Scored)]
    return np.array(losses)


def test_its_front_of_two_smooth_tasks_beats_nsga2_and_random_search():
    reference = np.array([1.0, 1.0])

    def volume(name, seed):
        optimizer = make_optimizer(name, {}, SearchProblem(floats(4), 2, seed))
        losses = losses_of(optimizer, lambda c: Scored(two_tasks(c.genome)))
        return hypervolume(losses, reference)

    ours, nsga2, chance = (
        statistics.median(volume(name, seed) for seed in range(3))
        for name in ("map_surrogate", "nsga2", "random")
    )
    assert ours > 1.07 * nsga2
    assert ours > 1.1 * chance


def test_one_smooth_loss_is_minimised_to_a_thousandth():
    optimizer = make_optimizer("map_surrogate", {}, SearchProblem(floats(3), 1, 0))
    losses = losses_of(
        optimizer, lambda c: Scored((sum((v - 0.3) ** 2 for v in c.genome.values()),)), 40
    )
    assert losses.min() < 1e-3


def test_a_smooth_loss_is_told_to_be_well_fitted_and_noise_is_not():
    rng = np.random.default_rng(0)
    smooth = make_optimizer("map_surrogate", {}, SearchProblem(floats(3), 1, 0))
    losses_of(smooth, lambda c: Scored((sum((v - 0.3) ** 2 for v in c.genome.values()),)))
    noise = make_optimizer("map_surrogate", {}, SearchProblem(floats(3), 1, 0))
    losses_of(noise, lambda _: Scored((float(rng.normal()),)))
    assert smooth.fits[0].r_squared > 0.99
    assert noise.fits[0].r_squared < 0.3


def test_leaving_a_point_out_foretells_what_refitting_without_it_does():
    rng = np.random.default_rng(1)
    terms, targets, weights = (
        rng.normal(size=(12, 20)),
        rng.normal(size=12),
        rng.random(12) + 0.2,
    )
    fit = RidgeProblem(terms, weights).fit(targets)
    weights = weights / weights.mean()
    mean = weights @ terms / 12
    unit = (weights[:, None] * (terms - mean) ** 2).sum() / 20
    for k in (0, 7):
        others = np.arange(12) != k
        w, x, y = weights[others], terms[others], targets[others]
        centre, level = w @ x / w.sum(), w @ y / w.sum()
        a = np.sqrt(w)[:, None] * (x - centre)
        slopes = np.linalg.solve(
            a.T @ a + fit.penalty * unit * np.eye(20), a.T @ (np.sqrt(w) * (y - level))
        )
        assert fit.left_out[k] == pytest.approx(level + (terms[k] - centre) @ slopes, abs=1e-5)


def test_a_full_quadratic_with_choices_is_found_exactly():
    genes = [*floats(2), ChoiceGene("c", ("a", "b", "d")), IntGene("i", 0, 4)]
    encoded = EncodedGenes(genes)
    rng = np.random.default_rng(2)

    def loss(units):
        x, y, c, i = encoded.snapped(units).T
        option = np.floor(3 * c)
        return ((x - 0.3) ** 2 + x * y + (option == 1) * (y - 0.5) + i**2)[:, None]

    surrogate = QuadraticSurrogate(encoded)
    train, test = rng.random((80, 4)), rng.random((50, 4))
    fits = surrogate.fit(train, loss(train))
    assert fits[0].terms.name == "full quadratic"
    assert np.abs(surrogate.predict(fits, test) - loss(test)).max() < 1e-4


def test_ranges_of_losses_decide_which_links_are_tried():
    def names(*losses):
        return [type(link) for link in links_of(np.array(losses), None)]

    assert names(-0.9, 0.0) == [Identity, Logit]
    assert names(0.0, 0.5, 1.0) == [Identity, Logit]
    assert names(0.2, 30.0) == [Identity, Log]
    assert names(-3.0, 2.0) == [Identity]


def test_standard_errors_tell_how_near_to_all_items_an_accuracy_may_come():
    p = np.array([0.5, 0.8, 1.0])
    link = links_of(-p, np.sqrt(p * (1 - p) / 50))[1]
    assert link.items == pytest.approx(50)
    assert link.forward(-p)[2] == pytest.approx(-np.log(50.5 / 0.5))
    assert link.inverse(link.forward(-p)) == pytest.approx(-p)


def test_an_uncertain_measurement_bends_the_fit_less():
    surrogate = QuadraticSurrogate(EncodedGenes(floats(1)))
    units = np.linspace(0, 1, 15)[:, None]
    losses = 5.0 * units - 2.0
    losses[7] += 3.0
    errors = np.full((15, 1), 0.1)
    errors[7] = 5.0
    trusted = surrogate.predict(surrogate.fit(units, losses), units)[7, 0]
    doubted = surrogate.predict(surrogate.fit(units, losses, errors), units)[7, 0]
    assert abs(doubted - 0.5) < 0.02 < abs(trusted - 0.5)


def test_standard_errors_of_any_size_leave_the_fit_finite():
    surrogate = QuadraticSurrogate(EncodedGenes(floats(2)))
    rng = np.random.default_rng(0)
    units, losses = rng.random((30, 2)), rng.random((30, 1))
    losses[:5] = 0.0
    for sizes in ([0.0, 1e-300, 0.1], [1e-300, 1e-300, 1e10], [1e150, 0.1, 0.0]):
        errors = rng.choice(sizes, (30, 1))
        with np.errstate(all="raise", under="ignore"):
            fits = surrogate.fit(units, losses, errors)
            assert np.isfinite(surrogate.predict(fits, units)).all()


def test_half_of_a_space_that_fails_is_left_soon():
    optimizer = make_optimizer("map_surrogate", {}, SearchProblem(floats(3), 1, 0))
    failures = []

    def evaluate(candidate):
        g = list(candidate.genome.values())
        failures.append(g[0] > 0.5)
        # The loss falls towards the half that fails.
        return Failed("merge", "not finite") if g[0] > 0.5 else Scored((1 - g[0] + g[1],))

    losses_of(optimizer, evaluate)
    assert np.mean(failures[:20]) > 0.3
    assert np.mean(failures[-20:]) < 0.3


WEIGHTS = [FloatGene(f"m{k}.weight", 0.0, 1.0) for k in range(5)]
CENTRES = np.eye(5)


def tasks(genome):
    """Task k wants model k at weight 0.5; 0 and 1 are alike, so are 2 and 3."""
    x = np.array(list(genome.values()))
    like = np.array(
        [
            [1, 0.8, 0, 0, 0],
            [0.8, 1, 0, 0, 0],
            [0, 0, 1, 0.8, 0],
            [0, 0, 0.8, 1, 0],
            [0, 0, 0, 0, 1],
        ]
    )
    return tuple(((like @ x) - 0.6) ** 2)


def test_nesting_scores_models_alone_then_merges_the_closest_pairs():
    options = {"nested": True, "nested_design": 10}
    optimizer = make_optimizer("map_surrogate", options, SearchProblem(WEIGHTS, 5, 0))
    alone = optimizer.ask(99)
    assert [list(c.genome.values()) for c in alone] == CENTRES.tolist()
    optimizer.tell({c.id: Scored(tasks(c.genome)) for c in alone})
    pair = [c.genome for c in optimizer.ask(99)]
    used = {name for genome in pair for name, value in genome.items() if value > 0}
    assert used in ({"m0.weight", "m1.weight"}, {"m2.weight", "m3.weight"})


def test_nesting_ends_with_one_merge_of_all_and_then_goes_on_with_all_genes():
    options = {"nested": True, "nested_design": 10}
    optimizer = make_optimizer("map_surrogate", options, SearchProblem(WEIGHTS, 5, 0))
    losses = losses_of(optimizer, lambda c: Scored(tasks(c.genome)), 80)
    alone = losses[:5].mean(axis=1).min()
    assert losses[:45].mean(axis=1).min() < 0.5 * alone
    assert len(losses) == 80


def test_nesting_refuses_genes_without_models_one_objective_and_wrong_preferences():
    with pytest.raises(ConfigError) as caught:
        make_optimizer(
            "map_surrogate",
            {"nested": True, "preference": [1.0, 2.0]},
            SearchProblem(floats(4), 1, 0),
        )
    problems = caught.value.problems
    assert [p.partition(":")[0] for p in problems] == [
        "optimizer.nested",
        "optimizer.nested",
        "optimizer.preference",
    ]
    assert "'<model>.weight'" in problems[0]


def test_nesting_does_not_go_with_proposals_ahead():
    (problem,) = check_options("map_surrogate", {"nested": True, "ahead": 3}, 4, 2)
    assert "leave 'asynchronous' and 'ahead' out" in problem


@pytest.mark.parametrize("options", [{"asynchronous": True}, {"ahead": 5}], ids=str)
def test_outcomes_may_be_learned_from_late_or_as_they_arrive(options):
    optimizer = make_optimizer("map_surrogate", options, SearchProblem(floats(3), 2, 0))
    waiting, asked = [], 0
    while asked < CANDIDATES:
        fresh = optimizer.ask(4 - len(waiting))
        asked += len(fresh)
        waiting += fresh
        done = waiting.pop(0)
        x = np.array(list(done.genome.values()))
        optimizer.tell({done.id: Scored((float(x @ x), float((1 - x) @ (1 - x))))})
    assert optimizer.fits[0].r_squared > 0.99
