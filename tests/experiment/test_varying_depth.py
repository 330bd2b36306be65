"""Search spaces whose candidates differ in depth, in the ordinary search."""

import shutil

import pytest
import torch
from quickstart import ZOO, write_experiment
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

import evomerge
from evomerge.core.errors import ConfigError
from evomerge.experiment.build import make_evaluation
from evomerge.experiment.prepare import prepare_file
from evomerge.experiment.varying_depth import resident_entries, resident_recipe
from evomerge.workers.contract import Answered, Job

MOVES = {"kind": "layer_moves", "operators": ["linear", "ties"], "spare": 3}


def search(folder, **changes):
    return write_experiment(folder, space=MOVES, optimizer={"name": "random"}, **changes)


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> evomerge.Study:
    folder = tmp_path_factory.mktemp("moves")
    sizes = [{"maximize": "accuracy", "task": "sort"}, {"minimize": "flops"}]
    few = {"items": {"search": 5, "validation": 5, "test": 5}, "finalists": 3}
    path = search(folder, objectives=sizes, fitness=few, budget={"candidates": 6})
    return evomerge.run(path, out=folder / "run")


def test_candidates_of_every_depth_are_scored(study):
    frame = study.trials()
    assert set(frame["status"]) == {"complete"}
    flops = "flops at 2048 tokens"
    assert frame.query("kind == 'candidate'")[flops].nunique() > 2
    assert frame.query("kind != 'candidate'")[flops].nunique() == 1
    assert len(study.front())


def genome_of(space, moves):
    """The moves, and skips after them."""
    names = [gene.name for gene in space.genes]
    return dict(zip(names, [*moves, *["skip"] * (len(names) - len(moves))], strict=True))


def test_answers_do_not_depend_on_the_depths_that_came_before(tmp_path):
    _, prepared = prepare_file(search(tmp_path))
    items = {task: chosen[:6] for task, chosen in prepared.banks.items()}
    moves = (
        ["town", "sort", "back", "linear", "ties", "town", "sort"],
        ["sort", "sort", "sort"],
        ["town", "town", "town", "linear", "ties"],
    )
    recipes = [prepared.space.decode(genome_of(prepared.space, each)) for each in moves]
    assert [recipe.layer_count for recipe in recipes] == [6, 3, 5]
    evaluate = make_evaluation(prepared).evaluate
    inorder = [evaluate(Job(n, recipe, items)) for n, recipe in enumerate(recipes)]
    again = make_evaluation(prepared).evaluate
    turned = [again(Job(n, recipe, items)) for n, recipe in enumerate(recipes[::-1])]
    for one, other in zip(inorder, turned[::-1], strict=True):
        assert isinstance(one, Answered)
        assert isinstance(other, Answered)
        assert one.responses == other.responses


def test_the_resident_model_is_as_deep_as_the_deepest_candidate(tmp_path):
    _, prepared = prepare_file(search(tmp_path))
    deepest = resident_recipe(prepared.models, prepared.space)
    assert deepest.layer_count == 5 + 3
    one, two = (
        resident_entries(resident_recipe(prepared.models, space), prepared.sources)
        for space in (prepared.space, prepare_file(write_experiment(tmp_path))[1].space)
    )
    layer = sum(
        info.entries
        for name, info in prepared.sources["base"].tensors.items()
        if name.startswith("model.layers.0.")
    )
    assert one - two == 3 * layer


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"evaluation": {"backend": "vllm"}}, "evaluation.backend: vLLM builds its engine for"),
        (
            {"objectives": [{"maximize": "stability", "task": "sort"}]},
            "objectives.0: stability compares with neighbours of the sources' depth",
        ),
    ],
)
def test_what_is_made_for_one_depth_is_refused_before_the_search(tmp_path, changes, said):
    with pytest.raises(ConfigError, match=said):
        prepare_file(search(tmp_path, **changes))


def test_layers_of_several_kinds_are_refused_before_the_search(tmp_path):
    config = Gemma3TextConfig(
        vocab_size=142,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        layer_types=["sliding_attention", "full_attention"],
    )
    folder = tmp_path / "model"
    with torch.random.fork_rng():
        Gemma3ForCausalLM(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(ZOO / "base" / name, folder)
    models = {"experts": {"town": str(folder), "sort": str(folder)}}
    moves = MOVES | {"operators": ["linear"]}
    path = write_experiment(tmp_path, space=moves, models=models)
    with pytest.raises(ConfigError, match=r"depth cannot vary: .* layers are of several kinds"):
        prepare_file(path)
