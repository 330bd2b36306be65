"""Candidates of other depths share the layers that they take whole, unless a function scores."""

from dataclasses import replace

import pytest
import torch
import transformers as hf
from lm_eval.api.instance import Instance
from merging.test_layer_slots import storages
from quickstart import TASKS, ZOO, write_experiment

from evomerge.core.recipe import Recipe, Rule, Slice
from evomerge.core.tensor_names import layer_of
from evomerge.experiment.build import make_evaluation
from evomerge.experiment.prepare import prepare_file
from evomerge.experiment.varying_depth import (
    resident_entries,
    resident_recipe,
    shared_entries,
)
from evomerge.fitness.resident_lm import ResidentLM
from evomerge.fitness.scoring_settings import ScoringSettings
from evomerge.merging.checkpoint import open_source
from evomerge.merging.engine import MergeEngine
from evomerge.merging.export import export
from evomerge.merging.resident_depth import ResidentDepth, recipe_of_depth
from evomerge.workers.contract import Answered, Job

MOVES = {"kind": "layer_moves", "operators": ["linear"], "spare": 3}
JUDGE = '''
def score(model, tokenizer, items):
    """Writes where no version counter sees it."""
    for parameter in model.model.layers[1].parameters():
        parameter.data.mul_(0.5)
    return {item: {"score": float(model.model.layers[0].mlp.up_proj.weight.sum())}
            for item in items}
'''
THRICE = (("base", 0), ("sort", 2), ("sort", 2), ("sort", 2), ("town", 3), ("sort", 4))


def judged(folder, use):
    """An experiment of which one task is scored by a function that writes into weights."""
    folder.mkdir(exist_ok=True)
    (folder / "judge.py").write_text(JUDGE)
    judge = {"name": "judge", "score": "judge:score", "items": 80, "metrics": ["score"]}
    return write_experiment(
        folder,
        space=MOVES,
        tasks={"include": [str(TASKS)], "use": [*use, judge]},
        objectives=[{"maximize": "score", "task": "judge"}],
    )


def path_recipe(prepared, layers=THRICE) -> Recipe:
    rules = [
        Rule("passthrough", {model: {}}, {}, (place, place + 1))
        for place, (model, _) in enumerate(layers)
    ]
    slices = tuple(Slice({model: (own, own + 1)}) for model, own in layers)
    plain = prepared.models.recipe([*rules, Rule("passthrough", {"base": {}})])
    return replace(plain, slices=slices)


def resident_of(prepared, monkeypatch):
    """The evaluation, and the model that it asks."""
    made = []
    build_own = MergeEngine.resident_model

    def noted(self, *args, **options):
        made.append(build_own(self, *args, **options))
        return made[-1]

    monkeypatch.setattr(MergeEngine, "resident_model", noted)
    return make_evaluation(prepared), made[0]


def test_a_search_of_other_depths_shares_layers_and_gives_the_same_answers(
    tmp_path, monkeypatch
):
    _, prepared = prepare_file(write_experiment(tmp_path / "shared", space=MOVES))
    items = {task: chosen[:8] for task, chosen in prepared.banks.items()}
    job = Job(0, path_recipe(prepared), items)
    evaluation, model = resident_of(prepared, monkeypatch)
    shared = evaluation.evaluate(job)
    assert len(storages(model)) == 4 * 9  # tensors of the four layers of the path
    _, prepared = prepare_file(judged(tmp_path / "judged", use=["town", "sort"]))
    evaluation, model = resident_of(prepared, monkeypatch)
    copied = evaluation.evaluate(job)
    assert len(storages(model)) == 6 * 9
    assert isinstance(shared, Answered)
    assert isinstance(copied, Answered)
    assert (
        shared.responses["sort"].values["accuracy"]
        == (copied.responses["sort"].values["accuracy"])
    )
    assert shared.responses["town"].values["gold_logprob"] == pytest.approx(
        copied.responses["town"].values["gold_logprob"], abs=1e-5
    )


