"""From a fitness definition to items, ladders and estimators."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.core.errors import ConfigError
from evomerge.core.objectives import Objective
from evomerge.core.responses import ItemResponses, Items, Responses
from evomerge.core.streams import stream
from evomerge.experiment.fitness import (
    calibration,
    check_calibration_file,
    chosen_banks,
    fitness_problems,
    is_calibrated,
    plain_items,
    random_fitness,
)
from evomerge.experiment.fitness_spec import FitnessSpec
from evomerge.experiment.spec import ExperimentSpec
from evomerge.fitness.calibration import TaskCalibration
from evomerge.fitness.calibration_file import CalibrationFile
from evomerge.fitness.estimate import MeanEstimator
from evomerge.fitness.estimators.registry import ESTIMATORS, fit_estimator
from evomerge.fitness.item_bank import SPLITS, ItemBank
from evomerge.fitness.response_matrix import ResponseMatrix
from evomerge.fitness.scale import Scale
from evomerge.fitness.selection.registry import select
from evomerge.search.scoring import Fitness, Reference

ROOT = Path(__file__).parents[2]
PRESETS = sorted((ROOT / "fitness").glob("*.yaml"))
ACCURACY = Objective("accuracy", {"town": 1.0})
BOTH = Objective("accuracy", {"town": 0.75, "sort": 0.25})
LOGPROB = Objective("gold_logprob", {"town": 1.0})
BANKS: Items = {"town": tuple(range(10, 90, 2)), "sort": tuple(range(30))}
CALIBRATED = [name for name, entry in ESTIMATORS.items() if entry.needs_calibration]


def experiment(fitness: Mapping | None = None, **changes) -> ExperimentSpec:
    plain = {
        "name": "small",
        "seed": 4,
        "models": {"base": "-", "experts": {"a": "-", "b": "-"}},
        "space": {"operator": "task_arithmetic", "experts": {"weight": [0, 1]}},
        "tasks": {"use": ["town", "sort"]},
        "fitness": fitness or {},
        "objectives": [{"maximize": "accuracy", "task": "town"}],
        "budget": {"candidates": 3},
    }
    return ExperimentSpec.model_validate(plain | changes)


# ---- wrong definitions


def problems(fitness: Mapping, *objectives: Objective) -> list[tuple[str, str]]:
    found = fitness_problems(FitnessSpec.model_validate(fitness), objectives or [ACCURACY])
    return [(".".join(place), problem) for place, problem in found]


MERGES = {"calibration": {"merges": 12}}
FORGETTING = Objective("forgetting (accuracy, a)", {"town": 1.0}, "minimize", "forgetting")
INFORMATION = Objective("information", {"town": 1.0}, kind="information")
PARAMETERS = Objective("parameters", {}, "minimize", "parameters")


@pytest.mark.parametrize(
    ("fitness", "objective", "place", "told"),
    [
        ({"estimator": "facter"}, ACCURACY, "estimator", "did you mean 'factor'?"),
        ({"estimator": "ppi_endpoint"}, ACCURACY, "estimator", "did you mean 'ppi_endpoints'?"),
        ({"select": "greddy"}, ACCURACY, "select", "did you mean 'greedy'?"),
        ({"estimator": "factor"}, ACCURACY, "", "factor is made from the answers of other"),
        ({"estimator": "mean", "select": "stratified"}, ACCURACY, "", "give a calibration"),
        ({"estimator": "mean", **MERGES}, ACCURACY, "calibration", "makes no use of it"),
        (
            {"estimator": "mean", "select": "d_optimal", **MERGES},
            ACCURACY,
            "select",
            "use random or stratified",
        ),
        (
            {"estimator": "ppi", "select": "c_optimal", **MERGES},
            ACCURACY,
            "select",
            "ppi needs a random sample",
        ),
        (
            {"estimator": "ppi_endpoints", "select": "anchors_irt", **MERGES},
            ACCURACY,
            "select",
            "ppi_endpoints needs a random sample",
        ),
        (
            {"estimator": "anchors", "select": "random", **MERGES},
            ACCURACY,
            "select",
            "use anchors_responses or anchors_irt",
        ),
        (
            {"estimator": "factor", **MERGES},
            FORGETTING,
            "estimator",
            "forgetting (accuracy, a)(town) is no mean of item scores, which factor",
        ),
        (
            {"estimator": "mean", "select": "stratified", **MERGES},
            INFORMATION,
            "estimator",
            "information(town) is no mean of item scores, which stratified",
        ),
        (
            {"estimator": "factor", "adaptive": True, **MERGES},
            ACCURACY,
            "adaptive",
            "only for irt, p_irt; the estimator is factor",
        ),
        ({"adaptive": True}, ACCURACY, "adaptive", "the estimator is mean"),
        (
            {"estimator": "factor", "items": {"rotate": True}, **MERGES},
            ACCURACY,
            "items.rotate",
            "items of c_optimal cannot rotate",
        ),
    ],
)
def test_a_wrong_definition_is_told_with_its_place(fitness, objective, place, told):
    ((where, problem),) = problems(fitness, objective)
    assert where == place
    assert told in problem


def test_all_problems_of_a_definition_are_told_at_once():
    found = problems({"estimator": "ppi", "select": "greedy", "adaptive": True}, FORGETTING)
    assert [place for place, _ in found] == ["", "estimator", "select", "adaptive"]


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_estimator_goes_with_its_own_selection(name):
    entry = ESTIMATORS[name]
    calibrated = entry.needs_calibration
    assert problems({"estimator": name, **(MERGES if calibrated else {})}) == []
    assert problems({"estimator": name, "select": entry.selection, **MERGES}) == (
        [] if calibrated else [("calibration", "mean of random items makes no use of it.")]
    )


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_every_preset_is_right(path):
    assert problems(yaml.safe_load(path.read_text())) == []


def test_objectives_of_the_recipe_alone_go_with_any_estimator():
    assert problems({"estimator": "factor", **MERGES}, ACCURACY, PARAMETERS) == []


@pytest.mark.parametrize(
    ("fitness", "calibrated"),
    [
        ({}, False),
        ({"select": "random"}, False),
        ({"select": "stratified"}, True),
        ({"estimator": "factor"}, True),
        ({"estimator": "ppi", "select": "random"}, True),
    ],
)
def test_a_fitness_is_calibrated_where_estimator_or_selection_needs_other_models(
    fitness, calibrated
):
    assert is_calibrated(FitnessSpec.model_validate(fitness)) == calibrated


# ---- banks and plain items


@dataclass(frozen=True)
class Questions:
    """A task with nothing to ask."""

    name: str
    bank: ItemBank
    metrics: Mapping[str, bool] = field(default_factory=lambda: {"accuracy": True})


def questions(name: str, search: int, *, whole: bool = False) -> Questions:
    sizes = (search, 6, 8)
    ends = np.cumsum((0, *sizes))
    splits = {split: tuple(range(ends[k], ends[k + 1])) for k, split in enumerate(SPLITS)}
    return Questions(name, ItemBank(name, "v", int(ends[-1]), splits, whole=whole))


TASKS = {"town": questions("town", 40), "sort": questions("sort", 12)}


def banks_of(items: Mapping, tasks=TASKS, **changes) -> tuple[Items, list]:
    found: list = []
    banks = chosen_banks(experiment({"items": items}, **changes), tasks, found)
    return banks, found


def test_without_a_number_the_bank_is_the_search_split():
    banks, found = banks_of({"search": 12})
    assert banks == {name: task.bank.items("search") for name, task in TASKS.items()}
    assert found == []


def test_a_bank_is_drawn_from_the_search_split_by_the_seed():
    drawn, found = banks_of({"bank": 10, "search": 5})
    assert found == []
    for name, task in TASKS.items():
        assert len(set(drawn[name])) == 10
        assert set(drawn[name]) <= set(task.bank.items("search"))
    assert drawn == banks_of({"bank": 10, "search": [2, "all"]})[0]
    assert drawn != banks_of({"bank": 10, "search": 5}, seed=5)[0]


def test_more_items_than_there_are_is_told_for_each_task_and_place():
    _, found = banks_of({"search": [10, 20]})
    assert [(place, problem.partition(";")[0]) for place, problem in found] == [
        (("items", "search"), "task sort: 20 items asked of the search split, which has 12")
    ]
    _, found = banks_of({"bank": 11, "search": [10, 41]})
    assert len(found) == 2
    assert all("41 items asked of the bank, which has 11" in problem for _, problem in found)
    _, found = banks_of({"bank": 30, "search": 50})
    assert [place for place, _ in found] == [("items", "search"), ("items", "bank")]


def test_a_task_that_is_scored_as_a_whole_has_items_enough_for_any_rung():
    tasks = {**TASKS, "sort": questions("sort", 3, whole=True)}
    banks, found = banks_of({"bank": 20, "search": [10, "all"]}, tasks)
    assert found == []
    assert banks["sort"] == (0, 1, 2)


def test_sources_answer_the_last_rung_and_the_bank_where_estimators_are_made_of_it():
    race = experiment({"items": {"search": [4, 9]}})
    ladder = random_fitness(race, BANKS, MeanEstimator()).ladder
    assert plain_items(race, BANKS) == ladder.items(1, {})
    made = experiment({"estimator": "factor", "items": {"search": [4, 9]}, **MERGES})
    assert plain_items(made, BANKS) == dict(BANKS)


@given(
    st.lists(st.integers(2, 29), min_size=1, max_size=4, unique=True).map(sorted),
    st.booleans(),
    st.integers(0, 2**31),
)
def test_random_rungs_are_nested_items_of_the_bank(counts, to_the_end, seed):
    search = [*counts, "all"] if to_the_end else counts
    spec = experiment({"items": {"search": search}}, seed=seed)
    ladder = random_fitness(spec, BANKS, MeanEstimator()).ladder
    assert ladder.rungs == len(search)
    for task, bank in BANKS.items():
        rungs = [set(ladder.items(k, {})[task]) for k in range(ladder.rungs)]
        assert [len(r) for r in rungs] == [len(bank) if c == "all" else c for c in search]
        assert all(low < high for low, high in pairwise(rungs))
        assert rungs[-1] <= set(bank)


def test_rotating_generations_answer_other_items():
    spec = experiment({"items": {"search": 10, "rotate": True}})
    ladder = random_fitness(spec, BANKS, MeanEstimator()).ladder
    turns = [set(ladder.items(0, {}, generation)["town"]) for generation in range(4)]
    assert set().union(*turns) == set(BANKS["town"])
    assert sum(map(len, turns)) == len(BANKS["town"])
    assert turns[0] == set(plain_items(spec, BANKS)["town"])


# ---- calibrated estimators


def responses(rng: np.random.Generator, ability: float, banks: Items = BANKS) -> Responses:
    """Answers of a model to all items: right or wrong, and a log-probability beside."""
    found = {}
    for task, bank in banks.items():
        hardness = np.random.default_rng(len(bank)).normal(size=len(bank))
        logit = ability - hardness
        right = rng.random(len(bank)) < 1 / (1 + np.exp(-1.7 * logit))
        logprob = -np.log1p(np.exp(-logit)) * 6 + rng.normal(0, 0.2, len(bank))
        found[task] = ItemResponses(
            bank,
            {
                "accuracy": tuple(map(float, right)),
                "gold_logprob": tuple(logprob.tolist()),
            },
        )
    return found


def references(count: int = 14, seed: int = 2) -> list[Reference]:
    rng = np.random.default_rng(seed)
    kinds = ["source"] * 3 + ["baseline"] * 3 + ["candidate"] * max(0, count - 6)
    return [
        Reference(f"m{k}", kind, responses(rng, rng.normal()))
        for k, kind in enumerate(kinds[:count])
    ]


def made(fitness: Mapping, *objectives: Objective, known=None, file=None, **changes) -> Fitness:
    spec = experiment({**MERGES, **fitness}, **changes)
    how = calibration(spec, BANKS, objectives or [ACCURACY], file)
    return how.fit(references() if known is None else known)


def asked(fitness: Fitness, rung: int, whole: Responses) -> Responses:
    """A model's answers on a rung, as it climbs there."""
    known: Responses = {}
    for step in range(rung + 1):
        items = fitness.ladder.items(step, known)
        known = {task: whole[task].only(chosen) for task, chosen in items.items()}
    return known


