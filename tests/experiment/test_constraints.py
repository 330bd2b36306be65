"""Constraints in experiment files: keys, problems with their lines, bounds, resumed runs."""

import re

import pytest
from quickstart import TASKS, ZOO, write_experiment

import evomerge
from evomerge.core.errors import ConfigError, StoreError
from evomerge.experiment.load import load_experiment
from evomerge.experiment.plan import plan
from evomerge.experiment.prepare import prepare_file
from evomerge.experiment.session import ResumeOptions, resume
from evomerge.search.budget import Budget
from evomerge.store.study_store import StudyStore

PARAMETERS = 992_384
"""Of each embedded model."""

TEXT = f"""\
name: constrained
models:
  base: {ZOO}/base
  experts: {{town: {ZOO}/town, sort: {ZOO}/sort}}
space: SPACE
tasks: {{include: [{TASKS}], use: [town, sort]}}
fitness: {{items: {{search: 8, validation: 8, test: 8}}, finalists: 2}}
objectives: [{{maximize: accuracy, task: sort}}]
constraints:
  - CONSTRAINT
budget: {{candidates: 4}}
evaluation: {{dtype: float32, batch_size: 64}}
"""
LINE = TEXT.splitlines().index("  - CONSTRAINT") + 1
MOVES = "{kind: layer_moves, operators: [linear], most_layers: 6}"


def file_with(folder, *constraints: str, space: str = "linear"):
    path = folder / "experiment.yaml"
    text = TEXT.replace("SPACE", space)
    path.write_text(text.replace("CONSTRAINT", "\n  - ".join(constraints)))
    return path


def problems_of(path, check=prepare_file) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        check(path)
    return [problem.replace(f"{path.parent}/", "") for problem in caught.value.problems]


# ---- keys


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("{keep: accuracy, task: town}", "give one of at_most, at_least, lose_at_most"),
        (
            "{keep: accuracy, task: town, at_least: 0.5, at_most: 0.9}",
            "give one of at_most, at_least, lose_at_most",
        ),
        ("{keep: accuracy, at_least: 0.5}", "give either 'task: NAME' or 'tasks: [NAMES]'"),
        ("{keep: parmeters, at_most: 9}", "did you mean 'parameters'"),
        ("{keep: parameters, task: town, at_most: 9}", "leave 'task' and 'tasks' out"),
        ("{keep: layers, lose_at_most: 1}", "layers is no score: give at_most or at_least"),
        ("{keep: layers, at_most: 0}", "bounded by a number above 0 or a percentage"),
        ("{keep: accuracy, task: town, at_least: 60%}", "percentages are of sizes"),
        ("{keep: parameters, at_most: 75 %%}", "or a percentage such as 75%, found '75 %%'"),
        ("{keep: parameters, at_most: 9, reference: town}", "'reference' goes with"),
        ("{keep: parameters, at_most: 75%, margin: 1}", "'margin' is of estimates"),
        ("{keep: accuracy, task: town, at_least: 0.5, context: 9}", "'context' is an option"),
        ("{keep: stability, task: town, at_least: 0.5}", "not a constraint"),
        ("{keep: forgetting, task: town, at_most: 0.02}", "with lose_at_most"),
    ],
)
def test_a_wrong_constraint_is_refused_with_its_line(tmp_path, written, problem):
    (found,) = problems_of(file_with(tmp_path, written), load_experiment)
    assert found.startswith(f"experiment.yaml:{LINE}: constraints.0")
    assert problem in found


def test_an_unknown_key_is_told_the_near_one(tmp_path):
    (found,) = problems_of(
        file_with(tmp_path, "{keep: accuracy, task: town, at_leest: 0.6}"), load_experiment
    )[:1]
    assert "constraints.0.at_leest: unknown key 'at_leest'; did you mean 'at_least'?" in found


@pytest.mark.parametrize("bound", ["75%", "9"])
def test_a_misspelt_size_is_told_the_near_one_and_nothing_else(tmp_path, bound):
    written = f"{{keep: parameter, at_most: {bound}}}"
    (found,) = problems_of(file_with(tmp_path, written), load_experiment)
    assert found == (
        f"experiment.yaml:{LINE}: constraints.0: keep: unknown size 'parameter'; did you mean "
        "'parameters'? known: parameters, flops, layers."
    )