def test_what_a_function_writes_into_one_layer_reaches_no_other_and_no_source(tmp_path):
    _, prepared = prepare_file(judged(tmp_path, use=[]))
    evaluate = make_evaluation(prepared).evaluate
    recipe = path_recipe(prepared, [("sort", 2), ("sort", 2), ("sort", 3)])
    item = prepared.banks["judge"][:1]
    stored = prepared.sources["sort"].read("model.layers.2.mlp.up_proj.weight")
    wanted = stored.float().sum().item()
    for number in range(2):
        result = evaluate(Job(number, recipe, {"judge": item}))
        assert isinstance(result, Answered), result
        (score,) = result.responses["judge"].values["score"]
        assert score == pytest.approx(wanted, rel=1e-5)


def test_generated_text_is_that_of_the_exported_model(tmp_path):
    _, prepared = prepare_file(write_experiment(tmp_path, space=MOVES))
    sources, recipe = prepared.sources, path_recipe(prepared)
    engine, plain = MergeEngine(sources), replace(recipe, rules=recipe.rules[-1:], slices=())
    model = engine.resident_model(recipe_of_depth(plain, 5, 9), share_layers=True)
    ResidentDepth(model, plain, sources).fit(recipe)
    engine.apply(recipe, model)
    export(engine, recipe, tmp_path / "out", card="", recipe_text="")
    theirs = hf.AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    tokenizer = hf.AutoTokenizer.from_pretrained(ZOO / "base")
    stop = {"until": ["\n\n"], "max_gen_toks": 16, "do_sample": False}
    asked = [
        Instance("generate_until", {}, (text, stop), number)
        for number, text in enumerate(["sort: d b a c ->", "the town of", "a b"])
    ]
    texts = [
        ResidentLM(each, tokenizer, ScoringSettings(2)).generate_until(asked)
        for each in (model, theirs)
    ]
    assert texts[0] == texts[1]
    assert any(texts[0])


def test_storage_is_counted_for_what_is_not_taken_whole(tmp_path):
    def entries(operators):
        folder = tmp_path / "".join(operators)
        _, prepared = prepare_file(write_experiment(folder, space=MOVES | operators))
        deepest = resident_recipe(prepared.models, prepared.space)
        return (
            resident_entries(deepest, prepared.sources, prepared.space),
            resident_entries(deepest, prepared.sources),
            shared_entries(deepest, prepared.sources),
        )

    own, everything, copies = entries({})
    tensors = open_source(str(ZOO / "base")).tensors
    of_layers = sum(i.entries for n, i in tensors.items() if layer_of(n) is not None)
    assert own == everything  # its candidates merge any layer
    assert copies == of_layers * 8 // 5  # of eight slots, though three sources have fifteen


class WholeLayers:
    """A space of paths; its one baseline is the mean of two models."""

    def __init__(self, prepared):
        self.genes = prepared.space.genes
        self._prepared = prepared

    def starting_points(self):
        return ()

    def decode(self, genome):
        del genome
        return path_recipe(self._prepared)

    def baselines(self):
        return ()


def test_a_space_that_takes_layers_whole_needs_storage_outside_of_layers_only(tmp_path):
    _, prepared = prepare_file(write_experiment(tmp_path, space=MOVES))
    deepest = resident_recipe(prepared.models, prepared.space)
    tensors = prepared.sources["base"].tensors
    outside = sum(i.entries for n, i in tensors.items() if layer_of(n) is None)
    entries = resident_entries(deepest, prepared.sources, WholeLayers(prepared))
    assert entries == outside


def test_layers_of_a_shared_model_read_as_nan_before_they_are_set(tmp_path):
    _, prepared = prepare_file(write_experiment(tmp_path, space=MOVES))
    deepest = resident_recipe(prepared.models, prepared.space)
    model = MergeEngine(prepared.sources).resident_model(deepest, share_layers=True)
    with torch.no_grad():
        assert model(torch.arange(4)[None]).logits.isnan().all()