def test_as_many_candidates_calibrate_as_merges_are_asked_for():
    for given_, expected in ((MERGES, 12), ({"calibration": "file.npz"}, 0)):
        spec = experiment({"estimator": "factor", **given_})
        assert calibration(spec, BANKS, [ACCURACY], None).candidates == expected


@pytest.mark.parametrize("name", CALIBRATED)
def test_rungs_are_nested_and_the_same_for_all_metrics_of_a_task(name):
    fitness = made(
        {"estimator": name, "items": {"search": [4, 9, "all"]}}, LOGPROB, BOTH, ACCURACY
    )
    assert fitness.ladder.rungs == 3
    steps = [fitness.ladder.items(rung, {}) for rung in range(3)]
    for task, bank in BANKS.items():
        assert [len(set(step[task])) for step in steps] == [4, 9, len(bank)]
        assert set(steps[0][task]) < set(steps[1][task]) < set(steps[2][task]) == set(bank)
    whole = responses(np.random.default_rng(8), 0.3)
    for rung in range(3):
        answered = asked(fitness, rung, whole)
        assert set(answered) == {"town", "sort"}
        found = fitness.estimator.estimate(answered, [LOGPROB, BOTH, ACCURACY])
        assert all((e.standard_error == 0) == (rung == 2) for e in found)


