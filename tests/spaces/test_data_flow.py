"""Paths through the layers of several models."""

import itertools
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from landscapes import source_models
from spaces.drawn_spaces import points

from evomerge.core.errors import ConfigError
from evomerge.core.recipe import Recipe, Source
from evomerge.merging.checkpoint import open_source
from evomerge.merging.engine import MergeEngine
from evomerge.recipes.recipe_yaml import recipe_from_yaml, recipe_to_yaml
from evomerge.spaces.data_flow import DataFlowSpace, DataFlowSpec
from evomerge.spaces.genes import genome_from_unit
from evomerge.spaces.registry import make_space
from evomerge.spaces.space import SourceModels

ROOT = Path(__file__).parents[2]
ZOO = ROOT / "experiments" / "quickstart" / "zoo"
PRESETS = ("data_flow", "data_flow_scaled")
PROJECTIONS = ("o_proj", "down_proj")


def models_of(experts: int = 2, layers: int = 4) -> SourceModels:
    return replace(source_models(experts, layers), output_projections=PROJECTIONS)


def space_of(models: SourceModels | None = None, **spec: object) -> DataFlowSpace:
    return DataFlowSpace(DataFlowSpec.model_validate(spec), models or models_of(), {})


def genome_of(space: DataFlowSpace, on: Collection[str], **other: float) -> dict[str, float]:
    """Slots that are on; scales of 1, keys in order; then what is given."""
    slots = [gene.name for gene in space.genes if gene.name.startswith("gate ")]
    genome: dict[str, float] = {name: int(name.removeprefix("gate ") in on) for name in slots}
    for place, name in enumerate(n.replace("gate", "key", 1) for n in slots):
        genome[name] = place / len(slots)
    genome |= {g.name: 1.0 for g in space.genes if g.name.startswith("scale ")}
    return {g.name: (genome | other)[g.name] for g in space.genes}


def path_of(recipe: Recipe, layers: int = 4) -> list[tuple[str, int]]:
    """The layers that a recipe is made of."""
    path = []
    for k in range(recipe.layer_count or layers):
        (source,) = recipe.rule_for(f"model.layers.{k}.mlp.up_proj.weight").models
        path.append((source, recipe.source_layer(source, k)))
    return path


def factors_of(recipe: Recipe, tensor: str, layers: int) -> list[float]:
    names = [f"model.layers.{k}.{tensor}.weight" for k in range(recipe.layer_count or layers)]
    return [recipe.rule_for(name).scale for name in names]


@st.composite
def drawn_spaces(draw, scales=("none", "slots", "matrix", "network")):
    models = models_of(draw(st.integers(1, 3)), draw(st.integers(1, 5)))
    names = [source.name for source in models.sources]
    listed = draw(st.none() | st.lists(st.sampled_from(names), min_size=1, unique=True))
    keep = models.layers > 1 and draw(st.booleans())
    if keep and (len(listed or models.experts)) * models.layers < 3:
        listed = names
    low, high = draw(st.sampled_from([(0.5, 2), (0.25, 1.5), (0.1, 10), (1, 1.25)]))
    return space_of(
        models,
        sources=listed,
        repeats=draw(st.integers(1, 3)),
        most_layers=draw(st.none() | st.integers(3 if keep else 1, 9)),
        keep_ends=keep,
        order=draw(st.sampled_from(["kept", "permuted"])),
        scales=draw(st.sampled_from(scales)),
        scale_range=(low, high),
        hidden=draw(st.integers(1, 3)),
    )


@st.composite
def with_genomes(draw, **kinds):
    space = draw(drawn_spaces(**kinds))
    return space, genome_from_unit(space.genes, draw(points(space)))


def slots_on(genome) -> list[tuple[tuple[str, int], float]]:
    """The slots that are on: layer and key; in the order of the path."""
    found = []
    for name, value in genome.items():
        if name.startswith("gate ") and value == 1:
            source, layer = name.split(" ")[2].split(".")
            found.append(
                ((source, int(layer)), genome.get(name.replace("gate", "key", 1), 0.0))
            )
    return sorted(found, key=lambda slot: slot[1])


