"""M2N2: competition, attraction, and children of split tables."""

import random
import statistics
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from spaces.flat_models import ArrayModels, splits_space

from evomerge.core.errors import ConfigError
from evomerge.core.outcomes import Failed, Scored
from evomerge.optimizers.m2n2.archive import Archive
from evomerge.optimizers.registry import OPTIMIZERS, make_optimizer
from evomerge.optimizers.search_problem import SearchProblem
from evomerge.spaces.genes import ChoiceGene, FloatGene
from evomerge.spaces.splits_table import SplitTable

SPACE = splits_space(ArrayModels())
GENES = SPACE.genes
LAYOUT = ArrayModels().layout(())


def scored(*items, losses=None, violation=0.0, objective=0):
    names = {f"{objective}|t|{k}": v for k, v in enumerate(items) if v is not None}
    mean = statistics.fmean([v for v in items if v is not None] or [0])
    return Scored(losses or (1.0 - mean,), (), violation, names)


def archive(*outcomes, capacity=20, objectives=1, alpha=1.0):
    made = Archive(capacity, objectives, alpha)
    for number, outcome in enumerate(outcomes):
        made.add(number, outcome)
    return made


def held(made):
    return [member.content for member in made.parents]


# ---- the archive


def test_an_item_is_shared_by_those_that_solve_it_in_proportion_to_their_scores():
    worth = archive(scored(1, 1, 0, 0.5), scored(1, 0, 0, 1.0), scored(1, 0, 0, 0)).worth()
    np.testing.assert_allclose(
        worth * 4, [[1 / 3, 1, 0, 1 / 3], [1 / 3, 0, 0, 2 / 3], [1 / 3, 0, 0, 0]]
    )


def test_without_sharing_fitness_is_the_plain_score():
    worth = archive(scored(1, 1, 0), scored(1, 0, 0), alpha=0.0).worth()
    np.testing.assert_allclose(worth.sum(axis=1), [2 / 3, 1 / 3])


def test_the_only_one_that_solves_an_item_stays_and_the_most_common_skill_goes():
    specialist = scored(0, 0, 0, 1)
    made = archive(scored(1, 1, 1, 0), scored(1, 1, 0, 0), specialist, capacity=2)
    assert held(made) == [0, 2]


def test_worth_is_worked_out_anew_when_members_leave():
    """The third is worth little beside the first, and much once the first has gone."""
    made = archive(scored(1, 0), scored(0, 1), scored(0.4, 0.0), capacity=2)
    assert held(made) == [0, 1]
    assert made.worth().sum() == pytest.approx(1.0)


@given(st.lists(st.lists(st.sampled_from([0, 0.5, 1]), min_size=6, max_size=6), min_size=2))
def test_items_that_someone_solves_are_worth_one_in_all_and_others_nothing(rows):
    worth = archive(*(scored(*row) for row in rows), capacity=len(rows)).worth() * 6
    wanted = [float(any(column)) for column in zip(*rows, strict=True)]
    np.testing.assert_allclose(worth.sum(axis=0), wanted)


def test_an_item_without_a_score_counts_as_the_members_mean():
    told = [scored(1, 0.5, None), scored(0.5, 0.5, 1)]
    filled = [scored(1, 0.5, 0.75), scored(0.5, 0.5, 1)]
    np.testing.assert_allclose(archive(*told).worth(), archive(*filled).worth())


def test_every_objective_is_worth_the_same_whatever_its_number_of_items():
    many = {f"0|t|{k}": 1.0 for k in range(9)}
    one = Scored((0.0, 1.0), items=many | {"1|u|0": 0.0})
    other = Scored((1.0, 0.0), items=dict.fromkeys(many, 0.0) | {"1|u|0": 1.0})
    np.testing.assert_allclose(archive(one, other, objectives=2).worth().sum(axis=1), [1, 1])


def test_an_objective_without_items_is_one_item_by_rank():
    rows = [Scored((0.0, size), items={"0|t|1": 1.0}) for size in (1e-300, 5.0, 1e150)]
    fitness = archive(*rows, objectives=2).worth().sum(axis=1)
    np.testing.assert_allclose(fitness, 1 / 3 + np.array([3, 2, 1]) / 6)