@pytest.mark.parametrize("name", ["factor", "ppi", "p_irt", "gmp_irt", "anchors"])
def test_an_objectives_estimate_is_that_of_its_tasks_combined_by_weight(name):
    known = references()
    fitness = made({"estimator": name, "items": {"search": [5, 12]}}, BOTH, known=known)
    whole = responses(np.random.default_rng(8), 0.3)
    answered = asked(fitness, 1, whole)
    value = variance = 0.0
    for task, weight in BOTH.tasks.items():
        bank = BANKS[task]
        rows = np.array([r.responses[task].values["accuracy"] for r in known])
        names = tuple(f"{r.kind} {r.name}" for r in known)
        pool = TaskCalibration(ResponseMatrix(names, tuple(map(str, bank)), rows), (0, 1, 2))
        rng = stream(4, "items", "search", task)
        chosen = select(ESTIMATORS[name].selection, pool, 12, rng)
        for rung, count in enumerate((5, 12)):
            listed = fitness.ladder.items(rung, {})[task]
            assert listed == tuple(bank[k] for k in chosen.order[:count])
        alone = fit_estimator(name, pool, chosen, stream(4, "fitness", task, "accuracy"))
        found = alone.estimate(chosen.order, np.array(answered[task].values["accuracy"]))
        value += weight * found.value
        variance += (weight * found.standard_error) ** 2
    (estimate,) = fitness.estimator.estimate(answered, [BOTH])
    assert estimate.value == pytest.approx(value, abs=1e-12)
    assert estimate.standard_error == pytest.approx(np.sqrt(variance), abs=1e-12)


