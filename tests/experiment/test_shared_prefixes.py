"""Layers that candidates have in common run once, and no score shows it."""

import pytest
from quickstart import TASKS, write_experiment

from evomerge.core.streams import stream
from evomerge.experiment import build
from evomerge.experiment.prepare import prepare_file
from evomerge.experiment.shared_prefixes import prefix_bytes
from evomerge.fitness.prefix_forward import PrefixForward
from evomerge.spaces.genes import genome_from_unit
from evomerge.workers.contract import Answered, Job

MOVES = {"kind": "layer_moves", "operators": ["linear", "ties"], "spare": 2}
STABLE = [{"maximize": "stability", "task": "town"}, {"maximize": "accuracy", "task": "town"}]
FEW = {"items": {"search": 4, "validation": 4, "test": 4}, "finalists": 2}


def prepared(folder, cache: float = 0.25, **changes):
    given = {"space": MOVES, "optimizer": {"name": "random"}, "fitness": FEW} | changes
    path = write_experiment(folder / str(cache), workers={"prefix_cache": cache}, **given)
    return prepare_file(path)[1]


@pytest.fixture
def made(monkeypatch):
    """Every PrefixForward with room for states, in the order in which they are made."""
    found = []
    original = PrefixForward.__init__

    def noted(self, model, limit):
        original(self, model, limit)
        if limit:
            found.append(self)

    monkeypatch.setattr(PrefixForward, "__init__", noted)
    return found


def jobs_of(experiment, count: int) -> list[Job]:
    """Candidates that begin in one of two ways, as children of two parents do."""
    rng, genes = stream(2, "tests", "prefixes"), experiment.space.genes
    heads = [rng.random(3).tolist() for _ in range(2)]
    tails = (rng.random(len(genes) - 3).tolist() for _ in range(count))
    units = [heads[number % 2] + tail for number, tail in enumerate(tails)]
    recipes = [experiment.space.decode(genome_from_unit(genes, unit)) for unit in units]
    return [Job(n, recipe, experiment.items["search"]) for n, recipe in enumerate(recipes)]


def answers(evaluate, jobs) -> dict[int, object]:
    found = {}
    for job in jobs:
        result = evaluate(job)
        assert isinstance(result, Answered)
        found[job.number] = result.responses
    return found


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_scores_are_the_same_with_and_without_sharing_in_any_order(tmp_path, made, dtype):
    evaluation = {"dtype": dtype, "batch_size": 64}
    with_it = prepared(tmp_path, evaluation=evaluation)
    jobs = jobs_of(with_it, 12)
    plain = build.make_evaluation(prepared(tmp_path, 0.0, evaluation=evaluation))
    assert made == []
    expected = answers(plain.evaluate, jobs)
    for order in (jobs, jobs[::-1]):
        sharing = build.make_evaluation(with_it)
        assert answers(sharing.evaluate, order) == expected
        assert made[-1].shares
        assert made[-1].statistics.run < made[-1].statistics.asked
    assert sharing.settings == plain.settings  # so that a run may go on with another limit


def test_neighbours_of_a_recipe_are_not_taken_for_it(tmp_path, made):
    """They are other weights under the same recipe."""
    changes = {"space": "task_arithmetic", "objectives": STABLE}
    with_it = prepared(tmp_path, **changes)
    jobs = [
        Job(n, b.recipe, with_it.items["search"])
        for n, b in enumerate(with_it.space.baselines())
    ]
    jobs += [Job(n + 100, job.recipe, job.items) for n, job in enumerate(jobs)]
    plain = build.make_evaluation(prepared(tmp_path, 0.0, **changes))
    sharing = build.make_evaluation(with_it)
    assert answers(sharing.evaluate, jobs) == answers(plain.evaluate, jobs)
    assert made[0].statistics.saved > 0


def test_models_lent_to_functions_share_nothing(tmp_path):
    (tmp_path / "0.25").mkdir()
    (tmp_path / "0.25" / "own.py").write_text(
        "def score(model, tokenizer, items):\n    return 1.0\n"
    )
    use = ["town", {"name": "own", "score": "own:score"}]
    tasks = {"include": [str(TASKS)], "use": use}
    objectives = [
        {"maximize": "accuracy", "task": "town"},
        {"maximize": "score", "task": "own"},
    ]
    assert prefix_bytes(prepared(tmp_path, tasks=tasks, objectives=objectives)) == 0


def test_room_for_states_is_asked_for_in_gib(tmp_path):
    assert prefix_bytes(prepared(tmp_path)) == 2**28
    assert prefix_bytes(prepared(tmp_path, 0.0)) == 0
