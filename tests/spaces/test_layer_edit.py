"""Layers left out, taken from one source, or merged of some of the experts."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from landscapes import source_models
from spaces.drawn_spaces import SIGNATURES, points
from spaces.layer_edit_spaces import (
    layer_edits_with_genomes,
    space_of,
    without_base,
)

from evomerge.core.errors import ConfigError
from evomerge.core.recipe import Recipe, Rule, Slice
from evomerge.merging.recipe_check import validate_recipe
from evomerge.recipes.recipe_yaml import recipe_from_yaml, recipe_to_yaml
from evomerge.spaces.genes import genome_from_unit
from evomerge.spaces.registry import make_space


def genome_of(space, **genes: object):
    """The given genes, and the first option or lowest value of all others."""
    known = {name.replace("__", ".").replace("_", " "): value for name, value in genes.items()}
    assert known.keys() <= {gene.name for gene in space.genes}
    return {gene.name: known.get(gene.name, gene.from_unit(0.0)) for gene in space.genes}


def made_of(recipe: Recipe, depth: int = 4) -> list[dict[str, int | None]]:
    """For each layer of the merged model the models that it is made of, and their layer."""
    return [
        {m: recipe.source_layer(m, k) for m in recipe.rule_for(f"layers.{k}.mlp").models}
        for k in range(recipe.layer_count or depth)
    ]


def layers_of(recipe: Recipe, depth: int) -> list[int]:
    """The sources' layer of each layer; all models of a layer give the same."""
    numbers = [set(models.values()) for models in made_of(recipe, depth)]
    assert all(len(own) == 1 for own in numbers)
    return [layer for own in numbers for layer in own if layer is not None]


def low(remove) -> int:
    return remove[0] if isinstance(remove, list) else remove


def test_of_the_experts_chosen_none_means_the_base_one_its_layer_and_more_a_merge():
    space = space_of(operator="ties")
    recipe = space.decode(
        genome_of(space, e2__on_layer_1=1, e1__on_layer_2=1, e3__on_layer_2=1, e3__on_layer_3=1)
    )
    assert made_of(recipe) == [{"base": 0}, {"e2": 1}, {"e1": 2, "e3": 2}, {"e3": 3}]
    operators = [recipe.rule_for(f"layers.{k}.mlp").operator for k in range(4)]
    assert operators == ["passthrough", "passthrough", "ties", "passthrough"]


def test_without_a_base_the_first_expert_gives_layers_for_which_none_is_chosen():
    space = space_of(without_base(source_models()))
    recipe = space.decode(genome_of(space, e2__on_layer_1=1))
    assert made_of(recipe) == [{"e1": 0}, {"e2": 1}, {"e1": 2}, {"e1": 3}]


def test_sources_leave_models_out():
    space = space_of(sources=["e3", "e2"])
    assert {gene.name.partition(".")[0] for gene in space.genes} == {"e2", "e3"}
    assert made_of(space.decode(genome_of(space)))[0] == {"e2": 0}
    recipe = space.decode(genome_of(space, e3__on_layer_0=1))
    assert [*recipe.rule_for("embed").models] == ["e2", "e3"]


def test_whole_layers_are_chosen_by_one_gene():
    space = space_of(operator="none", layers_per_group=2)
    assert [gene.name for gene in space.genes] == ["from layers 0-1", "from layers 2-3"]
    recipe = space.decode({"from layers 0-1": "e2", "from layers 2-3": "base"})
    assert made_of(recipe) == [{"e2": 0}, {"e2": 1}, {"base": 2}, {"base": 3}]


def test_nothing_to_choose_has_no_gene():
    one = without_base(source_models(1))
    assert space_of(one).genes == ()
    assert space_of(one, remove=2, keep_ends=True).genes == ()
    names = [gene.name for gene in space_of(one, remove=1).genes]
    assert names == [f"keep layer {k}" for k in range(4)]
    names = [gene.name for gene in space_of(one, remove=[0, 1], keep_ends=True).genes]
    assert names == ["removed", "keep layer 1", "keep layer 2"]


def test_layers_with_the_smallest_values_are_left_out_and_of_equal_ones_the_later():
    space = space_of(remove=2)
    values = {"keep_layer_0": 0.4, "keep_layer_1": 0.9, "keep_layer_2": 0.4}
    recipe = space.decode(genome_of(space, **values, keep_layer_3=0.1))
    assert layers_of(recipe, 4) == [0, 1]


@pytest.mark.parametrize(
    ("remove", "layers", "low", "high"),
    [(3, 40, 3, 3), ("25%", 5, 2, 2), ("10%", 30, 3, 3), (["0%", "27.1%"], 32, 0, 9)],
)
def test_shares_of_layers_are_rounded_up(remove, layers, low, high):
    space = space_of(source_models(2, layers), remove=remove)
    genes = [gene for gene in space.genes if gene.name == "removed"]
    if low == high:
        assert not genes
        assert space.decode(genome_of(space)).layer_count == layers - low
    else:
        assert [(gene.low, gene.high) for gene in genes] == [(low, high)]