@settings(max_examples=25)
@given(ability=st.floats(-4, 4), seed=st.integers(0, 999))
def test_log_probabilities_come_back_in_their_own_unit(logprob_fitness, ability, seed):
    whole = responses(np.random.default_rng(seed), ability)
    truth = float(np.mean(whole["town"].values["gold_logprob"]))
    (exact,) = logprob_fitness.estimator.estimate(asked(logprob_fitness, 1, whole), [LOGPROB])
    assert exact.value == pytest.approx(truth, abs=0.05)  # the weakest are cut off at the scale
    assert exact.standard_error == 0
    (some,) = logprob_fitness.estimator.estimate(asked(logprob_fitness, 0, whole), [LOGPROB])
    assert abs(some.value - truth) < 6 * some.standard_error
    assert 0.01 < some.standard_error < 2


@pytest.fixture(scope="module")
def logprob_fitness() -> Fitness:
    return made({"estimator": "factor", "items": {"search": [10, "all"]}}, LOGPROB)


def test_a_calibrated_estimate_errs_less_than_the_plain_mean_of_as_many_items():
    fitness = made({"estimator": "factor", "items": {"search": 8}}, known=references(30))
    plain = random_fitness(experiment({"items": {"search": 8}}), BANKS, MeanEstimator())
    errors: dict[bool, list[float]] = {True: [], False: []}
    rng = np.random.default_rng(12)
    for _ in range(60):
        whole = responses(rng, rng.normal())
        truth = np.mean(whole["town"].values["accuracy"])
        for each in (fitness, plain):
            (estimate,) = each.estimator.estimate(asked(each, 0, whole), [ACCURACY])
            errors[each is fitness].append(abs(estimate.value - truth))
    assert np.mean(errors[True]) < 0.8 * np.mean(errors[False])


