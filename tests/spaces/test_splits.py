"""The splits space: tables as text, as vectors, as recipes, and what becomes of their children."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spaces.flat_models import ArrayModels, direction, merged_naively, splits_space

from evomerge.core.errors import ConfigError
from evomerge.core.recipe import Recipe
from evomerge.optimizers.registry import make_optimizer
from evomerge.optimizers.search_problem import SearchProblem
from evomerge.recipes.recipe_yaml import recipe_from_yaml, recipe_to_yaml
from evomerge.spaces.splits_gene import Mutation
from evomerge.spaces.splits_noise import normals
from evomerge.spaces.splits_table import SplitTable

MODELS = ArrayModels()
SPACE = splits_space(MODELS)
(GENE,) = SPACE.genes
LAYOUT = MODELS.layout(())
ROWS = LAYOUT.rows
VECTORS = np.stack([MODELS.flat(name) for name in ("e1", "e2", "e3")])
ENDS = np.array([LAYOUT.entries_before(row) for row in range(ROWS + 1)])


@st.composite
def tables(draw, seeds=3, rows=ROWS, noise=True):
    starts = draw(st.lists(st.integers(1, rows - 1), unique=True, max_size=8).map(sorted))
    named = draw(st.lists(st.integers(0, 2**48), unique=True, max_size=2)) if noise else []
    number = st.floats(-2, 2, allow_nan=False) | st.sampled_from([0.0, 1.0, 0.5])
    width = seeds + len(named)
    rows_of = st.lists(number, min_size=width, max_size=width)
    size = len(starts) + 1
    values = draw(st.lists(rows_of, min_size=size, max_size=size))
    return SplitTable.of([0, *starts], np.array(values), named)


def vector(table: SplitTable) -> np.ndarray:
    """The flat vector that a table stands for, computed entry by entry."""
    noise = [direction(LAYOUT, seed) for seed in table.noise_seeds]
    parts = [*VECTORS, *noise]
    made = np.zeros(LAYOUT.entries)
    stops = [*table.starts[1:], ROWS]
    for start, stop, row in zip(table.starts, stops, table.coefficients, strict=True):
        where = slice(ENDS[start], ENDS[stop])
        made[where] = sum(c * part[where] for c, part in zip(row, parts, strict=True))
    return made


def naive_split_slerp(p, q, cut, w):
    """On whole float64 vectors: algorithms of the paper, no tables."""
    cosine = p @ q / math.sqrt((p @ p) * (q @ q)) if p.any() and q.any() else 1.0
    angle = math.acos(min(1.0, max(-1.0, cosine)))
    t = np.where(np.arange(len(p)) < cut, w, 1 - w)
    if math.sin(angle) <= 1e-6:
        return (1 - t) * p + t * q
    return (np.sin((1 - t) * angle) * p + np.sin(t * angle) * q) / math.sin(angle)


def test_the_layout_goes_from_the_embedding_through_the_layers_to_what_comes_after_them():
    assert [t.name for t in LAYOUT.tensors] == [
        "model.embed_tokens.weight",
        "model.layers.0.mlp.up.weight",
        "model.layers.0.norm.weight",
        "model.layers.1.mlp.up.weight",
        "model.layers.1.mlp.up.weight_scale",
        "model.layers.1.norm.weight",
        "model.layers.2.mlp.up.weight",
        "model.layers.2.norm.weight",
        "model.norm.weight",
        "norm.weight",
    ]
    assert LAYOUT.rows == 12 + 5 + 1 + 5 + 5 + 1 + 5 + 1 + 1 + 1


@given(st.integers(0, LAYOUT.entries - 1))
def test_a_coordinate_lies_in_its_row(coordinate):
    row = LAYOUT.row_of(coordinate)
    assert LAYOUT.entries_before(row) <= coordinate < LAYOUT.entries_before(row + 1)


def test_cuts_fall_on_rows_in_proportion_to_their_entries():
    counts = np.bincount(
        [GENE.row_at(u) for u in (np.arange(5000) + 0.5) / 5000], minlength=ROWS
    )
    assert np.abs(counts / 5000 - np.diff(ENDS) / LAYOUT.entries).max() < 1e-3


@given(tables())
def test_a_table_comes_back_from_its_text(table):
    again = SplitTable.from_text(table.text)
    assert again == table
    assert again.text == table.text


@given(tables())
def test_no_two_neighbouring_segments_are_alike_and_no_noise_is_idle(table):
    rows = table.coefficients
    assert all(a != b for a, b in pairwise(rows))
    assert all(any(row[table.seeds + k] for row in rows) for k in range(len(table.noise_seeds)))
    assert [*table.noise_seeds] == sorted(table.noise_seeds)


@pytest.mark.parametrize(
    "text",
    ["", "0", "0:", "0:x", "1:1,0", "0:1,0;0:0,1", "0:1,0;5:1", "0:inf,0", "0:nan,1",
     "noise|0:1", "3|0:1,0", "noise 3|0:"],
)  # fmt: skip
def test_a_text_that_says_no_table_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match="such as 0:1,0;4096"):
        SplitTable.from_text(text)


def test_a_table_of_other_seeds_or_more_rows_is_refused():
    with pytest.raises(ValueError, match="a coefficient for each of"):
        GENE.table("0:1,0")
    with pytest.raises(ValueError, match=f"row {ROWS} of {ROWS}"):
        GENE.table(f"0:1,0,0;{ROWS}:0,1,0")


@given(st.floats() | st.floats(0, 1))
def test_every_number_is_a_mixture_along_the_seeds_and_comes_back(unit):
    value = GENE.from_unit(unit)
    table = GENE.table(value)
    assert table.starts == (0,)
    assert sum(table.coefficients[0]) == pytest.approx(1.0)
    assert GENE.from_unit(GENE.to_unit(value)) == value


def test_the_ends_and_the_middle_of_the_unit_interval_are_the_seeds():
    assert [GENE.from_unit(u) for u in (0.0, 0.5, 1.0)] == ["0:1,0,0", "0:0,1,0", "0:0,0,1"]


@given(tables())
@settings(max_examples=30)
def test_a_cut_table_has_a_place_in_the_unit_interval(table):
    assert 0 <= GENE.to_unit(table.text) <= 1


def test_drawn_tables_are_cut_in_many_places_and_every_seed_takes_part():
    drawn = [GENE.drawn(np.random.default_rng(seed)) for seed in range(60)]
    assert drawn[7] == GENE.drawn(np.random.default_rng(7))
    assert len({table.text for table in drawn}) == 60
    for table in drawn:
        assert GENE.table(table.text) == table
        assert SPACE.decode({GENE.name: table.text}).rules
    cuts = {start for table in drawn for start in table.starts[1:]}
    assert len(cuts) > ROWS / 4
    weighty = [np.abs(np.array(table.coefficients)).max(axis=0) > 0 for table in drawn]
    assert np.mean([all(each) for each in weighty]) > 0.9


def test_random_search_draws_tables_and_begins_with_what_it_is_given():
    initial = [{GENE.name: GENE.from_unit(0.25)}]
    optimizer = make_optimizer("random", {}, SearchProblem(SPACE.genes, 1, 3, initial))
    asked = [candidate.genome[GENE.name] for candidate in optimizer.ask(20)]
    assert asked[0] == initial[0][GENE.name]
    assert sum(len(GENE.table(text).starts) > 1 for text in asked[1:]) > 15


@given(tables(), tables())
@settings(max_examples=30)
def test_cosines_are_those_of_the_whole_vectors_with_and_without_noise(first, second):
    p, q = vector(first), vector(second)
    found = GENE.geometry.cosine(first, second)
    if np.linalg.norm(p) < 1e-4 or np.linalg.norm(q) < 1e-4:
        return
    assert found == pytest.approx(p @ q / np.linalg.norm(p) / np.linalg.norm(q), abs=1e-9)


@given(tables(noise=False), tables(noise=False))
@settings(max_examples=30)
def test_kinship_is_the_cosine_of_task_vectors(first, second):
    base = MODELS.flat("base")
    p, q = vector(first) - base, vector(second) - base
    wanted = p @ q / np.linalg.norm(p) / np.linalg.norm(q)
    assert GENE.geometry.kinship(first, second) == pytest.approx(wanted, abs=1e-9)


@given(tables(), tables(), st.integers(0, ROWS), st.floats(0, 1), st.booleans())
@settings(max_examples=30)
def test_a_child_is_the_split_slerp_of_its_parents_vectors(first, second, cut, weight, noisy):
    p, q = vector(first), vector(second)
    child = GENE.child(first, second, cut, weight, Mutation(77, 0.01) if noisy else None)
    wanted = naive_split_slerp(p, q, ENDS[cut], weight)
    if noisy:
        wanted = wanted + 0.01 * direction(LAYOUT, 77)
    if np.abs(wanted).max() < 1e4:  # nearly opposite parents: both forms lose their digits
        np.testing.assert_allclose(
            vector(child), wanted, atol=1e-6 * (1 + np.abs(wanted).max())
        )


def test_without_a_cut_at_row_zero_a_child_is_the_plain_slerp():
    first, second = (SplitTable.uniform(row) for row in np.eye(3)[:2])
    child = GENE.child(first, second, 0, 0.3)
    assert child.starts == (0,)
    p, q = vector(first), vector(second)
    np.testing.assert_allclose(vector(child), naive_split_slerp(p, q, 0, 0.3), rtol=1e-7)


def test_parents_that_are_equal_or_opposite_or_nothing_are_mixed_linearly():
    one = SplitTable.uniform([1.0, 0.0, 0.0])
    opposite = SplitTable.uniform([-1.0, 0.0, 0.0])
    nothing = SplitTable.uniform([0.0, 0.0, 0.0])
    assert GENE.child(one, one, 5, 0.3) == one
    assert GENE.child(one, opposite, 0, 0.7).coefficients == ((0.4, 0.0, 0.0),)
    assert GENE.child(one, nothing, ROWS, 0.25).coefficients == ((0.75, 0.0, 0.0),)


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.5]))
@settings(max_examples=8)
def test_any_sequence_of_children_stays_finite(seed, size):
    """Among the parents nearly opposite ones, whose sums cancel."""
    rng = np.random.default_rng(seed)
    pool = [SplitTable.uniform(row) for row in np.eye(3)]
    pool += [SplitTable.uniform(row) for row in (-np.eye(3) + 1e-5 * rng.random((3, 3)))]
    for number in range(25):
        first, second = (pool[k] for k in rng.integers(len(pool), size=2))
        mutation = Mutation(number, size) if size else None
        cut = int(rng.integers(ROWS + 1))
        pool.append(GENE.child(first, second, cut, float(rng.random()), mutation))
        assert np.isfinite(pool[-1].coefficients).all()
        assert np.abs(pool[-1].coefficients).max() <= 1e6
        assert SplitTable.from_text(pool[-1].text) == pool[-1]
        assert isinstance(SPACE.decode({"splits": pool[-1].text}), Recipe)


@given(tables())
@settings(max_examples=30)
def test_the_recipe_of_a_table_merges_to_its_vector(table):
    recipe = SPACE.decode({"splits": table.text})
    np.testing.assert_allclose(merged_naively(recipe, MODELS), vector(table), atol=1e-9)


@given(tables())
@settings(max_examples=30)
def test_a_recipe_leads_back_to_its_table_through_yaml(table):
    recipe = SPACE.decode({"splits": table.text})
    read = recipe_from_yaml(recipe_to_yaml(recipe))
    assert read == recipe
    assert read.digest == recipe.digest
    assert Recipe.from_plain(recipe.to_plain()) == recipe
    assert SPACE.encode(read) == {"splits": table.text}


def test_whole_layers_share_rules_and_only_cut_tensors_have_segments():
    cut = LAYOUT.first_rows[3] + 2  # in layer 1's first tensor
    recipe = SPACE.decode({"splits": f"0:1,0,0;{cut}:0,1,0"})
    assert [(r.operator, r.layers, r.contains) for r in recipe.rules] == [
        # The longer name contains the shorter one's, so its rule comes first.
        ("linear", (1, 2), ("model.layers.1.mlp.up.weight_scale",)),
        ("segments", (1, 2), ("model.layers.1.mlp.up.weight",)),
        ("linear", (0, 1), ()),
        ("linear", None, ("model.embed_tokens.weight",)),
        ("linear", None, ()),
    ]


def test_a_cut_between_layers_needs_no_segments():
    first_of_layer_2 = LAYOUT.first_rows[6]
    recipe = SPACE.decode({"splits": f"0:1,0,0;{first_of_layer_2}:0,0.5,0.5"})
    assert {rule.operator for rule in recipe.rules} == {"linear"}
    assert (0, 2) in [rule.layers for rule in recipe.rules]


def test_seeds_and_their_mean_are_the_same_recipes_as_the_baselines():
    baselines = {b.name: b.recipe.digest for b in SPACE.baselines()}
    for seed, unit in (("e1", 0.0), ("e2", 0.5), ("e3", 1.0)):
        assert SPACE.decode({"splits": GENE.from_unit(unit)}).digest == baselines[seed]
    mean = SplitTable.uniform([1 / 3] * 3).text
    assert SPACE.decode({"splits": mean}).digest == baselines["uniform average"]


def test_seeds_mean_and_halves_are_what_the_search_begins_with():
    genomes = [SPACE.encode(b.recipe) for b in SPACE.baselines()]
    first = [genome["splits"] for genome in genomes if genome is not None]
    middle = GENE.row_at(0.5)
    third = "0.333333333"
    assert first == [
        "0:1,0,0", "0:0,1,0", "0:0,0,1", f"0:{third},{third},{third}",
        f"0:1,0,0;{middle}:0,1,0", f"0:0,1,0;{middle}:0,0,1", f"0:0,0,1;{middle}:1,0,0",
    ]  # fmt: skip


def test_the_base_may_be_a_seed():
    space = splits_space(MODELS, seeds=["base", "e2"])
    recipe = space.decode({"splits": "0:0.5,0.5"})
    assert recipe.rules[0].models == {"base": {"weight": 0.5}, "e2": {"weight": 0.5}}
    assert space.encode(space.baselines()[0].recipe) == {"splits": "0:1,0"}


def test_what_is_no_weighted_sum_of_the_seeds_has_no_table():
    recipes = {b.name: b.recipe for b in SPACE.baselines()}
    for name in ("base", "task arithmetic", "ties"):
        assert SPACE.encode(recipes[name]) is None


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"seeds": ["e1", "e9"]}, "unknown model 'e9'"),
        ({"seeds": ["e1", "e1"]}, "two or more different models"),
    ],
)
def test_wrong_seeds_are_named(spec, message):
    with pytest.raises(ConfigError, match=message):
        splits_space(MODELS, **spec)


def test_one_expert_is_too_few():
    with pytest.raises(ConfigError, match="two or more different models"):
        splits_space(MODELS, experts=1)


def test_weights_are_read_once_and_only_when_two_merges_are_compared():
    models = ArrayModels()
    space = splits_space(models)
    (gene,) = space.genes
    for baseline in space.baselines():
        space.encode(baseline.recipe)
    space.decode({"splits": gene.from_unit(0.3)})
    assert models.reads == 0
    first, second = (SplitTable.uniform(row) for row in np.eye(3)[:2])
    for cut in (1, 2, 3):
        gene.child(first, second, cut, 0.5)
    assert models.reads == 1


@given(st.integers(0, 20_000), st.integers(0, 9_000))
def test_noise_does_not_depend_on_where_it_is_begun(first, count):
    whole = normals(5, "a", 0, 30_000)
    np.testing.assert_array_equal(normals(5, "a", first, count), whole[first : first + count])


def test_noise_is_standard_normal_and_independent_by_seed_and_tensor():
    made = np.stack([normals(s, t, 0, 40_000) for s in (1, 2) for t in ("a", "b")])
    assert np.abs(made.mean(axis=1)).max() < 0.02
    assert np.abs(np.corrcoef(made) - np.eye(4)).max() < 0.02
    assert np.abs((made**2).mean(axis=1) - 1).max() < 0.03
    assert np.abs((made**4).mean(axis=1) - 3).max() < 0.3
    assert normals(1, "a", 0, 3).round(6).tolist() == NOISE_OF_SEED_1


NOISE_OF_SEED_1 = [1.133224, 0.413529, -0.74697]
"""Recipes with noise mean these very numbers, in every version."""
