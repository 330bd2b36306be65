"""Experiment files: presets and overrides filled in, every problem with file, line and key."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from evomerge.core.errors import ConfigError
from evomerge.experiment.load import Experiment, load_experiment
from evomerge.experiment.spec import ExperimentSpec

ROOT = Path(__file__).parents[2]
EXPERIMENTS = sorted((ROOT / "experiments").glob("*/experiment.yaml"))

TEXT = """\
name: three
models:
  base: zoo/base
  experts: {sum: zoo/sum, sort: zoo/sort}
space: ties_by_block
tasks:
  use: [sum, {name: sort, num_fewshot: 2}]
fitness: random_20
objectives:
  - {maximize: accuracy, task: sum}
  - {minimize: loss, tasks: {sum: 1, sort: 3}}
budget: {candidates: 10}
"""


@pytest.fixture
def write(tmp_path):
    def written(text: str = TEXT, **files: str) -> Path:
        for name, content in files.items():
            (tmp_path / f"{name}.yaml").write_text(content)
        path = tmp_path / "experiment.yaml"
        path.write_text(text)
        return path

    return written


def problems_of(path: Path, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_experiment(path, overrides)
    return [problem.replace(f"{path.parent}/", "") for problem in caught.value.problems]


def replaced(old: str, new: str) -> str:
    assert old in TEXT
    return TEXT.replace(old, new)


# ---- what loads


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.parent.name)
def test_every_experiment_of_the_repository_loads(path):
    assert load_experiment(path).spec.name == path.parent.name


def test_presets_are_filled_in_and_left_out_keys_have_defaults(write):
    spec = load_experiment(write()).spec
    assert spec.space.operator == ("ties",)
    assert spec.space.layer_groups == 2
    assert spec.fitness.items.search == (20,)
    assert (spec.seed, spec.optimizer.name, spec.workers.kind) == (0, "", None)
    assert (spec.evaluation.device, spec.device) == ("auto", "cpu")


def test_the_fitness_may_be_left_out(write):
    assert load_experiment(
        write(replaced("fitness: random_20\n", ""))
    ).spec.fitness.items.search == (100,)


def test_models_are_listed_with_the_base_first(write):
    spec = load_experiment(write()).spec
    assert spec.models.all == {"base": "zoo/base", "sum": "zoo/sum", "sort": "zoo/sort"}


def test_an_objective_is_of_one_task_or_a_weighted_mean_of_several(write):
    first, second = load_experiment(write()).spec.objectives
    assert (first.quantity, first.weights) == ("accuracy", {"sum": 1.0})
    assert (second.quantity, second.weights) == ("loss", {"sum": 0.25, "sort": 0.75})
    path = write(replaced("tasks: {sum: 1, sort: 3}", "tasks: [sum, sort]"))
    assert load_experiment(path).spec.objectives[1].weights == {"sum": 0.5, "sort": 0.5}


def test_a_space_may_stand_in_a_file_beside_or_in_the_experiment(write):
    path = write(replaced("ties_by_block", "mine.yaml"), mine="operator: linear")
    assert load_experiment(path).spec.space.operator == ("linear",)
    path = write(replaced("ties_by_block", "{operator: slerp}"))
    assert load_experiment(path).spec.space.operator == ("slerp",)


def test_names_that_yaml_1_1_takes_for_something_else_are_names(write):
    path = write(replaced("{sum: zoo/sum, sort: zoo/sort}", "{no: zoo/no, on: zoo/on}"))
    assert list(load_experiment(path).spec.models.experts) == ["no", "on"]


def test_a_number_with_an_exponent_is_a_number(write):
    path = write(TEXT + "optimizer: {name: cma_es, sigma: 3e-1}\n")
    assert load_experiment(path).spec.optimizer.options == {"sigma": 0.3}


def test_a_specification_recorded_as_json_or_yaml_is_the_same_again(write):
    spec = load_experiment(write(), ["space.merge.lambda={low: 1e-3, high: 1, log: true}"]).spec
    plain = spec.model_dump(mode="json")
    assert ExperimentSpec.model_validate(plain) == spec
    again = write(yaml.safe_dump(plain, sort_keys=False))
    assert load_experiment(again).spec == spec


# ---- overrides


@pytest.mark.parametrize(
    ("overrides", "read", "expected"),
    [
        (["budget.candidates=48"], lambda s: s.budget.candidates, 48),
        (["optimizer.population=4"], lambda s: s.optimizer.options, {"population": 4}),
        (["seed=3", "seed=4"], lambda s: s.seed, 4),
        (
            ["budget={minutes: 1e-1}"],
            lambda s: (s.budget.candidates, s.budget.minutes),
            (None, 0.1),
        ),
        (
            ["space.layer_groups=5"],
            lambda s: (s.space.operator, s.space.layer_groups),
            (("ties",), 5),
        ),
        (["space=linear"], lambda s: s.space.operator, ("linear",)),
        (
            ["space.layer_groups=7", "space=linear"],
            lambda s: (s.space.operator, s.space.layer_groups),
            (("linear",), 7),
        ),
        (["space={operator: slerp}"], lambda s: s.space.operator, ("slerp",)),
        (
            ["fitness=full", "fitness.items.search=30"],
            lambda s: (s.fitness.items.search, s.fitness.finalists),
            ((30,), 16),
        ),
        (["objectives.0.task=sort"], lambda s: s.objectives[0].task, "sort"),
        (["tasks.use.1.num_fewshot=0"], lambda s: s.tasks.use[1].num_fewshot, 0),
        (["models.base="], lambda s: s.models.base, None),
        (["workers.cpus=2"], lambda s: s.workers.cpus, 2.0),
    ],
    ids=lambda value: "read" if callable(value) else str(value),
)
def test_overrides_win_over_file_and_presets(write, overrides, read, expected):
    assert read(load_experiment(write(), overrides).spec) == expected


def test_an_override_reaches_into_a_preset_file_beside_the_experiment(write):
    path = write(mine="operator: linear\nlayer_groups: 2")
    spec = load_experiment(path, ["space=mine.yaml", "space.layer_groups=3"]).spec
    assert (spec.space.operator, spec.space.layer_groups) == (("linear",), 3)


# ---- what is refused


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("budget:", "bugdet:", ":12: bugdet: unknown key 'bugdet'; did you mean 'budget'?"),
        (
            "candidates",
            "candidate",
            ":12: budget.candidate: unknown key 'candidate'; did you mean 'candidates'?",
        ),
        (
            "num_fewshot",
            "fewshot",
            ":7: tasks.use.1.fewshot: unknown key 'fewshot'; did you mean 'num_fewshot'?",
        ),
        (
            "minimize",
            "minimise",
            ":11: objectives.1.minimise: unknown key 'minimise'; did you mean 'minimize'?",
        ),
        (
            "ties_by_block",
            "{operator: ties, layers: 2}",
            ":5: space.layers: unknown key 'layers'; did you mean 'layer_groups'?",
        ),
        (
            "ties_by_block",
            "{operator: ties, experts: {weight: {lo: 2}}}",
            ":5: space.experts.weight.lo: unknown key 'lo'; did you mean 'low'?",
        ),
        ("name: three\n", "", ": name: this key is missing."),
        (
            "  use: [sum, {name: sort, num_fewshot: 2}]",
            "  include: []",
            ":6: tasks.use: this key is missing.",
        ),
        (
            "candidates: 10",
            "candidates: 0",
            ":12: budget.candidates: must be greater than or equal to 1, found 0.",
        ),
        (
            "candidates: 10",
            "candidates: ten",
            ":12: budget.candidates: must be a whole number, found 'ten'.",
        ),
        (
            "candidates: 10",
            "minutes: .inf",
            ":12: budget.minutes: must be a finite number, found inf.",
        ),
        (
            "{candidates: 10}",
            "{}",
            ":12: budget: needs a limit: candidates, minutes or item_evaluations.",
        ),
        ("{candidates: 10}", "10", ":12: budget: must be a mapping, found 10."),
        (
            "[sum, {name: sort, num_fewshot: 2}]",
            "[sum, sum]",
            ":6: tasks: ['sum'] named twice.",
        ),
        (
            "[sum, {name: sort, num_fewshot: 2}]",
            "sum",
            ":7: tasks.use: must be a list, found 'sum'.",
        ),
        (
            "random_20",
            "{items: {search: 1}}",
            ":8: fitness.items.search: needs at least 2 items for a standard error, found 1.",
        ),
        (
            "random_20",
            "{items: {search: many}}",
            ":8: fitness.items.search: must be a whole number or must be 'all', found 'many'.",
        ),
        (
            "random_20",
            "{items: {search: true}}",
            ":8: fitness.items.search: needs at least 2 items for a standard error, found True",
        ),
        (
            "sum: zoo/sum",
            "base: zoo/sum",
            ":2: models: expert names must be letters, digits, - and _, and not",
        ),
        ("zoo/sum", "3", ":4: models.experts.sum: must be text, found 3."),
        (
            "ties_by_block",
            "{operator: ties, experts: {weight: {low: 0}}}",
            ":5: space.experts.weight: an interval needs both low and high.",
        ),
        (
            "ties_by_block",
            "{operator: ties, experts: {weight: {low: 0, high: 1, int: 7}}}",
            ":5: space.experts.weight.int: must be true or false, found 7.",
        ),
        ("ties_by_block", "[ties]", ":5: space: must be a mapping."),
        (
            "name: three",
            "name: ../../three",
            ":1: name: must be letters, digits, - and _, beginning with no - or _",
        ),
        (
            "ties_by_block",
            "tise",
            ":5: space: unknown search space 'tise'; did you mean 'ties'?",
        ),
        (
            "random_20",
            "random_2",
            ":8: fitness: unknown fitness definition 'random_2'; did you mean 'random_20'?",
        ),
    ],
    ids=str,
)
def test_a_problem_names_file_line_and_key(write, old, new, problem):
    found = problems_of(write(replaced(old, new)))
    assert any(each.startswith(f"experiment.yaml{problem}") for each in found), found


METRIC = "give either 'maximize: METRIC' or 'minimize: METRIC'."
TASK = "give either 'task: NAME' or 'tasks: [NAMES]'."
WEIGHTS = "'tasks' needs at least one task, all weights finite and above 0."


@pytest.mark.parametrize(
    ("objective", "problem"),
    [
        ("{task: sum}", METRIC),
        ("{maximize: a, minimize: b, task: sum}", METRIC),
        ("{maximize: a}", TASK),
        ("{maximize: a, task: sum, tasks: [sort]}", TASK),
        ("{maximize: a, tasks: []}", WEIGHTS),
        ("{maximize: a, tasks: {}}", WEIGHTS),
        ("{maximize: a, tasks: {sum: 1, sort: 0}}", WEIGHTS),
        ("{maximize: a, tasks: {sum: .inf, sort: .nan}}", WEIGHTS),
        ("{maximize: a, tasks: [sum, sum]}", "'tasks' names one twice: ['sum', 'sum']."),
    ],
)
def test_an_objective_has_one_metric_and_tasks_with_weights(write, objective, problem):
    found = problems_of(write(replaced("{maximize: accuracy, task: sum}", objective)))
    assert found == [f"experiment.yaml:10: objectives.0: {problem}"]


def test_one_mistake_is_one_problem(write):
    assert len(problems_of(write(replaced("ties_by_block", "tise")))) == 1
    assert len(problems_of(write(replaced("candidates: 10", "candidates: ten")))) == 1
    assert len(problems_of(write(replaced("random_20", "{items: {search: x}}")))) == 1
    assert len(problems_of(write(), "space=tise", "space.layer_groups=2")) == 1


def test_all_problems_are_named_at_once_in_the_files_order(write):
    text = replaced("name: three", "nam: three").replace("candidates: 10", "candidates: 0")
    text = text.replace("random_20", "random_2").replace("num_fewshot", "shots")
    found = problems_of(write(text), "space=tise", "seed=x", "oops", "name.x=1")
    for part in ("random_2", "tise", "nam:", "shots", "candidates", "seed", "oops"):
        assert any(part in problem for problem in found), part


def test_a_problem_in_a_preset_names_the_presets_file_and_line(write):
    path = write(
        replaced("ties_by_block", "mine.yaml"), mine="operator: ties\n\nlayer_group: 2\n"
    )
    (problem,) = problems_of(path)
    assert problem.startswith("mine.yaml:3: space.layer_group: unknown key 'layer_group'")


def test_a_problem_in_a_preset_named_by_an_override_names_its_file_too(write):
    path = write(mine="operator: ties\nlayer_groups: 0\n")
    (problem,) = problems_of(path, "space=mine.yaml")
    assert problem.startswith("mine.yaml:2: space.layer_groups: must be greater")


def test_a_preset_that_is_not_yaml_is_named_with_the_key_that_asked_for_it(write):
    path = write(replaced("ties_by_block", "mine.yaml"), mine="a: 1\na: 2")
    (problem,) = problems_of(path)
    assert problem.startswith(
        "experiment.yaml:5: space: mine.yaml:2: not valid YAML: the key 'a'"
    )


@pytest.mark.parametrize(
    ("assignment", "problem"),
    [
        ("budget.candidates=0", "-o budget.candidates=0: budget.candidates: must be greater"),
        ("budget.candidate=3", "-o budget.candidate=3: budget.candidate: unknown key"),
        ("space.layer_groups=0", "-o space.layer_groups=0: space.layer_groups: must be"),
        ("space=tise", "-o space=tise: space: unknown search space"),
        ("space={operatr: ties}", "-o space={operatr: ties}: space.operatr: unknown key"),
        ("name.first=x", "-o name.first=x: name holds 'three'"),
        ("seed", "-o seed: expected key.path=value."),
        ("models={base: x}", "-o models={base: x}: models.experts: this key is missing."),
    ],
)
def test_a_problem_of_an_override_names_the_override(write, assignment, problem):
    assert any(each.startswith(problem) for each in problems_of(write(), assignment))


def test_a_key_that_stands_twice_is_refused(write):
    (problem,) = problems_of(write(TEXT + "seed: 1\nseed: 2\n"))
    assert problem == "experiment.yaml:14: not valid YAML: the key 'seed' stands twice."


def test_keys_named_like_types_are_named_in_full(write):
    path = write(replaced("{sum: zoo/sum, sort: zoo/sort}", "{int: 3, str: zoo/str}"))
    assert problems_of(path) == [
        "experiment.yaml:4: models.experts.int: must be text, found 3."
    ]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml: no such file\."):
        load_experiment(tmp_path / "none.yaml")


def test_an_experiment_tells_where_a_key_stands(write):
    experiment: Experiment = load_experiment(write(), ["budget.candidates=3"])
    places: dict[tuple[Any, ...], str] = {
        ("models", "experts", "sum"): "experiment.yaml:4: models.experts.sum",
        ("objectives", 1): "experiment.yaml:11: objectives.1",
        ("budget", "candidates"): "-o budget.candidates=3: budget.candidates",
        ("evaluation",): "experiment.yaml: evaluation",
    }
    for location, place in places.items():
        assert experiment.where(*location).replace(f"{experiment.folder}/", "") == place
    assert experiment.where("space", "operator").endswith(
        "ties_by_block.yaml:4: space.operator"
    )
