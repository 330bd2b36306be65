import time
from pathlib import Path

import numpy as np
import pytest
import torch
from merging import formulas
from merging.tiny_llamas import recipe_of
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from evomerge.core.errors import CheckpointError, ConfigError, TrialError
from evomerge.core.recipe import Recipe, Rule, Slice, Source
from evomerge.merging.checkpoint import open_source
from evomerge.merging.engine import MergeEngine, _on_threads
from evomerge.merging.merge_plan import tensor_merges
from evomerge.merging.statistics_files import Collected, write_statistics
from evomerge.merging.study_memory import StudyMemory

HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
PROMPT = torch.arange(3, 23)[None]
STORIES = Path(__file__).parents[3] / "shared/models/stories260K"


def engine_of(llamas, *names, **folders):
    places = {name: llamas[name] for name in names} | folders
    return MergeEngine({name: open_source(str(place)) for name, place in places.items()})


def logits(model):
    with torch.no_grad():
        return model(PROMPT).logits


def test_every_tensor_is_merged_by_its_formula(llamas):
    engine = engine_of(llamas, "base", "a", "b")
    recipe = recipe_of(
        {"a": {"weight": 0.75, "density": 0.5}, "b": {"weight": 0.5, "density": 0.25}},
        "ties",
        base="base",
    )
    saved = {n: load_file(llamas[n] / "model.safetensors") for n in ("base", "a", "b")}
    merged = dict(engine.tensors(recipe))
    assert list(merged) == list(engine.sources["base"].tensors)
    for name in ("model.norm.weight", "model.layers.1.self_attn.k_proj.weight"):
        base, a, b = (saved[n][name].numpy().reshape(-1) for n in ("base", "a", "b"))
        want = formulas.ties([a, b], base, [0.75, 0.5], [0.5, 0.25])
        np.testing.assert_allclose(merged[name].numpy().reshape(-1), want, atol=1e-6)


def test_the_first_rule_that_selects_a_tensor_merges_it(llamas):
    engine = engine_of(llamas, "a", "b", "c")
    recipe = Recipe(
        sources=tuple(Source(n, n) for n in "abc"),
        rules=(
            Rule("passthrough", {"b": {}}, layers=(1, 2), contains=("mlp",)),
            Rule("passthrough", {"c": {}}, layers=(0, 2)),
            Rule("passthrough", {"a": {}}),
        ),
    )
    for name, merged in engine.tensors(recipe):
        layered = "layers" in name
        owner = "b" if layered and ".1." in name and "mlp" in name else "c" if layered else "a"
        assert torch.equal(merged, engine.sources[owner].read(name))


def test_a_source_of_weight_zero_is_not_needed_for_the_result(llamas):
    engine = engine_of(llamas, "a", "b")
    alone = dict(engine.tensors(recipe_of({"a": {"weight": 0.5}}, "linear")))
    recipe = recipe_of({"a": {"weight": 0.5}, "b": {"weight": 0.0}}, "linear")
    assert all(torch.equal(t, alone[n]) for n, t in engine.tensors(recipe))


def test_task_vectors_of_weight_zero_leave_the_base(llamas):
    engine = engine_of(llamas, "base", "a")
    recipe = recipe_of({"a": {"weight": 0.0}}, "ties", base="base")
    base = engine.sources["base"]
    assert all(torch.equal(t, base.read(n)) for n, t in engine.tensors(recipe))


def test_the_base_listed_among_the_models_adds_nothing(llamas):
    engine = engine_of(llamas, "base", "a", "b")
    models = {"a": {"density": 0.5}, "b": {"density": 0.5}}
    without = dict(engine.tensors(recipe_of(models, "dare_ties", base="base")))
    listed = recipe_of({"base": {}, **models}, "dare_ties", base="base")
    assert all(torch.equal(t, without[n]) for n, t in engine.tensors(listed))