def test_parameters_have_a_gene_each_or_one_a_layer_group():
    per_layers = {"low": 0.0, "high": 1.0, "per": ["layers"]}
    space = space_of(
        operator="ties",
        experts={"density": [0.1, 1]},
        merge={"lambda": per_layers},
        layers_per_group=3,
    )
    chosen = {f"e{k}.on {group}": 1 for k in (1, 2) for group in ("layers 0-2", "layer 3")}
    values = {"lambda layers 0-2": 0.25, "lambda layer 3": 0.75, "e2.density": 0.5}
    recipe = space.decode(genome_of(space) | chosen | values)
    for layer, scale in ((0, 0.25), (2, 0.25), (3, 0.75)):
        rule = recipe.rule_for(f"layers.{layer}.mlp")
        assert rule.parameters == {"lambda": scale}
        assert rule.models == {"e1": {"density": 0.1}, "e2": {"density": 0.5}}


def test_weights_that_cancel_are_replaced_where_they_are_divided_by_their_sum():
    space = space_of(source_models(2), experts={"weight": [-1, 1]})
    genome = genome_of(space, e1__on_layer_0=1, e2__on_layer_0=1, e1__weight=1.0)
    assert genome["e2.weight"] == -1
    rule = space.decode(genome).rule_for("layers.0.mlp")
    assert rule.models == {"e1": {"weight": 1.0}, "e2": {"weight": 1.0}}


def test_neighbouring_layers_made_alike_share_a_slice_and_a_rule():
    space = space_of(source_models(2, 6), remove=1)
    genes = {f"e1__on_layer_{k}": 1 for k in (2, 3, 4, 5)} | {"keep_layer_4": 0.0}
    kept = {f"keep_layer_{k}": 1.0 for k in (0, 1, 2, 3, 5)}
    recipe = space.decode(genome_of(space, **genes, **kept))
    slices = [Slice({"base": (0, 2)}), Slice({"e1": (2, 4)}), Slice({"e1": (5, 6)})]
    assert list(recipe.slices) == slices
    assert [(rule.operator, rule.layers) for rule in recipe.rules] == [
        ("passthrough", (0, 2)),
        ("passthrough", (2, 5)),
        ("linear", None),
    ]


@pytest.mark.parametrize("remove", [0, [0, 2]])
def test_what_is_a_plain_merge_has_its_hash(remove):
    models = source_models()
    plain = {b.name: b.recipe for b in space_of().baselines()}
    mean = space_of(models, remove=remove)
    genome = mean.encode(plain["uniform average"])
    assert mean.decode(genome).digest == plain["uniform average"].digest
    for name in ("base", "e1", "e2", "e3"):
        space = space_of(models, remove=remove, rest=name)
        assert space.decode(space.encode(plain[name])).digest == plain[name].digest


def test_a_gene_chooses_what_gives_the_rest():
    models = source_models()
    space = space_of(models, remove=2, rest="any")
    (gene,) = [gene for gene in space.genes if gene.name == "rest"]
    assert gene.options == ("mean", "base", "e1", "e2", "e3")
    genome = dict(space.starting_points()[0])
    made = {name: space.decode(genome | {"rest": name}) for name in gene.options}
    assert len({recipe.digest for recipe in made.values()}) == len(made)
    for name, recipe in made.items():
        outside = recipe.rule_for("model.embed_tokens.weight")
        assert [*outside.models] == ([name] if name != "mean" else ["e1", "e2", "e3"])
        assert space.encode(recipe)["rest"] == name
    one = space_of(models, remove=2, rest=["e2"])
    assert "rest" not in [gene.name for gene in one.genes]


def test_layers_of_one_model_are_proposed_first_with_its_own_rest():
    models = source_models()
    space = space_of(models, remove=[0, 2], rest="any")
    naive = {b.name: b.recipe for b in space.baselines() if "without" in b.name}
    for recipe in naive.values():
        assert space.decode(space.encode(recipe)).digest == recipe.digest
    for genome in space.starting_points():
        layers = space.decode(genome).rules[:-1]
        owners = {name for rule in layers for name in rule.models}
        if len(owners) == 1:
            assert genome["rest"] in owners


def test_a_source_alone_is_encoded_as_its_layers_whatever_the_rest():
    space = space_of(remove=[0, 2])
    encoded = {b.name: space.encode(b.recipe) for b in space.baselines()}
    recipe = space.decode(encoded["e2"])
    assert made_of(recipe) == [{"e2": k} for k in range(4)]
    assert recipe.rule_for("embed").operator == "linear"
    shorter = space.decode(encoded["e2 without its last 2 layers"])
    assert made_of(shorter) == [{"e2": 0}, {"e2": 1}]