def test_slots_that_are_on_follow_one_another_between_the_first_sources_ends():
    space = space_of(repeats=2)
    genome = genome_of(space, {"1 e1.1", "1 e2.2", "2 e1.1", "2 e2.3"})
    path = [("e1", 0), ("e1", 1), ("e2", 2), ("e1", 1), ("e2", 3), ("e1", 3)]
    assert path_of(space.decode(genome)) == path


def test_every_layer_but_the_kept_ends_has_a_slot_in_each_repetition():
    gates = [gene.name for gene in space_of(repeats=2).genes]
    once = [f"e1.{k}" for k in (1, 2)] + [f"e2.{k}" for k in range(4)]
    assert gates == [f"gate {turn} {layer}" for turn in (1, 2) for layer in once]
    # As published: 64 layers three times, and a scale for each pair.
    assert len(space_of(models_of(2, 32), repeats=3, keep_ends=False).genes) == 192
    sakana = space_of(models_of(2, 32), repeats=3, keep_ends=False, scales="matrix")
    assert len(sakana.genes) == 192 + 64**2


def test_where_more_are_on_than_there_is_room_evenly_spaced_ones_count():
    on = ["1 e1.1", "1 e1.2", "1 e2.0", "1 e2.3"]
    space = space_of(most_layers=4)
    found = path_of(space.decode(genome_of(space, on)))
    assert found == [("e1", 0), ("e1", 1), ("e2", 0), ("e1", 3)]
    space = space_of(most_layers=4, order="permuted")
    found = path_of(space.decode(genome_of(space, on, **{"key 1 e2.3": 0.05})))
    assert found == [("e1", 0), ("e1", 1), ("e1", 2), ("e1", 3)]


@pytest.mark.parametrize(
    "kinds", [{"repeats": 2}, {"order": "permuted"}, {"most_layers": 5, "repeats": 3}]
)
def test_paths_of_random_genomes_use_every_slot_about_as_often(kinds):
    space = space_of(models_of(3, 12), **kinds)
    rng = np.random.default_rng(3)
    used = Counter()
    for _ in range(400):
        genome = genome_from_unit(space.genes, rng.random(len(space.genes)))
        used.update(step.slot for step in space._slots.path(genome) if step.slot is not None)
    counts = np.array([used[k] for k in range(len(space._slots.layers))])
    quarters = [part.mean() / counts.mean() for part in np.array_split(counts, 4)]
    assert max(quarters) < 1.15
    assert min(quarters) > 0.85


@given(with_genomes())
def test_while_there_is_room_another_gate_is_another_recipe(drawn):
    space, genome = drawn
    gates = [name for name in genome if name.startswith("gate ")]
    ends = 2 * space._slots.keep_ends
    if not 1 < sum(genome[name] for name in gates) < space.most_layers - ends:
        return
    recipe = space.decode(genome)
    for name in gates:
        assert space.decode(genome | {name: 1 - genome[name]}).digest != recipe.digest


def test_keys_order_the_slots_of_a_permuted_path():
    space = space_of(order="permuted")
    keys = {"key 1 e1.1": 0.9, "key 1 e2.2": 0.2, "key 1 e2.0": 0.5}
    on = ["1 e1.1", "1 e2.2", "1 e2.0"]
    found = path_of(space.decode(genome_of(space, on, **keys)))
    assert found == [("e1", 0), ("e2", 2), ("e2", 0), ("e1", 1), ("e1", 3)]


def test_without_ends_the_first_slot_stands_where_none_is_on():
    space = space_of(keep_ends=False)
    assert path_of(space.decode(genome_of(space, []))) == [("e1", 0)]


def test_tensors_outside_of_layers_are_the_first_sources():
    space = space_of(sources=["e2", "base"])
    recipe = space.decode(genome_of(space, ["1 base.1"]))
    for name in ("model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"):
        assert [*recipe.rule_for(name).models] == ["e2"]