@pytest.mark.parametrize("prefix", ["", "half_"], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("operator", ["linear", "ties", "dare_ties", "slerp"])
def test_a_resident_model_gets_the_same_bits_as_the_tensors(llamas, prefix, operator):
    names = [f"{prefix}{n}" for n in ("base", "a", "b")]
    engine = engine_of(llamas, *names)
    base = None if operator in {"linear", "slerp"} else names[0]
    models = {n: {} for n in names[1:]}
    if operator in {"ties", "dare_ties"}:
        models = {n: {"density": 0.4, "weight": 0.6} for n in names[1:]}
    recipe = recipe_of(models, operator, base=base)
    model = engine.resident_model(recipe)
    engine.apply(recipe, model)
    state = model.state_dict()
    for name, merged in engine.tensors(recipe):
        assert merged.dtype == engine.sources[names[1]].read(name).dtype
        assert torch.equal(state[name], merged)


@pytest.mark.parametrize("name", ["a", "half_a", "untied"])
def test_a_resident_model_answers_as_from_pretrained_does(llamas, name):
    engine = engine_of(llamas, name)
    recipe = recipe_of({name: {}}, "passthrough")
    model = engine.resident_model(recipe)
    engine.apply(recipe, model)
    loaded = AutoModelForCausalLM.from_pretrained(llamas[name], dtype="auto")
    assert not model.training
    assert torch.equal(logits(model), logits(loaded.eval()))


def test_the_last_recipe_applied_is_the_one_that_answers(llamas):
    engine = engine_of(llamas, "a", "b")
    model = engine.resident_model("a")
    first, second = (recipe_of({n: {}}, "passthrough") for n in ("a", "b"))
    engine.apply(first, model)
    before = logits(model)
    engine.apply(second, model)
    assert not torch.equal(before, logits(model))
    engine.apply(first, model)
    assert torch.equal(before, logits(model))


def test_building_a_resident_model_leaves_the_global_generator_alone(llamas):
    engine = engine_of(llamas, "a")
    state = torch.random.get_rng_state()
    engine.resident_model("a")
    assert torch.equal(state, torch.random.get_rng_state())


def test_tied_sources_make_one_tied_tensor(llamas):
    engine = engine_of(llamas, "base", "a")
    recipe = recipe_of({"base": {}, "a": {}}, "linear")
    model = engine.resident_model(recipe)
    engine.apply(recipe, model)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert HEAD not in dict(engine.tensors(recipe))
    assert engine.parameter_count(recipe) == model.num_parameters()


@pytest.mark.parametrize("reference", ["base", "untied"])
def test_one_untied_source_makes_the_merge_untied(llamas, reference):
    engine = engine_of(llamas, "base", "untied")
    names = [reference, "untied" if reference == "base" else "base"]
    recipe = recipe_of({n: {} for n in names}, "linear")
    merged = dict(engine.tensors(recipe))
    base, untied = engine.sources["base"], engine.sources["untied"]
    for name, tied_name in ((HEAD, EMBEDDING), (EMBEDDING, EMBEDDING)):
        want = base.read(tied_name) * 0.5 + untied.read(name) * 0.5
        assert torch.equal(merged[name], want)
    model = engine.resident_model(recipe)
    engine.apply(recipe, model)
    assert torch.equal(model.lm_head.weight, merged[HEAD])
    assert not torch.equal(model.lm_head.weight, model.model.embed_tokens.weight)


def test_a_tied_merge_fills_both_ends_of_an_untied_resident_model(llamas):
    engine = engine_of(llamas, "base", "untied")
    recipe = recipe_of({"base": {}}, "passthrough")
    model = engine.resident_model(recipe)
    engine.apply(recipe, model)
    assert model.lm_head.weight is not model.model.embed_tokens.weight
    assert torch.equal(model.lm_head.weight, model.model.embed_tokens.weight)


def test_an_untied_merge_is_refused_by_a_tied_resident_model(llamas):
    tied = engine_of(llamas, "base").resident_model("base")
    recipe = recipe_of({"untied": {}}, "passthrough")
    with pytest.raises(CheckpointError, match="shares them with"):
        engine_of(llamas, "untied").apply(recipe, tied)


def test_names_without_the_base_models_prefix_find_their_place(llamas, copied):
    folder = copied("a")
    weights = load_file(folder / "model.safetensors")
    bare = {name.removeprefix("model."): tensor for name, tensor in weights.items()}
    save_file(bare, folder / "model.safetensors")
    engine = engine_of({}, bare=folder)
    recipe = recipe_of({"bare": {}}, "passthrough")
    model = engine.resident_model(recipe)
    engine.apply(recipe, model)
    assert torch.equal(model.model.norm.weight, weights["model.norm.weight"])


def test_a_model_of_other_parameters_is_refused_with_the_nearest_name(llamas):
    deep = engine_of(llamas, "deep").resident_model("deep")
    recipe = recipe_of({"a": {}}, "passthrough")
    with pytest.raises(CheckpointError, match=r"no weights for model\.layers\.2.*nearest name"):
        engine_of(llamas, "a").apply(recipe, deep)
    shallow = engine_of(llamas, "a").resident_model("a")
    with pytest.raises(CheckpointError, match=r"no parameter model\.layers\.2.*nearest name"):
        engine_of(llamas, "deep").apply(recipe_of({"deep": {}}, "passthrough"), shallow)


def test_a_model_of_other_shapes_is_refused(llamas):
    wide = engine_of(llamas, "wide").resident_model("wide")
    with pytest.raises(CheckpointError, match=r"merged shape \[64, 32\]"):
        engine_of(llamas, "a").apply(recipe_of({"a": {}}, "passthrough"), wide)


def test_sources_that_do_not_fit_are_refused(llamas):
    engine = engine_of(llamas, "base", "deep")
    with pytest.raises(CheckpointError, match="has 3 layers"):
        list(engine.tensors(recipe_of({"base": {}, "deep": {}}, "linear")))


def test_a_source_that_is_not_open_is_named(llamas):
    with pytest.raises(CheckpointError, match="'b' of the recipe is not open"):
        list(engine_of(llamas, "a").tensors(recipe_of({"a": {}, "b": {}}, "linear")))


def test_a_source_that_no_rule_uses_need_not_be_open(llamas):
    recipe = Recipe(
        sources=(Source("a", "a"), Source("b", "b")), rules=(Rule("passthrough", {"a": {}}),)
    )
    assert dict(engine_of(llamas, "a").tensors(recipe))


def test_changed_weights_are_told_by_the_fingerprint(llamas):
    recipe = Recipe(
        sources=(Source("a", "a", fingerprint="0" * 32),),
        rules=(Rule("passthrough", {"a": {}}),),
    )
    with pytest.raises(CheckpointError, match="not those that the recipe was made with"):
        list(engine_of(llamas, "a").tensors(recipe))


def test_an_invalid_recipe_is_refused_before_any_work(llamas):
    with pytest.raises(ConfigError, match="unknown operator"):
        list(engine_of(llamas, "a").tensors(recipe_of({"a": {}}, "lineer")))


def test_nan_in_a_source_fails_the_trial_and_names_tensor_and_models(llamas, copied):
    folder = copied("a")
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.1.mlp.down_proj.weight"][2, 2] = float("nan")
    save_file(weights, folder / "model.safetensors")
    engine = engine_of(llamas, "base", "b", sick=folder)
    for operator in ("linear", "ties", "dare_ties"):
        recipe = recipe_of(
            {"sick": {}, "b": {}}, operator, base=None if operator == "linear" else "base"
        )
        with pytest.raises(TrialError, match=r"1\.mlp\.down_proj.*of sick, b gives NaN"):
            engine.apply(recipe, engine.resident_model("base"))


def test_a_number_too_large_for_the_output_dtype_fails_the_trial(llamas):
    recipe = recipe_of({"a": {"scale": 1e7}}, "passthrough", dtype="float16")
    with pytest.raises(TrialError, match=r"too large for torch\.float16"):
        list(engine_of(llamas, "a").tensors(recipe))


def test_the_recipes_dtype_is_rounded_to_once(llamas):
    recipe = recipe_of({"a": {"weight": 1.0}, "b": {"weight": 2.0}}, "linear", dtype="bfloat16")
    engine = engine_of(llamas, "a", "b")
    full = dict(
        engine.tensors(recipe_of({"a": {"weight": 1.0}, "b": {"weight": 2.0}}, "linear"))
    )
    for name, merged in engine.tensors(recipe):
        assert torch.equal(merged, full[name].bfloat16())


def test_a_float32_resident_model_holds_the_values_of_a_bfloat16_merge(llamas):
    engine = engine_of(llamas, "a", "b")
    recipe = recipe_of({"a": {}, "b": {}}, "linear", dtype="bfloat16")
    model = engine.resident_model(recipe, dtype=torch.float32)
    engine.apply(recipe, model)
    for name, merged in engine.tensors(recipe):
        assert torch.equal(model.state_dict()[name], merged.float())


def test_dare_masks_of_a_recipe_are_the_same_for_another_engine(llamas):
    recipe = recipe_of({"a": {"density": 0.3}, "b": {"density": 0.3}}, "dare_ties", base="base")
    first = dict(engine_of(llamas, "base", "a", "b").tensors(recipe))
    torch.manual_seed(99)
    for name, tensor in engine_of(llamas, "b", "base", "a").tensors(recipe):
        assert torch.equal(tensor, first[name])


def test_an_unknown_architecture_is_refused_in_words(llamas, copied):
    folder = copied("a")
    config = (folder / "config.json").read_text().replace('"llama"', '"no_such_model"')
    (folder / "config.json").write_text(config)
    engine = engine_of({}, strange=folder)
    with pytest.raises(CheckpointError, match="without remote code"):
        engine.resident_model("strange")


def test_a_real_model_merged_with_itself_answers_as_before():
    if not STORIES.exists():
        pytest.skip(f"{STORIES} is not on this machine")
    engine = MergeEngine({n: open_source(str(STORIES)) for n in ("one", "two")})
    recipe = recipe_of({"one": {}, "two": {"weight": 3.0}}, "linear")
    model = engine.resident_model(recipe)
    engine.apply(recipe, model)
    loaded = AutoModelForCausalLM.from_pretrained(STORIES, dtype="auto").eval()
    torch.testing.assert_close(logits(model), logits(loaded), atol=1e-4, rtol=1e-4)


def test_gpt2_with_its_own_names_is_merged_too(tmp_path):
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(n_layer=2, n_embd=16, n_head=2, vocab_size=50, n_positions=64)
    with torch.random.fork_rng():
        model = GPT2LMHeadModel(config)
    model.save_pretrained(tmp_path / "gpt2")
    engine = engine_of({}, g=tmp_path / "gpt2")
    recipe = recipe_of({"g": {}}, "passthrough")
    resident = engine.resident_model(recipe)
    engine.apply(recipe, resident)
    assert torch.equal(logits(resident), logits(model.eval()))


def written(engine, recipe, model):
    """Names of the tensors that applying a recipe writes."""
    for parameter in model.parameters():
        parameter.fill_(float("nan"))
    engine.apply(recipe, model)
    return {n for n, p in model.named_parameters() if not bool(p.isnan().any())}


def test_only_what_changed_is_merged_again(llamas):
    engine = engine_of(llamas, "base", "a", "b")
    own = {"a": {"weight": 0.5}, "b": {"weight": 0.5}}

    def recipe(second):
        return Recipe(
            tuple(Source(n, n) for n in ("base", "a", "b")),
            (
                Rule("ties", own, layers=(0, 1)),
                Rule("ties", {**own, "b": {"weight": second}}, layers=(1, 2)),
                Rule("task_arithmetic", own),
            ),
            base="base",
        )

    model = engine.resident_model(recipe(0.5))
    assert len(written(engine, recipe(0.5), model)) == len(list(model.parameters()))
    assert written(engine, recipe(0.5), model) == set()
    changed = written(engine, recipe(0.9), model)
    assert changed
    assert all(".layers.1." in name for name in changed)
    engine.forget(model)
    assert len(written(engine, recipe(0.9), model)) == len(list(model.parameters()))


def test_after_a_failed_merge_nothing_is_taken_for_granted(llamas, tmp_path, copied):
    broken = copied("b")
    weights = load_file(broken / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][0, 0] = float("inf")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    engine = engine_of(llamas, "base", "a", b=broken)
    good = recipe_of({"a": {"weight": 0.7}}, "ties", base="base")
    model = engine.resident_model(good)
    engine.apply(good, model)
    wanted = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(TrialError, match="up_proj"):
        engine.apply(recipe_of({"a": {}, "b": {}}, "ties", base="base"), model)
    engine.apply(good, model)
    assert all(torch.equal(t, wanted[n]) for n, t in model.state_dict().items())


@pytest.mark.parametrize("operator", ["ties", "dare_ties", "della", "breadcrumbs", "slerp"])
def test_threads_do_not_change_a_bit(llamas, operator):
    own = {"density": 0.6} if operator != "slerp" else {}
    base = None if operator == "slerp" else "base"
    recipe = recipe_of({"a": own, "b": own}, operator, base=base)
    threads, made = torch.get_num_threads(), []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            engine = engine_of(llamas, "base", "a", "b")
            model = engine.resident_model(recipe)
            engine.apply(recipe, model)
            made.append({n: t.clone() for n, t in model.state_dict().items()})
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(made[0][n], made[1][n]) for n in made[0])