def test_infeasible_members_leave_first_and_are_no_parents_beside_feasible_ones():
    bad, worse = scored(1, 1, violation=0.1), scored(1, 1, violation=0.2)
    assert held(archive(bad, worse, scored(0, 0.1))) == [0, 1, 2]
    assert held(archive(bad, worse, scored(0, 0.1), scored(0.1, 0))) == [2, 3]
    assert held(archive(bad, worse, scored(0, 0.1), capacity=2)) == [0, 2]


# ---- the optimizer over split tables


def run(optimizer, evaluate, candidates):
    asked = []
    while len(asked) < candidates:
        batch = optimizer.ask(min(5, candidates - len(asked)))
        asked += batch
        optimizer.tell({c.id: evaluate(c) for c in batch})
    return asked


def table(candidate):
    return SplitTable.from_text(candidate.genome["splits"])


def test_it_says_that_it_learns_from_items():
    assert OPTIMIZERS["m2n2"].learns_from_items
    assert make_optimizer("m2n2", {}, SearchProblem(GENES, 1, 1)).learns_from_items


def test_without_initial_genomes_the_seeds_come_first():
    first = make_optimizer("m2n2", {}, SearchProblem(GENES, 1, 3)).ask(3)
    assert [c.genome["splits"] for c in first] == ["0:1,0,0", "0:0,1,0", "0:0,0,1"]


def test_given_tables_come_first_and_only_once_also_when_asked_for_many_at_once():
    initial = [{"splits": "0:0.5,0.5,0"}, {"splits": "0:0,0,1;7:1,0,0"}]
    optimizer = make_optimizer(
        "m2n2", {"asynchronous": True}, SearchProblem(GENES, 1, 3, initial)
    )
    genomes = [dict(c.genome) for c in optimizer.ask(30)]
    assert genomes[:2] == initial
    assert all(genome not in initial for genome in genomes[2:])


def test_a_table_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="initial genome 0"):
        make_optimizer("m2n2", {}, SearchProblem(GENES, 1, 3, [{"splits": "0:1"}]))


def skills(candidate):
    """Expert 1 and 2 solve the same items, expert 3 others; merges what their seeds do."""
    made = table(candidate)
    rows = np.array(made.coefficients)[:, :3]
    share = np.abs(rows[0])
    first, second = float(max(share[0], share[1]) > 0.4), float(share[2] > 0.4)
    return scored(*[first] * 5, *[second] * 5)


def test_a_mate_is_one_that_is_better_at_something():
    """Experts 1 and 2 have nothing to give each other."""
    options = {"population": 3, "ahead": 0}
    mixes = {True: 0, False: 0}
    for attraction in mixes:
        for seed in range(30):
            optimizer = make_optimizer(
                "m2n2", options | {"attraction": attraction}, SearchProblem(GENES, 1, seed)
            )
            child = table(run(optimizer, skills, 4)[3])
            mixes[attraction] += not np.array(child.coefficients)[:, 2].any()
    assert mixes[True] == 0
    assert mixes[False] > 2  # 5 are expected


def test_kinship_prefers_mates_whose_task_vectors_point_elsewhere():
    models = ArrayModels()
    for name, weights in models.tensors["e2"].items():  # e2 is nearly e1
        models.tensors["e2"][name] = models.tensors["e1"][name] + 0.05 * weights
    genes = splits_space(models).genes

    def as_good_as_the_others(candidate):
        best = int(np.argmax(np.abs(table(candidate).coefficients[0])))
        return scored(*(float(k == best) for k in range(3)))

    kin = {0.0: 0, 4.0: 0}
    for kinship in kin:
        for seed in range(40):
            options = {"population": 3, "ahead": 0, "kinship": kinship}
            optimizer = make_optimizer("m2n2", options, SearchProblem(genes, 1, seed))
            child = table(run(optimizer, as_good_as_the_others, 4)[3])
            kin[kinship] += not np.array(child.coefficients)[:, 2].any()
    assert kin[0.0] > 6
    assert kin[4.0] < 2


@pytest.mark.parametrize("score", [0.0, 1.0], ids=["nobody solves anything", "all solve all"])
def test_equal_members_mate_evenly_and_never_with_themselves(score):
    options = {"population": 3, "ahead": 0, "split_point": False}
    pairs = set()
    for seed in range(40):
        optimizer = make_optimizer("m2n2", options, SearchProblem(GENES, 1, seed))
        child = table(run(optimizer, lambda c: scored(*[score] * 4), 4)[3])
        (row,) = child.coefficients
        pairs.add(tuple(np.flatnonzero(row).tolist()))
    assert pairs == {(0, 1), (0, 2), (1, 2)}