def test_neighbours_of_one_source_share_slice_and_rule():
    space = space_of(scales="slots")
    on = ["1 e1.1", "1 e1.2", "1 e2.1", "1 e2.2"]
    recipe = space.decode(genome_of(space, on, **{"scale 1 e1.2": 2.0}))
    assert [part.layers for part in recipe.slices] == [
        {"e1": (0, 3)},
        {"e2": (1, 3)},
        {"e1": (3, 4)},
    ]
    scaled = [(rule.layers, rule.contains, rule.scale) for rule in recipe.rules[:-4]]
    by_layers = [(2, 3), (3, 5), (5, 6)]
    assert scaled == [(at, (part,), 0.5) for at in by_layers for part in PROJECTIONS]


def test_a_layer_and_all_after_it_add_to_the_hidden_state_divided_by_the_scale():
    space = space_of(scales="slots")
    on = ["1 e1.1", "1 e2.3"]
    genome = genome_of(space, on, **{"scale 1 e1.1": 2.0, "scale last": 0.8})
    recipe = space.decode(genome)
    for part in ("self_attn.o_proj", "mlp.down_proj"):
        assert factors_of(recipe, part, 4) == pytest.approx([1, 0.5, 0.5, 0.625])
    for part in ("self_attn.q_proj", "mlp.up_proj", "input_layernorm"):
        assert factors_of(recipe, part, 4) == [1, 1, 1, 1]


def test_scales_of_one_leave_no_trace():
    plain, scaled = space_of(), space_of(scales="slots")
    on = ["1 e1.1", "1 e2.3"]
    recipes = [space.decode(genome_of(space, on)) for space in (plain, scaled)]
    assert recipes[0].digest == recipes[1].digest


def test_a_matrix_has_a_scale_for_every_pair_that_can_be_neighbours():
    named = [g.name for g in space_of(models_of(1, 4), scales="matrix").genes]
    pairs = {("0", "1"), ("0", "2"), ("0", "3"), ("1", "2"), ("1", "3"), ("2", "3")}
    assert named[2:] == [f"scale e1.{a} > e1.{b}" for a, b in sorted(pairs)]


def test_a_network_of_zeros_scales_nothing():
    space = space_of(scales="network", hidden=2)
    zeros = dict.fromkeys([g.name for g in space.genes if g.name.startswith("scale ")], 0.0)
    assert len(zeros) == 5 * 2 + 1
    recipe = space.decode(genome_of(space, ["1 e2.2"], **zeros))
    assert {rule.scale for rule in recipe.rules} == {1.0}
    turned = space.decode(genome_of(space, ["1 e2.2"], **zeros | {"scale out bias": 1.0}))
    largest = 2**0.9950547  # tanh 3
    assert factors_of(turned, "o_proj", 4) == pytest.approx([1, 1 / largest, 1 / largest**2])


@given(with_genomes())
def test_every_point_of_the_cube_is_a_recipe_neither_empty_nor_too_deep(drawn):
    space, genome = drawn
    recipe = space.decode(genome)
    assert 1 <= len(path_of(recipe, space._models.layers)) <= space.most_layers
    assert all(1e-3 <= rule.scale <= 1e3 for rule in recipe.rules)
    assert recipe.digest == space.decode(dict(genome)).digest
    assert recipe_from_yaml(recipe_to_yaml(recipe)).digest == recipe.digest


@given(with_genomes())
def test_the_path_is_the_slots_that_are_on_in_their_order_or_by_key(drawn):
    space, genome = drawn
    found = path_of(space.decode(genome), depth := space._models.layers)
    ends = 2 * space._slots.keep_ends
    first = space._slots.pool[0].source
    if ends:
        assert (found[0], found[-1]) == ((first, 0), (first, depth - 1))
        found = found[1:-1]
    on = [layer for layer, _ in slots_on(genome)]
    if len(on) > (room := space.most_layers - ends):
        assert len(found) == room
        rest = iter(on)
        assert all(layer in rest for layer in found)  # in their order
    else:
        assert found == (on if on or ends else [(first, 0)])