def test_equal_references_make_equal_estimators():
    whole = responses(np.random.default_rng(8), 0.3)
    fitness = {"estimator": "ppi", "items": {"search": [5, 11]}}
    one, other = made(fitness, BOTH), made(fitness, BOTH)
    for rung in range(2):
        assert one.ladder.items(rung, {}) == other.ladder.items(rung, {})
        found = (
            each.estimator.estimate(asked(each, rung, whole), [BOTH]) for each in (one, other)
        )
        assert next(found) == next(found)


def test_adaptive_candidates_answer_items_of_their_own_from_the_second_rung_on():
    fitness = made(
        {"estimator": "p_irt", "adaptive": True, "items": {"search": [6, 14, "all"]}},
        known=references(20),
    )
    rng = np.random.default_rng(3)
    weak, strong = responses(rng, -2.5), responses(rng, 2.5)
    first, second = (asked(fitness, 0, whole)["town"].items for whole in (weak, strong))
    assert first == second
    first, second = (asked(fitness, 1, whole)["town"].items for whole in (weak, strong))
    assert set(first) != set(second)
    assert len(first) == len(second) == 14
    for whole in (weak, strong):
        (estimate,) = fitness.estimator.estimate(asked(fitness, 1, whole), [ACCURACY])
        truth = np.mean(whole["town"].values["accuracy"])
        assert abs(estimate.value - truth) < 4 * estimate.standard_error
        (exact,) = fitness.estimator.estimate(asked(fitness, 2, whole), [ACCURACY])
        assert exact.value == pytest.approx(truth)


def test_a_task_that_is_scored_as_a_whole_is_asked_whole_and_not_predicted():
    use = ["town", {"name": "sort", "score": "module:function"}]
    fitness = made(
        {"estimator": "factor", "items": {"search": [5, 9]}}, BOTH, tasks={"use": use}
    )
    whole = responses(np.random.default_rng(8), 0.3)
    alone = Objective("accuracy", {"sort": 1.0})
    for rung in range(2):
        answered = asked(fitness, rung, whole)
        assert answered["sort"].items == BANKS["sort"]
        (estimate,) = fitness.estimator.estimate(answered, [alone])
        assert estimate.value == pytest.approx(np.mean(whole["sort"].values["accuracy"]))


