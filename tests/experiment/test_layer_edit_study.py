"""Layers edited in the ordinary search, over the quickstart's models."""

import pytest
from quickstart import write_experiment

import evomerge
from evomerge.experiment.prepare import prepare_file

PRUNING = {"kind": "layer_edit", "remove": [0, "40%"], "operator": "ties", "warm_start": 4}


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> evomerge.Study:
    folder = tmp_path_factory.mktemp("layer_edit")
    path = write_experiment(
        folder,
        space=PRUNING,
        objectives=[{"maximize": "accuracy", "task": "sort"}, {"minimize": "parameters"}],
        fitness={"items": {"search": 5, "validation": 5, "test": 5}, "finalists": 2},
        optimizer={"name": "nsga2", "population": 14},
        budget={"candidates": 14},
    )
    return evomerge.run(path, out=folder / "run")


def test_models_of_several_sizes_are_scored_and_stand_beside_naive_removal(study):
    frame = study.trials()
    assert set(frame["status"]) == {"complete"}
    own = frame.query("kind == 'candidate'")
    assert own["parameters"].nunique() == 3
    baselines = set(frame.query("kind == 'baseline'")["name"])
    assert {f"{n} without its last 2 layers" for n in ("base", "sort", "town")} <= baselines
    assert len(study.front())


def test_each_removed_layer_saves_its_parameters(study, tmp_path):
    _, prepared = prepare_file(write_experiment(tmp_path, space=PRUNING))
    tensors = prepared.sources["base"].tensors
    whole = sum(info.entries for info in tensors.values())
    layer = sum(info.entries for name, info in tensors.items() if ".layers.0." in name)
    found = {int(size) for size in study.trials()["parameters"]}
    assert found <= {whole - removed * layer for removed in range(3)}


def test_the_first_candidates_are_what_the_space_begins_with(study, tmp_path):
    _, prepared = prepare_file(write_experiment(tmp_path, space=PRUNING))
    begun = prepared.space.starting_points()
    assert len(begun) == 4
    first = study.trials().query("kind == 'candidate'")["number"]
    scored = {study.recipe(number).digest for number in first}
    assert {prepared.space.decode(genome).digest for genome in begun} <= scored