@given(with_genomes(scales=("slots", "matrix")))
def test_factors_are_the_inverse_of_the_running_product_of_scales(drawn):
    space, genome = drawn
    on = slots_on(genome)
    if not 0 < len(on) <= space.most_layers - 2 * space._slots.keep_ends:
        return
    recipe = space.decode(genome)
    path = path_of(recipe, space._models.layers)
    names = [
        n.removeprefix("gate ") for n in genome if n.startswith("gate ") and genome[n] == 1
    ]
    names.sort(key=lambda name: genome.get(f"key {name}", 0.0))
    if space._slots.keep_ends:
        names = ["first", *names, "last"]
    product, wanted = 1.0, [1.0]
    for k, (before, after) in enumerate(itertools.pairwise(path), 1):
        pair = f"scale {before[0]}.{before[1]} > {after[0]}.{after[1]}"
        scale = genome[pair] if pair in genome else genome[f"scale {names[k]}"]
        product = min(1e3, max(1e-3, product * scale))
        wanted.append(1 / product)
    assert factors_of(recipe, "o_proj", len(path)) == pytest.approx(wanted, rel=1e-6)
    assert set(factors_of(recipe, "up_proj", len(path))) == {1.0}


@given(with_genomes())
def test_encoding_gives_back_every_recipe_whose_scales_are_genes(drawn):
    space, genome = drawn
    recipe = space.decode(genome)
    encoded = space.encode(recipe)
    if encoded is None:
        # Weights cannot be told from what a network says.
        assert any(name.startswith("scale out") for name in genome)
        assert any(rule.scale != 1 for rule in recipe.rules)
        return
    assert [*encoded] == [gene.name for gene in space.genes]
    assert space.decode(encoded).digest == recipe.digest


@given(with_genomes())
def test_the_first_source_alone_is_a_path_and_other_plain_recipes_are_none(drawn):
    space, _ = drawn
    first = space._slots.pool[0].source
    for baseline in space.baselines():
        encoded = space.encode(baseline.recipe)
        fits = space.most_layers >= space._models.layers
        assert (encoded is not None) == (baseline.name == first and fits)
        if encoded is not None:
            assert space.decode(encoded).digest == baseline.recipe.digest


@given(drawn_spaces())
def test_starting_points_are_a_few_different_paths_in_range(space):
    started = space.starting_points()
    assert len(started) <= 12
    for genome in started:
        assert [*genome] == [gene.name for gene in space.genes]
    digests = [space.decode(genome).digest for genome in started]
    assert len(set(digests)) == len(digests)


def test_a_search_starts_at_the_first_source_and_at_stacks_of_two():
    space = space_of(models_of(2, 8), repeats=2)
    alone, inserted, swapped, handed, twice = map(space.decode, space.starting_points())
    e1, e2 = ([(name, k) for k in range(8)] for name in ("e1", "e2"))
    assert path_of(alone, 8) == e1
    assert path_of(inserted) == e1[:6] + e2[4:6] + e1[6:]
    assert path_of(swapped) == e1[:2] + e2[2:6] + e1[6:]
    assert path_of(handed) == e1[:4] + e2[4:7] + e1[7:]
    assert path_of(twice) == e1[:6] + e1[4:]


def test_what_a_path_without_repeats_cannot_be_is_no_starting_point():
    kept = space_of(models_of(2, 8))
    assert len(kept.starting_points()) == 2
    assert len(space_of(models_of(2, 8), order="permuted").starting_points()) == 4


def test_names_of_any_kind_give_genes_of_different_names():
    names = ["a", "a.1", "a 1", "b > a.1", "'a'", "é", "gate 1"]
    models = replace(models_of(), experts=tuple(Source(name, "/m") for name in names))
    space = space_of(models, scales="matrix", order="permuted", repeats=2)
    assert len({gene.name for gene in space.genes}) == len(space.genes)
    for genome in space.starting_points():
        assert space.encode(space.decode(genome)) is not None


@pytest.mark.parametrize("experts", [2, 3, 4])
@pytest.mark.parametrize("layers", [2, 3, 12, 40])
@pytest.mark.parametrize("preset", PRESETS)
def test_presets_suit_models_of_any_number_and_depth(preset, layers, experts):
    written = yaml.safe_load((ROOT / "search_spaces" / f"{preset}.yaml").read_text())
    space = make_space(written.pop("kind"), written, models_of(experts, layers), {})
    assert space.most_layers == min(2 * layers, 2 + 2 * (experts * layers - 2))
    assert space.decode(space.starting_points()[0]) == space.baselines()[1].recipe