def test_a_task_that_is_not_used_is_to_be_added_to_the_used_ones(tmp_path):
    (found,) = problems_of(
        file_with(tmp_path, "{keep: accuracy, task: score, lose_at_most: 0.1}")
    )
    assert "task 'score' has to be in tasks.use, which has town, sort: add it there" in found


def test_unknown_tasks_metrics_and_references_are_all_told_at_once(tmp_path):
    found = problems_of(
        file_with(
            tmp_path,
            "{keep: accuracy, task: twon, at_least: 0.6}",
            "{keep: acuracy, task: town, at_least: 0.6}",
            "{keep: accuracy, task: town, lose_at_most: 0.1, reference: bse}",
            "{keep: parameters, at_most: 75%, reference: twn}",
        )
    )
    assert [text.partition(": ")[0] for text in found] == [
        f"experiment.yaml:{LINE + k}" for k in range(4)
    ]
    for text, near in zip(found, ("town", "accuracy", "base", "town"), strict=True):
        assert f"did you mean {near!r}?" in text


# ---- what can never be met, or always holds


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        (
            "{keep: parameters, at_most: 75%}",
            "can never be met: every recipe of this space has 992,384 parameters, the bound is "
            "744,288.",
        ),
        ("{keep: layers, at_most: 4}", "can never be met: every recipe of this space has 5"),
        ("{keep: accuracy, task: town, at_least: 60}", "60 points are 0.6"),
        ("{keep: accuracy, task: town, at_least: 0}", "always holds"),
        ("{keep: accuracy, task: town, lose_at_most: 2}", "a loss of two points is 0.02"),
        (
            "{keep: entropy, task: town, lose_at_most: 0.1}",
            "lose_at_most needs a metric of which more is better; of entropy less is.",
        ),
    ],
)
def test_what_can_never_be_met_or_always_holds_is_refused_before_any_work(
    tmp_path, written, problem
):
    (found,) = problems_of(file_with(tmp_path, written))
    assert problem in found


def test_bounds_that_exclude_or_repeat_each_other_are_refused(tmp_path):
    found = problems_of(
        file_with(
            tmp_path,
            "{keep: accuracy, task: town, at_least: 0.7}",
            "{keep: accuracy, task: town, at_most: 0.6}",
            "{keep: accuracy, task: town, at_least: 0.5}",
        )
    )
    assert "no accuracy(town) is at least 0.7 and at most 0.6" in found[0]
    assert "a second bound: accuracy(town) at least 0.7 is asked for already" in found[1]


def test_a_size_that_every_recipe_has_is_noted(tmp_path):
    _, prepared = prepare_file(file_with(tmp_path, "{keep: flops, at_most: 100%}"))
    (note,) = [text for text in prepared.notes if text.startswith("constraints.0")]
    assert "always holds" in note


def test_a_depth_beyond_the_space_s_deepest_is_noted_and_one_within_it_is_not(tmp_path):
    deep = file_with(
        tmp_path, "{keep: layers, at_most: 7}", "{keep: flops, at_most: 80%}", space=MOVES
    )
    _, prepared = prepare_file(deep)
    noted = [text for text in prepared.notes if text.startswith("constraints.")]
    assert [text.partition(":")[0] for text in noted] == ["constraints.0"]


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("{keep: parameters, at_most: 10%}", "none of N recipes tried meets parameters"),
        ("{keep: parameters, at_most: 120%}", "all of N recipes tried meet parameters"),
        ("{keep: layers, at_most: 1}", "the smallest has 3, the bound is 1"),
        ("{keep: layers, at_least: 2}", "the smallest has 3, the bound is 2"),
        ("{keep: layers, at_most: 4}", None),
        ("{keep: flops, at_most: 80%}", None),
    ],
)
def test_sizes_are_judged_by_what_the_space_makes(tmp_path, written, said):
    removes = "{kind: layer_edit, operator: task_arithmetic, remove: [0, 2]}"
    _, prepared = prepare_file(file_with(tmp_path, written, space=removes))
    noted = [text for text in prepared.notes if text.startswith("constraints.0")]
    assert len(noted) == (said is not None)
    for text in noted:
        assert said in re.sub(r"of \d+ recipes", "of N recipes", text)


