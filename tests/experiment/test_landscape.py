"""Frozen landscapes: exact on the grid, smooth between, and refused where they are none."""

import numpy as np
import pytest
from frozen_landscapes import EXPERTS, SIZES, TASKS, arrays, write_landscape

from evomerge.core.errors import ConfigError
from evomerge.core.objectives import Objective
from evomerge.experiment.landscape import FrozenLandscape, GridSpace
from evomerge.experiment.presets import landscapes
from evomerge.workers.contract import Job

MEAN = (Objective("accuracy", dict.fromkeys(TASKS, 0.5)),)


@pytest.fixture
def landscape(tmp_path):
    return FrozenLandscape.read(write_landscape(tmp_path / "small.npz"))


def recipe_at(landscape, *weights):
    space = GridSpace(landscape)
    return space.decode(dict(zip([g.name for g in space.genes], weights, strict=True)))


def test_a_grid_point_answers_exactly_what_was_recorded(landscape):
    stored = arrays()
    count = sum(SIZES.values())
    for row, weights in enumerate(landscape.weights.tolist()):
        answers = landscape.answers(recipe_at(landscape, *weights))
        for task in TASKS:
            bits = np.unpackbits(stored[f"{task}/responses"], axis=1)[row, :count]
            assert answers[task].tolist() == bits.tolist()


def test_between_grid_points_an_answer_is_the_multilinear_mean_of_the_cells_corners(landscape):
    right, up = 0.25, 0.75  # shares of a cell from (0.25, 0.5)
    answers = landscape.answers(recipe_at(landscape, 0.25 + 0.25 * right, 0.5 + 0.25 * up))
    for task in TASKS:
        expected = sum(
            share * landscape.answers(recipe_at(landscape, x, y))[task]
            for x, y, share in (
                (0.25, 0.5, (1 - right) * (1 - up)),
                (0.5, 0.5, right * (1 - up)),
                (0.25, 0.75, (1 - right) * up),
                (0.5, 0.75, right * up),
            )
        )
        assert np.allclose(answers[task], expected, atol=1e-12)


def test_no_merge_between_grid_points_is_better_than_the_best_of_them(landscape):
    test = landscape.splits["test"]
    best = landscape.grid_values(test, MEAN).max()
    rng = np.random.default_rng(0)
    found = [
        landscape.values(recipe_at(landscape, *point), test, MEAN)[0]
        for point in rng.random((200, 2)).tolist()
    ]
    assert 0 <= min(found) <= max(found) <= best + 1e-12


def test_a_nearest_landscape_answers_as_the_nearest_grid_point(tmp_path):
    path = write_landscape(tmp_path / "small.npz")
    stepped = FrozenLandscape.read(path, nearest=True)
    near = stepped.answers(recipe_at(stepped, 0.26, 0.61))
    at = stepped.answers(recipe_at(stepped, 0.25, 0.5))
    assert all((near[task] == at[task]).all() for task in TASKS)
    assert stepped.fingerprint != FrozenLandscape.read(path).fingerprint


def test_a_job_is_answered_item_by_item_as_asked(landscape):
    recipe = recipe_at(landscape, 0.3, 0.3)
    items = {"two": (7, 3), "one": (100,)}
    responses = landscape(Job(1, recipe, items)).responses
    for task, asked in items.items():
        expected = landscape.answers(recipe)[task][list(asked)].tolist()
        assert responses[task].items == asked
        assert list(responses[task].values["accuracy"]) == expected


def test_a_value_is_the_mean_of_the_answers(landscape):
    recipe = recipe_at(landscape, 0.4, 0.2)
    test = landscape.splits["test"]
    answers = landscape.answers(recipe)
    expected = np.mean([answers[task][list(test[task])].mean() for task in TASKS])
    assert landscape.values(recipe, test, MEAN)[0] == pytest.approx(float(expected))
    assert set(landscape.all_items["one"]) == set(range(sum(SIZES.values())))


def test_the_space_spans_the_grid_and_offers_sources_and_a_plain_merge(landscape):
    space = GridSpace(landscape)
    assert [gene.name for gene in space.genes] == [f"{name}.weight" for name in EXPERTS]
    points = {b.name: tuple(space.encode(b.recipe).values()) for b in space.baselines()}
    assert points == {
        "base": (0.0, 0.0),
        "left": (1.0, 0.0),
        "right": (0.0, 1.0),
        "all at half": (0.5, 0.5),
    }
    genome = {"left.weight": 0.123456, "right.weight": 0.9}
    assert space.encode(space.decode(genome)) == genome


WEIGHTS = arrays()["weights"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"weights": None}, "weights"),
        ({"one__responses": None}, "one/responses"),
        ({"tasks": np.array([], dtype=str)}, "no task"),
        ({"weights": WEIGHTS[:, :1]}, "weights of shape"),
        ({"weights": np.vstack([WEIGHTS[:-1], WEIGHTS[:1]])}, "missing"),
        ({"weights": np.vstack([WEIGHTS[:-1], [[0.9, 0.9]]]).astype("f4")}, "no full grid"),
        ({"one__test": np.array([5, 6], dtype=np.int32)}, "share items"),
        ({"one__test": np.array([900], dtype=np.int32)}, "beyond"),
        ({"one__validation": np.array([], dtype=np.int32)}, "empty"),
    ],
)
def test_a_file_that_is_no_landscape_is_refused_with_what_is_wrong(tmp_path, changes, reason):
    path = write_landscape(tmp_path / "broken.npz", **changes)
    with pytest.raises(ConfigError, match="no frozen landscape") as error:
        FrozenLandscape.read(path)
    assert reason in str(error.value)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("content", [b"", b"weights: 1\n", b"PK\x03\x04 cut off"])
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    path = tmp_path / "other.npz"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="no frozen landscape"):
        FrozenLandscape.read(path)
    with pytest.raises(ConfigError, match="no such file"):
        FrozenLandscape.read(tmp_path / "nowhere.npz")


def test_the_landscape_of_the_embedded_models_comes_with_evomerge():
    landscape = FrozenLandscape.read(landscapes()["quickstart"])
    assert landscape.experts == ("sort", "score", "town")
    assert landscape.levels == (7, 7, 7)
    assert {split: len(own["sort"]) for split, own in landscape.splits.items()} == {
        "search": 600,
        "validation": 300,
        "test": 600,
    }
    mean = (Objective("accuracy", dict.fromkeys(landscape.tasks, 1 / 3)),)
    assert landscape.grid_values(landscape.splits["test"], mean).max() > 0.67