@pytest.mark.parametrize("fitness", [{}, {"items": {"search": 5, "rotate": True}}])
def test_a_task_without_an_objective_is_asked_of_no_candidate(fitness):
    found = made({"estimator": "ppi", "select": "random", **fitness}, ACCURACY)
    assert set(found.ladder.items(0, {})) == {"town"}


# ---- calibration files


def file_of(known: list[Reference], metric: str = "accuracy", **more) -> CalibrationFile:
    bank = BANKS["town"]
    raw = np.array([r.responses["town"].values[metric] for r in known])
    scale = Scale.of(raw)
    names = tuple(f"model {k}" for k in range(len(known)))
    matrix = ResponseMatrix(names, tuple(map(str, bank)), scale.applied(raw), **more)
    return CalibrationFile({("town", metric): matrix}, {}, {("town", metric): scale})


@pytest.mark.parametrize("objective", [ACCURACY, LOGPROB])
def test_a_files_models_count_like_the_studys_own_and_those_of_both_once(objective):
    everyone = references(18)
    whole = responses(np.random.default_rng(8), 0.3)
    fitness = {"estimator": "ridge", "select": "random", "items": {"search": 8}}
    expected = made(fitness, objective, known=everyone)
    again = made(
        fitness,
        objective,
        known=everyone[:5],
        file=file_of([*everyone[:3], *everyone[5:]], objective.metric),
    )
    assert again.ladder.items(0, {}) == expected.ladder.items(0, {})
    answered = asked(expected, 0, whole)
    (one,) = expected.estimator.estimate(answered, [objective])
    (other,) = again.estimator.estimate(answered, [objective])
    assert other.value == pytest.approx(one.value, abs=1e-9)


def test_missing_answers_in_a_file_are_no_hindrance():
    known = references(16)
    file = file_of(known[4:])
    file.matrices["town", "accuracy"].values[2, 5:] = np.nan
    fitness = made({"estimator": "factor", "items": {"search": 8}}, known=known[:4], file=file)
    whole = responses(np.random.default_rng(8), 0.3)
    (estimate,) = fitness.estimator.estimate(asked(fitness, 0, whole), [ACCURACY])
    assert 0 < estimate.value < 1


@pytest.mark.parametrize("count", [1, 3])
def test_fewer_than_four_models_make_no_calibration(count):
    with pytest.raises(
        ConfigError, match=rf"{count} models .* task town; at least 4 are needed"
    ):
        made({"estimator": "factor"}, known=references(count))


def test_the_same_model_in_file_and_study_does_not_make_two():
    known = references(3)
    with pytest.raises(ConfigError, match="3 models"):
        made({"estimator": "factor"}, known=known, file=file_of(known))


def test_everything_that_a_file_lacks_is_told_before_anything_is_scored():
    spec = experiment({"estimator": "factor", "calibration": "file.npz"})
    file = file_of(references())
    with pytest.raises(ConfigError) as caught:
        calibration(spec, BANKS, [LOGPROB, BOTH], file)
    assert ["gold_logprob of town" in caught.value.problems[0], len(caught.value.problems)] == [
        True,
        2,
    ]
    assert "accuracy of sort" in caught.value.problems[1]
    more = {"town": (*BANKS["town"], 999)}
    with pytest.raises(ConfigError, match="1 of the bank's 41 items"):
        calibration(spec, more, [ACCURACY], file)
    calibration(spec, BANKS, [ACCURACY], file)


def test_a_file_of_another_version_of_a_task_is_told():
    banks = {name: task.bank for name, task in TASKS.items()}
    file = CalibrationFile({}, {"town": "v", "sort": "older", "gone": "v"})
    (problem,) = check_calibration_file(file, banks)
    assert "another version of task sort" in problem
    assert check_calibration_file(CalibrationFile({}, {"town": "v"}), banks) == []