# ---- what they come to


def test_percentages_are_of_the_base_or_of_the_named_model(tmp_path):
    path = file_with(
        tmp_path,
        "{keep: parameters, at_most: 75%}",
        "{keep: layers, at_most: 60%, reference: sort}",
        "{keep: accuracy, task: town, lose_at_most: 0.02}",
        space=MOVES,
    )
    _, prepared = prepare_file(path)
    size, depth, loss = prepared.constraints
    assert (size.bound, size.scale) == (0.75 * PARAMETERS, 0.75 * PARAMETERS)
    assert (size.reference, size.reference_value) == ("base", PARAMETERS)
    assert (depth.bound, depth.reference) == (3.0, "sort")
    assert (loss.bound, loss.scale, loss.reference) == (0.02, 1.0, "base")
    (line,) = [t for t in plan(prepared, Budget(4)) if t.startswith("constraints:")]
    assert line == (
        "constraints: parameters at most 75% of base's; layers at most 60% of sort's; "
        "loss of accuracy(town) against base at most 0.02"
    )


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """Searches for sorting alone: without a guard, and with one on the towns."""
    folder = tmp_path_factory.mktemp("guarded")
    guard = {"keep": "accuracy", "task": "town", "lose_at_most": 0.3, "reference": "town"}
    common = {
        "objectives": [{"maximize": "accuracy", "task": "sort"}],
        "optimizer": {"name": "nsga2", "population": 8},
        "budget": {"candidates": 16},
    }
    return {
        bool(constraints): evomerge.run(
            write_experiment(folder / name, constraints=constraints, **common),
            out=folder / name / "run",
        )
        for name, constraints in (("free", []), ("held", [guard]))
    }


def town_accuracy(study, number: int) -> float:
    """On the test items."""
    with StudyStore.open(study.path, read_only=True) as store:
        versions = {name: bank["version"] for name, bank in store.meta("banks").items()}
        digest, settings = store.trial(number).recipe.digest, store.meta("settings_digest")
        known = store.responses(digest, settings, versions)["town"]
        answers = known.only(store.meta("items")["test"]["town"]).values["accuracy"]
    return sum(answers) / len(answers)


def test_the_winner_keeps_the_guarded_skill_that_it_loses_without_the_guard(guarded):
    free, held = (guarded[g].summary() for g in (False, True))
    assert town_accuracy(guarded[False], free.balanced) < 0.5
    assert held.feasible
    assert town_accuracy(guarded[True], held.balanced) > 0.5


def test_the_table_of_the_front_tells_every_constraint(guarded):
    label = "loss of accuracy on town against town at most 0.3"
    front = guarded[True].front()
    assert (front[label] <= 0.3).all()
    assert (front[f"{label} bound"] == 0.3).all()
    assert front[f"{label} met"].all()
    assert f"test {label}" in front.columns
    trials = guarded[True].trials()
    assert (trials["violation"] == (trials[label] - 0.3).clip(lower=0)).all()
    assert not trials[f"{label} met"].all()
    assert not any("loss of" in column for column in guarded[False].front().columns)


def test_a_study_whose_constraints_were_changed_is_not_resumed(guarded):
    run_dir = guarded[True].path
    with StudyStore.open(run_dir) as store:
        recorded = store.meta("constraints")
        store.set_meta("constraints", [recorded[0] | {"bound": 0.5}])
    try:
        with pytest.raises(StoreError, match="the constraints are others"):
            resume(run_dir, ResumeOptions(add=1))
    finally:
        with StudyStore.open(run_dir) as store:
            store.set_meta("constraints", recorded)


def test_other_constraints_cannot_be_given_on_resume(guarded):
    with pytest.raises(ConfigError, match="can only be given other workers"):
        resume(guarded[True].path, ResumeOptions(overrides=("constraints=[]",)))