@pytest.mark.parametrize(
    ("spec", "models", "said"),
    [
        (
            {"sources": ["e1", "e22", "e1"], "most_layers": 2, "scale_range": [2, 4]},
            models_of(),
            "(?s)unknown model 'e22'; did you mean 'e2'.*each model once.*most_layers: 2 "
            "leaves no layer.*scale_range: expected",
        ),
        ({"scales": "slots"}, source_models(), "architecture of /models/e1 .* 'scales: none'"),
        ({}, models_of(layers=0), "no numbered layers"),
        ({}, models_of(layers=1), "models of one layer have no two ends"),
        ({}, models_of(1, 2), "one model of two layers has none between"),
        ({"scale_range": [0, 2]}, models_of(), "with 1 between them"),
        ({"scale_range": [0.5, float("inf")]}, models_of(), "with 1 between them"),
        ({"repeats": 0}, models_of(), "greater than or equal to 1"),
        ({"order": "permutated"}, models_of(), "'kept' or 'permuted'"),
    ],
)
def test_what_does_not_suit_is_said(spec, models, said):
    with pytest.raises(ConfigError, match=said):
        make_space("data_flow", spec, models, {})


@pytest.fixture(scope="module")
def zoo() -> MergeEngine:
    return MergeEngine({n: open_source(str(ZOO / n)) for n in ("base", "sort", "town")})


def test_real_models_are_stacked_as_the_path_says(zoo):
    import torch

    sources = {n: Source(n, str(ZOO / n), s.fingerprint) for n, s in zoo.sources.items()}
    models = SourceModels(sources["base"], (sources["sort"], sources["town"]), 5)
    space = space_of(replace(models, output_projections=PROJECTIONS), repeats=2)
    for genome in space.starting_points():
        recipe = space.decode(genome)
        own = dict(zoo.tensors(recipe))
        for k, (source, layer) in enumerate(path_of(recipe, 5)):
            taken = zoo.sources[source].read(f"model.layers.{layer}.mlp.up_proj.weight")
            assert torch.equal(own[f"model.layers.{k}.mlp.up_proj.weight"], taken)


def multiplied_on_the_way(model, scales: list[float]) -> None:
    """Multiply the hidden state before each layer but the first."""

    def by(scale: float):
        def before(layer, args, kwargs):
            if args:
                return (scale * args[0], *args[1:]), kwargs
            return args, kwargs | {"hidden_states": scale * kwargs["hidden_states"]}

        return before

    for layer, scale in zip(model.model.layers, [1.0, *scales], strict=True):
        layer.register_forward_pre_hook(by(scale), with_kwargs=True)


def test_scaled_layers_answer_as_if_the_hidden_state_were_multiplied(zoo):
    import torch

    sources = {n: Source(n, str(ZOO / n), s.fingerprint) for n, s in zoo.sources.items()}
    models = SourceModels(sources["base"], (sources["sort"], sources["town"]), 5)
    models = replace(models, output_projections=PROJECTIONS)
    space = space_of(models, scales="slots", repeats=2)
    on = ["1 sort.1", "1 town.2", "2 sort.2", "2 sort.3"]
    given_ = {"scale 1 sort.1": 1.7, "scale 1 town.2": 0.6, "scale 2 sort.3": 2.0}
    folded = space.decode(genome_of(space, on, **given_, **{"scale last": 1.3}))
    plain = space.decode(genome_of(space, on))
    tokens = torch.tensor([[1, 5, 9, 17, 30]])
    answers = []
    for recipe in (folded, plain):
        model = zoo.resident_model(recipe, dtype=torch.float32)
        zoo.apply(recipe, model)
        if recipe is plain:
            unscaled = model(tokens).logits
            multiplied_on_the_way(model, [1.7, 0.6, 1.0, 2.0, 1.3])
        answers.append(model(tokens).logits)
    assert torch.allclose(*answers, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(answers[0], unscaled, rtol=1e-2, atol=1e-2)