def test_parents_are_drawn_by_shared_fitness():
    """Two that share ten items against one alone with ten: each item is worth as much."""
    firsts = []
    for seed in range(300):
        optimizer = make_optimizer("m2n2", {"population": 3, "ahead": 0, "crossover": False, "mutation": 1e-6}, SearchProblem(GENES, 1, seed))  # fmt: skip
        seeds = {0: [1] * 10 + [0] * 10, 1: [1] * 10 + [0] * 10, 2: [0] * 10 + [1] * 10}
        child = table(
            run(optimizer, lambda c, s=seeds: scored(*s[c.id]), 3) and optimizer.ask(1)[0]
        )
        firsts.append(int(np.argmax(child.coefficients[0])))
    shares = np.bincount(firsts, minlength=3) / 300
    np.testing.assert_allclose(shares, [0.25, 0.25, 0.5], atol=0.08)


def test_without_split_points_children_are_uncut():
    optimizer = make_optimizer("m2n2", {"split_point": False}, SearchProblem(GENES, 1, 3))
    assert all(len(table(c).starts) == 1 for c in run(optimizer, skills, 60))
    cut = make_optimizer("m2n2", {}, SearchProblem(GENES, 1, 3))
    assert max(len(table(c).starts) for c in run(cut, skills, 60)) > 3


def test_mutants_carry_noise_of_their_own_and_their_ancestors():
    optimizer = make_optimizer(
        "m2n2", {"mutation": 0.01, "ahead": 0}, SearchProblem(GENES, 1, 3)
    )
    found = [table(c) for c in run(optimizer, skills, 20)]
    assert [len(t.noise_seeds) for t in found[:4]] == [0, 0, 0, 1]
    assert len(found[-1].noise_seeds) > 2
    assert len({seed for t in found for seed in t.noise_seeds}) >= 12
    for one in found[3:]:
        assert 0.01 in {c for row in one.coefficients for c in row[3:]}


@pytest.mark.parametrize(
    ("genes", "options", "message"),
    [
        (GENES, {"crossover": False}, "'mutation' must be above 0"),
        ([FloatGene("x", 0, 1)], {"crossover": False, "gene_mutation": 0.0}, "'gene_mutation'"),
        ([FloatGene("x", 0, 1)], {"kinship": 1.0}, "space of kind 'splits'"),
    ],
)
def test_options_that_do_not_suit_the_genes_are_refused(genes, options, message):
    with pytest.raises(ConfigError, match=message):
        make_optimizer("m2n2", options, SearchProblem(genes, 1, 1))


def test_ahead_and_asynchronous_exclude_each_other():
    with pytest.raises(ConfigError, match="'asynchronous' needs nothing proposed ahead"):
        make_optimizer("m2n2", {"asynchronous": True, "ahead": 3}, SearchProblem(GENES, 1, 1))


def noisy_skills(candidate):
    rng = np.random.default_rng(zlib.crc32(candidate.genome["splits"].encode()))
    return Failed("merge", "no") if rng.random() < 0.1 else scored(*rng.random(12).round(1))


@pytest.mark.parametrize("workers", [1, 4, 9])
def test_nine_workers_never_wait_where_candidates_take_equally_long(workers):
    optimizer = make_optimizer("m2n2", {}, SearchProblem(GENES, 1, 5))
    waiting = []
    for _ in range(40):
        fresh = optimizer.ask(workers - len(waiting))
        assert len(fresh) == workers - len(waiting)
        waiting += fresh
        done = waiting.pop(0)
        optimizer.tell({done.id: noisy_skills(done)})


def test_neither_the_number_of_workers_nor_their_order_changes_a_table():
    def searched(workers, seed):
        optimizer = make_optimizer("m2n2", {}, SearchProblem(GENES, 1, 5))
        rng, asked, waiting = random.Random(seed), [], []
        while len(asked) < 60:
            fresh = optimizer.ask(workers - len(waiting))
            asked, waiting = asked + fresh, waiting + fresh
            done = waiting.pop(rng.randrange(len(waiting)))
            optimizer.tell({done.id: noisy_skills(done)})
        return [dict(c.genome) for c in asked[:60]]

    alone = searched(1, 0)
    assert searched(6, 1) == alone
    assert searched(20, 2) == alone