def test_what_recipes_share_is_computed_once_whatever_the_memory(llamas, tmp_path):
    recipes = [
        recipe_of({"a": {"density": d}, "b": {"density": 0.4}}, operator, base="base")
        for operator in ("ties", "della", "breadcrumbs_ties")
        for d in (0.3, 0.5)
    ]
    opened = {n: open_source(str(llamas[n])) for n in ("base", "a", "b")}
    memories = [
        StudyMemory(),
        StudyMemory(memory_bytes=0, folder=tmp_path),
        StudyMemory(memory_bytes=0, disk_bytes=0),
    ]
    engines = [MergeEngine(opened, memory=memory) for memory in memories]
    for recipe in recipes:
        first, *others = (dict(engine.tensors(recipe)) for engine in engines)
        for other in others:
            assert all(torch.equal(first[n], other[n]) for n in first)
    assert memories[0].memory_left < memories[1].memory_left or memories[1].memory_left == 0


def stacked(*slices, rules=None):
    names = dict.fromkeys(name for part in slices for name in part)
    return Recipe(
        tuple(Source(n, n) for n in names),
        rules or (Rule("passthrough", {"a": {}}),),
        slices=tuple(Slice(part) for part in slices),
    )


def test_slices_stack_layers_of_models(llamas):
    engine = engine_of(llamas, "a", "b")
    rules = (
        Rule("passthrough", {"b": {}}, layers=(2, 4)),
        Rule("passthrough", {"a": {}}),
    )
    recipe = stacked({"a": (0, 2)}, {"b": (0, 2)}, rules=rules)
    merged = dict(engine.tensors(recipe))
    assert sum("input_layernorm" in name for name in merged) == 4
    for layer, (owner, own) in enumerate([("a", 0), ("a", 1), ("b", 0), ("b", 1)]):
        up = "model.layers.{}.mlp.up_proj.weight"
        assert torch.equal(merged[up.format(layer)], engine.sources[owner].read(up.format(own)))
    assert torch.equal(
        merged["model.norm.weight"], engine.sources["a"].read("model.norm.weight")
    )


