"""Where a search over layer edits begins, naive removals, and the ready spaces."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from landscapes import source_models
from spaces.drawn_spaces import SIGNATURES
from spaces.layer_edit_spaces import drawn_layer_edits, space_of, without_base

from evomerge.spaces.first_genomes import first_genomes
from evomerge.spaces.genes import genome_from_unit, genome_to_unit
from evomerge.spaces.layer_edit import naive_removals
from evomerge.spaces.layer_edit_removal import removal_orders
from evomerge.spaces.registry import make_space

PRESETS = Path(__file__).parents[2] / "search_spaces"


def kept_layers(recipe) -> list[int]:
    ranges = [next(iter(part.layers.values())) for part in recipe.slices]
    return [layer for own in ranges for layer in range(*own)]


@settings(max_examples=40)
@given(drawn_layer_edits())
def test_starting_points_are_genomes_of_the_space_and_other_models_each(drawn):
    space, _, _ = drawn
    begun = first_genomes(space)
    names = [gene.name for gene in space.genes]
    assert all([*genome] == names for genome in begun)
    for genome in space.starting_points():
        again = genome_from_unit(space.genes, genome_to_unit(space.genes, genome))
        assert again == genome
    encoded = [space.encode(baseline.recipe) for baseline in space.baselines()]
    others = {space.decode(genome).digest for genome in encoded if genome is not None}
    own = [space.decode(genome).digest for genome in space.starting_points()]
    assert len({*own}) == len(own)
    assert not others & {*own}


def test_each_expert_and_all_merged_come_first_in_every_order_of_removal():
    space = space_of(source_models(2, 9), remove=3)
    recipes = [space.decode(genome) for genome in space.starting_points()]
    orders = [[0, 1, 2, 3, 4, 8], [0, 1, 2, 6, 7, 8], [0, 2, 3, 4, 5, 8]]
    found = [(kept_layers(r), [*r.rule_for("0.").models]) for r in recipes[:9]]
    models = (["e1"], ["e2"], ["e1", "e2"])
    assert found == [(order, members) for order in orders for members in models]


def test_orders_of_removal_end_with_the_last_and_first_layer():
    assert removal_orders(7) == (
        (5, 4, 3, 2, 1, 6, 0),
        (3, 4, 2, 5, 1, 6, 0),
        (5, 1, 4, 2, 3, 6, 0),
    )
    assert removal_orders(2) == ((1, 0),)
    assert removal_orders(1) == ((0,),)


@given(st.integers(1, 40))
def test_orders_of_removal_name_every_layer_once(layers):
    for order in removal_orders(layers):
        assert sorted(order) == [*range(layers)]


def test_layer_swaps_put_one_experts_outer_layers_around_anothers():
    space = space_of(source_models(2, 8), operator="none", warm_start=100)
    swaps = [
        [recipe.rule_for(f"{k}.").models.keys() for k in range(8)]
        for recipe in map(space.decode, space.starting_points())
    ]
    for inner, outer in (("e1", "e2"), ("e2", "e1")):
        assert [{outer}] * 2 + [{inner}] * 4 + [{outer}] * 2 in swaps


def test_merged_designs_come_at_several_scales_where_there_is_a_gene_for_them():
    spec = {"operator": "task_arithmetic", "remove": 1, "warm_start": 200}
    space = space_of(merge={"lambda": [0.4, 1]}, **spec)
    merged = [rule for g in space.starting_points() for rule in space.decode(g).rules[:-1]]
    of_all = [rule for rule in merged if len(rule.models) == 3]
    assert {rule.parameters["lambda"] for rule in of_all} == {0.4, 0.5, 0.7, 1.0}
    pairs = {tuple(rule.models) for rule in merged if len(rule.models) == 2}
    assert pairs == {("e1", "e2"), ("e1", "e3"), ("e2", "e3")}
    fixed = space_of(merge={"lambda": 0.6}, **spec)
    assert len(fixed.starting_points()) < len(space.starting_points())


def test_another_number_of_removed_layers_goes_on_in_the_same_order():
    space = space_of(source_models(2, 8), remove=[1, 4])
    genome = space.starting_points()[0]
    kept = [{*kept_layers(space.decode({**genome, "removed": n}))} for n in (1, 2, 3, 4)]
    assert [{*range(8)} - layers for layers in kept] == [{6}, {5, 6}, {4, 5, 6}, {3, 4, 5, 6}]


@pytest.mark.parametrize(("asked", "found"), [(0, 0), (5, 5), (24, 24)])
def test_starting_points_are_cut_to_the_warm_start(asked, found):
    space = space_of(source_models(3, 12), remove="25%", warm_start=asked)
    assert len(space.starting_points()) == found


def test_naive_removals_leave_out_the_last_evenly_spaced_and_middle_layers():
    found = naive_removals(source_models(1, 8), 2)
    assert {name: kept_layers(recipe) for name, recipe in found.items() if "e1" in name} == {
        "e1 without its last 2 layers": [0, 1, 2, 3, 4, 5],
        "e1 without 2 evenly spaced layers": [0, 1, 3, 4, 5, 7],
        "e1 without its middle 2 layers": [0, 1, 2, 5, 6, 7],
    }
    assert {recipe.layer_count for recipe in found.values()} == {6}
    assert len(found) == 6


@given(st.integers(2, 40), st.data())
def test_naive_removals_leave_out_as_many_layers_as_asked(layers, data):
    count = data.draw(st.integers(1, layers - 1))
    for recipe in naive_removals(source_models(1, layers), count).values():
        assert recipe.layer_count == layers - count
        assert kept_layers(recipe) == sorted({*kept_layers(recipe)})


@pytest.mark.parametrize("count", [0, 4, -1])
def test_naive_removals_of_nothing_or_everything_are_refused(count):
    with pytest.raises(ValueError, match="1 to 3 layers of 4"):
        naive_removals(source_models(1, 4), count)


@pytest.mark.parametrize("preset", ["layer_edit", "pruning"])
@pytest.mark.parametrize("with_base", [True, False])
@pytest.mark.parametrize("experts", [2, 3, 4])
def test_the_ready_spaces_suit_models_of_any_depth(preset, with_base, experts):
    written = yaml.safe_load((PRESETS / f"{preset}.yaml").read_text())
    kind = written.pop("kind")
    for layers in (2, 3, 5, 12, 40):
        models = source_models(experts, layers)
        space = make_space(
            kind, written, models if with_base else without_base(models), SIGNATURES
        )
        removed = -(-layers // 4) if preset == "pruning" else 0
        for genome in first_genomes(space):
            recipe = space.decode(genome)
            assert (recipe.layer_count or layers) == layers - removed