def test_asynchronously_everyone_is_always_served_and_a_replay_proposes_the_same():
    def make():
        return make_optimizer("m2n2", {"asynchronous": True}, SearchProblem(GENES, 1, 5))

    optimizer, rng = make(), random.Random(1)
    log, waiting = [], []
    for _ in range(60):
        fresh = optimizer.ask(5 - len(waiting))
        assert len(fresh) == 5 - len(waiting)
        log.append((fresh, None))
        waiting += fresh
        done = waiting.pop(rng.randrange(len(waiting)))
        log.append((None, (done.id, noisy_skills(done))))
        optimizer.tell(dict([log[-1][1]]))
    again = make()
    for fresh, told in log:
        if fresh is not None:
            assert again.ask(len(fresh)) == fresh
        else:
            again.tell(dict([told]))


def test_a_search_in_which_everything_fails_goes_on_making_new_tables():
    optimizer = make_optimizer("m2n2", {}, SearchProblem(GENES, 1, 5))
    asked = run(optimizer, lambda c: Failed("merge", "no"), 60)
    assert len({c.genome["splits"] for c in asked}) > 55


def test_tables_and_other_genes_evolve_together():
    genes = [*GENES, FloatGene("scale", 0.5, 1.5), ChoiceGene("norm", ("a", "b"))]

    def both(candidate):
        right = candidate.genome["norm"] == "b"
        near = 1 - abs(candidate.genome["scale"] - 1.2)
        return scored(*skills(candidate).items.values(), near, float(right))

    optimizer = make_optimizer("m2n2", {}, SearchProblem(genes, 1, 5))
    asked = run(optimizer, both, 150)
    assert len({table(c) for c in asked}) > 100
    last = asked[-30:]
    assert sum(c.genome["norm"] == "b" for c in last) > 20
    assert statistics.median(abs(c.genome["scale"] - 1.2) for c in last) < 0.1


# ---- what it is made for


def places(candidate):
    """Experts are right in fifths of the rows, by turns; an item asks for one tenth of them.

    Graded by how much of the right expert, and how little of the others, is there.
    """
    made = table(candidate)
    tenths = [LAYOUT.row_of(int((k + 0.5) / 10 * LAYOUT.entries)) for k in range(10)]
    rows = made.expanded(tenths, made.noise_seeds)[:, :3]
    right = np.eye(3)[[0, 0, 1, 1, 2, 2, 0, 0, 1, 1]]
    misses = np.abs(rows - right).sum(axis=1)
    return scored(*np.clip(1 - misses / 2, 0, 1).tolist())


def best_loss(name, seed, candidates=400, **options):
    optimizer = make_optimizer(name, options, SearchProblem(GENES, 1, seed))
    return min(places(c).losses[0] for c in run(optimizer, places, candidates))


def test_it_puts_each_expert_where_it_is_right_as_no_mixture_and_no_random_search_does():
    """Medians of three searches; the best single expert misses .6, the best cut-less mix .6."""
    found = {
        "m2n2": [best_loss("m2n2", seed) for seed in range(3)],
        "uncut": [best_loss("m2n2", seed, split_point=False) for seed in range(3)],
        "random": [best_loss("random", seed) for seed in range(3)],
    }
    medians = {name: statistics.median(losses) for name, losses in found.items()}
    assert medians["m2n2"] < 0.85 * medians["random"]
    assert medians["m2n2"] < 0.65 * medians["uncut"]


def test_over_numbers_it_beats_random_search_tenfold_on_items_that_ask_for_one_gene_each():
    genes = [FloatGene(f"g{k}", 0.0, 1.0) for k in range(10)]

    def items(candidate):
        x = np.array(list(candidate.genome.values()))
        return scored(
            *np.exp(-8 * (x - 0.37) ** 2).tolist(), losses=(float(((x - 0.37) ** 2).sum()),)
        )

    best = {}
    for name in ("m2n2", "random"):
        runs = [
            run(make_optimizer(name, {}, SearchProblem(genes, 1, s)), items, 240)
            for s in range(5)
        ]
        best[name] = statistics.median(min(items(c).losses[0] for c in r) for r in runs)
    assert best["m2n2"] < best["random"] / 10
