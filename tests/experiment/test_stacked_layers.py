"""Searches for paths through layers, alone and together with a merge, in the ordinary loop."""

import numpy as np
import pytest
from harness_verdict import harness_scores, recorded_scores
from quickstart import write_experiment

import evomerge
from evomerge.experiment.build import make_evaluation
from evomerge.experiment.export import export_trial
from evomerge.experiment.prepare import prepare_file
from evomerge.spaces.genes import genome_from_unit
from evomerge.store.study_store import StudyStore
from evomerge.workers.contract import Answered, Job

SCALED = {"kind": "data_flow", "repeats": 2, "scales": "slots", "most_layers": 13}
JOINT = {
    "kind": "joint",
    "merge": {"operator": "ties", "experts": {"weight": [0, 1], "density": 0.3}},
    "path": SCALED | {"repeats": 1, "order": "permuted"},
}
FEW = {"items": {"search": 5, "validation": 5, "test": 5}, "finalists": 2}


@pytest.mark.parametrize("space", [SCALED, JOINT], ids=["data_flow", "joint"])
def test_a_search_scores_paths_of_several_depths(space, tmp_path):
    sizes = [{"maximize": "accuracy", "task": "sort"}, {"minimize": "flops"}]
    path = write_experiment(
        tmp_path,
        space=space,
        objectives=sizes,
        fitness=FEW,
        optimizer={"name": "random"},
        budget={"candidates": 8},
    )
    study = evomerge.run(path, out=tmp_path / "run")
    frame = study.trials()
    assert set(frame["status"]) == {"complete"}
    assert frame.query("kind == 'candidate'")["flops at 2048 tokens"].nunique() > 1
    assert len(study.front())


def test_no_path_is_scored_twice(tmp_path):
    """Scales of slots that are off, and gates beyond the depth, leave a path as it is."""
    path = write_experiment(
        tmp_path,
        space={"kind": "data_flow", "scales": "slots", "most_layers": 5},
        fitness=FEW,
        optimizer={"name": "nsga2", "population": 6, "mutation_probability": 0.1},
        budget={"candidates": 40},
    )
    study = evomerge.run(path, out=tmp_path / "run")
    with StudyStore.open(study.path, read_only=True) as store:
        recipes = [t.recipe.digest for t in store.trials() if t.kind == "candidate"]
    assert len(recipes) == 40
    assert len({*recipes}) == 40


def test_lm_eval_reports_for_an_exported_path_what_the_study_recorded(tmp_path):
    mild = SCALED | {"scale_range": [0.9, 1.2], "most_layers": 7}
    path = write_experiment(tmp_path, space=mild, optimizer={"name": "random"})
    study = evomerge.run(path, out=tmp_path / "run")
    candidates = study.trials().query("kind == 'candidate'")["number"]
    scaled = [
        number
        for number in map(int, candidates)
        if any(rule.scale != 1 for rule in study.recipe(number).rules)
    ]
    best = max(scaled, key=lambda n: sum(recorded_scores(study, n, "search").values()))
    export_trial(study.path, best, tmp_path / "model")
    ours = recorded_scores(study, best, "search")
    theirs = harness_scores(tmp_path / "model", study, "search")
    assert theirs == pytest.approx(ours, abs=1e-12)


@pytest.mark.parametrize("space", [SCALED, JOINT], ids=["data_flow", "joint"])
def test_answers_do_not_depend_on_the_paths_that_came_before(space, tmp_path):
    _, prepared = prepare_file(write_experiment(tmp_path, space=space))
    items = {task: chosen[:4] for task, chosen in prepared.banks.items()}
    genes = prepared.space.genes
    rows = np.random.default_rng(0).random((3, len(genes))).tolist()
    recipes = [prepared.space.decode(genome_from_unit(genes, row)) for row in rows]
    assert any(rule.scale != 1 for recipe in recipes for rule in recipe.rules)
    assert len({recipe.layer_count for recipe in recipes}) > 1
    inorder, turned = make_evaluation(prepared).evaluate, make_evaluation(prepared).evaluate
    one = [inorder(Job(n, recipe, items)) for n, recipe in enumerate(recipes)]
    other = [turned(Job(n, recipe, items)) for n, recipe in enumerate(recipes[::-1])]
    for here, there in zip(one, other[::-1], strict=True):
        assert isinstance(here, Answered)
        assert isinstance(there, Answered)
        assert here.responses == there.responses