def test_a_layer_may_be_stacked_twice_and_merged_with_another(llamas):
    engine = engine_of(llamas, "a", "b")
    rules = (
        Rule("linear", {"a": {}, "b": {}}, layers=(1, 2)),
        Rule("passthrough", {"a": {}}),
    )
    recipe = stacked({"a": (0, 1)}, {"a": (0, 1), "b": (1, 2)}, {"a": (1, 2)}, rules=rules)
    merged = dict(engine.tensors(recipe))
    name = "model.layers.1.mlp.up_proj.weight"
    a = engine.sources["a"].read("model.layers.0.mlp.up_proj.weight")
    b = engine.sources["b"].read(name)
    torch.testing.assert_close(merged[name], (a + b) / 2)


def test_slices_that_sources_do_not_have_are_told_all_at_once(llamas):
    engine = engine_of(llamas, "a", "b")
    with pytest.raises(CheckpointError, match="layers 1 to 4 of a, which has 2") as error:
        engine.plan(stacked({"a": (1, 5), "b": (0, 4)}, {"a": (0, 1), "b": (3, 4)}))
    assert "layers 3 to 3 of b, which has 2" in str(error.value)


def test_lines_scale_later_layers_more(llamas):
    engine = engine_of(llamas, "base", "a", deep=llamas["deep"])
    recipe = recipe_of(
        {"a": {}}, "task_arithmetic", base="base", parameters={"lambda": 0.5, "lines": 0.4}
    )
    for name, tensor in engine.tensors(recipe):
        base, a = (engine.sources[n].read(name) for n in ("base", "a"))
        scale = 0.9 if ".1." in name else 0.5
        torch.testing.assert_close(tensor, base + scale * (a - base))