def test_plain_merges_are_encoded_with_the_nearest_parameters_that_the_space_has():
    space = space_of(operator="ties", merge={"lambda": [0.2, 0.8]}, experts={"density": [0, 1]})
    encoded = {b.name: space.encode(b.recipe) for b in space.baselines()}
    assert encoded["uniform average"] is None
    assert encoded["task arithmetic"] is None
    assert encoded["ties"]["lambda"] == 0.8
    assert encoded["ties"]["e3.density"] == 0.2


def test_what_the_space_does_not_vary_is_not_encoded():
    models, e1 = source_models(2), Rule("passthrough", {"e1": {}})
    space = space_of(models, remove=[0, 1], keep_ends=True)
    e2 = Rule("passthrough", {"e2": {}}, layers=(1, 2))
    mlp = Rule("passthrough", {"e2": {}}, contains=("mlp",))
    uneven = Rule("linear", {"e1": {"weight": 0.9}, "e2": {"weight": 0.1}})
    scaled = Rule("passthrough", {"e1": {}}, scale=0.5)

    def sliced(*ranges):
        slices = tuple(Slice({"e1": own}) for own in ranges)
        return Recipe(models.sources, (e1,), "base", slices=slices)

    assert space.encode(models.recipe([e1])) is not None
    assert space.encode(sliced((0, 2), (3, 4))) is not None
    for recipe in (
        models.recipe([e2, e1]),  # the rest is the mean
        models.recipe([mlp, e1]),
        models.recipe([uneven]),
        models.recipe([scaled]),
        sliced((0, 3)),  # the last layer is kept
        sliced((0, 1), (3, 4)),
        sliced((0, 2), (1, 4)),
        sliced((0, 2), (3, 4), (4, 5)),
    ):
        assert space.encode(recipe) is None


def test_depth_varies_only_where_layers_can_be_left_out():
    assert space_of().most_layers is None
    assert space_of(remove=[0, 1]).most_layers == 4
    assert space_of(remove=1).most_layers == 4


def test_each_source_without_its_last_layers_is_a_baseline():
    def shorter(remove):
        plain = {b.name for b in space_of().baselines()}
        found = [b for b in space_of(remove=remove).baselines() if b.name not in plain]
        return {b.name: (b.kind, b.recipe.layer_count) for b in found}

    names = ("base", "e1", "e2", "e3")
    assert shorter(0) == {}
    assert shorter(1) == {f"{n} without its last layer": ("baseline", 3) for n in names}
    last = {f"{n} without its last 2 layers": ("baseline", 2) for n in names}
    assert shorter(["0%", "50%"]) == last
    least = {f"{n} without its last 3 layers": ("baseline", 1) for n in names}
    assert shorter([2, 3]) == last | least


@given(layer_edits_with_genomes())
def test_every_genome_is_a_mergeable_recipe_that_leaves_out_as_many_layers_as_asked(drawn):
    space, spec, models, genome = drawn
    recipe = space.decode(genome)
    assert validate_recipe(recipe) == []
    kept = layers_of(recipe, models.layers)
    asked = genome.get("removed", low(spec["remove"]))
    assert kept == sorted(set(kept))
    assert models.layers - len(kept) == asked
    assert bool(recipe.slices) == (asked > 0)
    if spec["keep_ends"]:
        assert {0, models.layers - 1} <= {*kept}
    values = [v for rule in recipe.rules for own in rule.models.values() for v in own.values()]
    assert all(math.isfinite(value) for value in values)
    assert space.decode(dict(genome)).digest == recipe.digest


@given(layer_edits_with_genomes())
def test_layers_are_made_of_what_the_genes_choose(drawn):
    space, spec, models, genome = drawn
    recipe = space.decode(genome)
    names = [s.name for s in models.sources if s.name in (spec["sources"] or s.name)]
    kept = layers_of(recipe, models.layers)
    size = spec["layers_per_group"]
    for models_of, layer in zip(made_of(recipe, models.layers), kept, strict=True):
        first = layer // size * size
        last = min(first + size, models.layers) - 1
        label = f"layer {first}" if first == last else f"layers {first}-{last}"
        chosen = [n for n in names if genome.get(f"{n}.on {label}")]
        default = str(genome.get(f"from {label}", names[0]))
        assert [*models_of] == (chosen or [default])


@given(layer_edits_with_genomes())
def test_encoding_gives_back_every_recipe_that_was_decoded(drawn):
    space, _, _, genome = drawn
    recipe = space.decode(genome)
    encoded = space.encode(recipe)
    assert encoded is not None
    assert [*encoded] == [gene.name for gene in space.genes]
    assert space.decode(encoded).digest == recipe.digest