def test_tensors_may_share_one_place_in_memory(llamas):
    engine = engine_of(llamas, "base", "a", "b")
    recipe = recipe_of({"a": {"density": 0.5}, "b": {}}, "ties", base="base")
    wanted, places = dict(engine.tensors(recipe)), set()
    for name, tensor in engine.tensors(recipe, reuse=True):
        assert torch.equal(tensor, wanted[name])
        places.add(tensor.data_ptr())
    assert len(places) == 1


@pytest.mark.parametrize("order", ["BAB", "ABA", "AABB", "BBA"])
def test_tied_and_untied_recipes_may_take_turns(llamas, order):
    engine = engine_of(llamas, "base", "a", "untied")
    recipes = {
        "A": recipe_of({"base": {}, "a": {}}, "linear"),
        "B": recipe_of({"base": {}, "untied": {}}, "linear"),
    }
    model = engine.resident_model("base")
    for name in order:
        engine.apply(recipes[name], model)
    fresh = engine.resident_model("base")
    engine_of(llamas, "base", "a", "untied").apply(recipes[order[-1]], fresh)
    state = fresh.state_dict()
    assert all(torch.equal(t, state[n]) for n, t in model.state_dict().items())


def test_what_a_narrower_resident_model_cannot_hold_fails_the_trial(llamas, copied):
    big = copied("a")
    weights = load_file(big / "model.safetensors")
    weights["model.norm.weight"][3] = 1e6
    save_file(weights, big / "model.safetensors", metadata={"format": "pt"})
    engine = engine_of(llamas, "base", a=big)
    recipe = recipe_of({"a": {}}, "linear")
    engine.apply(recipe, engine.resident_model(recipe))
    narrow = engine.resident_model(recipe, dtype=torch.float16)
    with pytest.raises(TrialError, match=r"norm\.weight.*too large for torch\.float16"):
        engine.apply(recipe, narrow)


def test_the_first_failure_stops_the_other_threads(llamas):
    engine = engine_of(llamas, "a")
    recipe = recipe_of({"a": {}}, "passthrough")
    merges = [*tensor_merges(recipe, engine.sources, engine.plan(recipe))] * 20
    threads, done = torch.get_num_threads(), []

    def work(merge):
        if not done:
            done.append(merge)
            raise TrialError("broken")
        time.sleep(0.002)
        done.append(merge)

    try:
        torch.set_num_threads(2)
        with pytest.raises(TrialError, match="broken"):
            _on_threads(work, merges)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert len(done) < len(merges) / 2


def test_statistics_that_change_change_the_merge(llamas, tmp_path):
    sources = {name: open_source(str(llamas[name])) for name in ("a", "b")}
    generator = torch.Generator().manual_seed(0)
    recipes = []
    for turn in range(2):
        placed = {}
        for name, source in sources.items():
            collected = Collected("gram", source.fingerprint, "data", 1, 1)
            grams = {}
            for tensor, info in source.tensors.items():
                if len(info.shape) == 2:
                    inputs = torch.randn(50, info.shape[1], generator=generator)
                    grams[tensor] = inputs.T @ inputs / 50
            placed[name] = tmp_path / f"{name}{turn}.safetensors"
            write_statistics(placed[name], collected, grams)
        made = tuple(Source(n, n, statistics=str(placed[n])) for n in sources)
        recipes.append(Recipe(made, (Rule("regmean", {"a": {}, "b": {}}),)))
    engine = MergeEngine(sources)
    for recipe in recipes:
        alone = dict(MergeEngine(sources).tensors(recipe))
        assert all(torch.equal(t, alone[n]) for n, t in engine.tensors(recipe))