@given(layer_edits_with_genomes())
def test_recipes_come_back_from_yaml(drawn):
    space, _, _, genome = drawn
    recipe = space.decode(genome)
    assert recipe_from_yaml(recipe_to_yaml(recipe)).digest == recipe.digest


@given(layer_edits_with_genomes(), st.data())
def test_genomes_that_leave_out_other_layers_are_other_models(drawn, data):
    space, _, models, genome = drawn
    other = genome_from_unit(space.genes, data.draw(points(space)))
    moved = genome | {name: other[name] for name in other if name.startswith("keep")}
    one, two = space.decode(genome), space.decode(moved)
    same = layers_of(one, models.layers) == layers_of(two, models.layers)
    assert same == (one.digest == two.digest)


@given(layer_edits_with_genomes())
def test_the_order_of_values_among_the_kept_and_among_the_removed_has_no_effect(drawn):
    space, _, models, genome = drawn
    recipe = space.decode(genome)
    kept = {f"keep layer {k}" for k in layers_of(recipe, models.layers)}
    sides = [
        [name for name in genome if name.startswith("keep") and (name in kept) == side]
        for side in (True, False)
    ]
    values = [[genome[name] for name in side] for side in sides]
    # A value of both sides is left out for the layer that it is of.
    assume(min(values[0], default=2) > max(values[1], default=-1))
    moved = dict(genome)
    for names, own in zip(sides, values, strict=True):
        moved |= zip(names, reversed(own), strict=True)
    assert space.decode(moved).digest == recipe.digest


@pytest.mark.parametrize(
    ("spec", "models", "said"),
    [
        (
            {"remov": 1},
            source_models(),
            ["space.remov: unknown key 'remov'; did you mean 'remove'"],
        ),
        (
            {"remove": "a quarter"},
            source_models(),
            ["a share from 0% to below 100%, found 'a q"],
        ),
        ({"remove": -1}, source_models(), ["found -1"]),
        ({"remove": 0.25}, source_models(), ["found 0.25"]),
        ({"remove": True}, source_models(), ["found True"]),
        ({"remove": "100%"}, source_models(), ["found '100%'"]),
        ({"remove": [2, 1]}, source_models(), ["space.remove: the fewest, 2, are more than"]),
        (
            {"remove": "90%", "keep_ends": True},
            source_models(),
            ["at most 2 can be left out of 4 layers, of which", "found 90%, which is 4."],
        ),
        ({"remove": 4}, source_models(), ["at most 3 can be left out of 4 layers; found 4."]),
        ({}, source_models(layers=0), ["the models have none"]),
        (
            {
                "remove": 9,
                "sources": ["e1", "e2", "e1", "bse"],
                "operator": "task_arithmetik",
                "rest": "maen",
            },
            source_models(),
            ["at most 3", "twice", "mean 'base'", "mean 'task_arithmetic'", "mean 'mean'"],
        ),
        ({"sources": []}, source_models(), ["at least one model"]),
        ({"operator": "slerp"}, source_models(3), ["slerp merges 2 models", "3 experts"]),
        (
            {"operator": "ties", "experts": {"lambda": [0, 1]}, "merge": {"lamda": 1}},
            without_base(source_models()),
            ["to a base model", "experts.lambda: belongs under space.merge", "'lambda'"],
        ),
        (
            {"operator": "ties", "merge": {"density": 1}, "experts": {"weigth": 1}},
            source_models(),
            ["merge.density: belongs under space.experts", "did you mean 'weight'"],
        ),
        (
            {
                "operator": "ties",
                "experts": {
                    "density": {"low": -1, "high": 2},
                    "weight": {"low": 0, "high": 1, "per": ["component"]},
                },
                "merge": {"lambda": {"low": 0, "high": 1, "per": ["expert"]}},
            },
            source_models(),
            ["ties's density", "found 'component'", "found 'expert'"],
        ),
        ({"experts": {"weight": [0, 1]}}, source_models(1), ["layers are taken from 1"]),
        ({"operator": "none", "merge": {"lambda": 1}}, source_models(), ["taken whole"]),
        (
            {"experts": {"weight": {"per_expert": {"e7": [0, 1]}}}},
            source_models(),
            ["unknown expert 'e7'"],
        ),
    ],
)
def test_every_problem_is_said_at_once(spec, models, said):
    with pytest.raises(ConfigError) as caught:
        make_space("layer_edit", spec, models, SIGNATURES)
    for part in said:
        assert part in str(caught.value)


def test_a_model_called_as_the_mean_is_refused():
    models = source_models(2)
    renamed = models.experts[0].__class__("mean", "/models/mean", "f9")
    with pytest.raises(ConfigError, match="call the model otherwise"):
        space_of(type(models)(models.base, (*models.experts, renamed), 4))
