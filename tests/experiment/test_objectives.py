"""Objectives in experiment files: options, problems with their lines, and real models."""

import json
import shutil

import numpy as np
import pytest
from quickstart import TASKS, ZOO, write_experiment

import evomerge
from evomerge.core.errors import ConfigError
from evomerge.core.objectives import Objective
from evomerge.core.recipe import Rule
from evomerge.experiment.build import make_evaluation
from evomerge.experiment.load import load_experiment
from evomerge.experiment.objective_spec import ObjectiveSpec
from evomerge.experiment.objectives import objective
from evomerge.experiment.prepare import prepare_file
from evomerge.store.study_store import StudyStore
from evomerge.workers.contract import Answered, Job

TEXT = f"""\
name: label-free
models:
  base: {ZOO}/base
  experts: {{town: {ZOO}/town, sort: {ZOO}/sort}}
space: linear
tasks: {{include: [{TASKS}], use: [town, sort, score]}}
fitness: {{items: {{search: 12, validation: 12, test: 12}}, finalists: 2}}
objectives:
  - OBJECTIVE
  - {{maximize: accuracy, task: sort}}
budget: {{candidates: 4}}
evaluation: {{dtype: float32, batch_size: 64}}
"""


def file_with(folder, *objectives: str):
    path = folder / "experiment.yaml"
    path.write_text(TEXT.replace("OBJECTIVE", "\n  - ".join(objectives)))
    return path


def problems_of(path, check) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        check(path)
    return [problem.replace(f"{path.parent}/", "") for problem in caught.value.problems]


# ---- keys


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        (
            "{minimize: parameters, task: town}",
            "parameters is of the whole model: leave 'task' and 'tasks' out.",
        ),
        ("{minimize: entropy}", "give either 'task: NAME' or 'tasks: [NAMES]'."),
        (
            "{minimize: parmeters}",
            "give either 'task: NAME' or 'tasks: [NAMES]'; or did you mean 'parameters', "
            "which needs none?.",
        ),
        ("{maximize: forgetting, task: town}", "forgetting is to be minimized."),
        (
            "{maximize: accuracy, task: town, reference: base, collapse: 0.9}",
            "'reference' is an option of forgetting only; 'collapse' is an option of entropy "
            "and stability and information and output_tokens only.",
        ),
        (
            "{minimize: entropy, task: town, collapse: true}",
            "'collapse' is a share of answers, or false.",
        ),
        (
            "{minimize: flops, task: town, step: 0.2}",
            "'step' is an option of stability only; flops is of the whole model: leave "
            "'task' and 'tasks' out.",
        ),
    ],
)
def test_options_and_tasks_that_an_objective_lacks_or_has_no_use_for(
    tmp_path, written, problem
):
    found = problems_of(file_with(tmp_path, written), load_experiment)
    assert found == [f"experiment.yaml:9: objectives.0: {problem}"]


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ("{minimize: entropy, task: town, collapse: 1.5}", "collapse"),
        ("{minimize: entropy, task: town, collapse: 0}", "collapse"),
        ("{maximize: stability, task: town, step: 0}", "step"),
        ("{minimize: flops, context: 0}", "context"),
    ],
)
def test_options_out_of_range_are_named(tmp_path, written, key):
    (problem,) = problems_of(file_with(tmp_path, written), load_experiment)
    assert problem.startswith(f"experiment.yaml:9: objectives.0.{key}: must be")


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (
            {"minimize": "entropy", "task": "t"},
            Objective("entropy", {"t": 1.0}, "minimize", collapse=0.95),
        ),
        (
            {"minimize": "entropy", "task": "t", "collapse": False},
            Objective("entropy", {"t": 1.0}, "minimize"),
        ),
        (
            {"maximize": "entropy", "task": "t"},
            Objective("entropy", {"t": 1.0}),
        ),
        (
            {"maximize": "information", "tasks": ["t", "u"], "collapse": 1},
            Objective("information", {"t": 0.5, "u": 0.5}, kind="information", collapse=1.0),
        ),
        (
            {"minimize": "forgetting", "task": "t"},
            Objective(
                "forgetting (accuracy, base)", {"t": 1.0}, "minimize",
                "forgetting", "base", "accuracy",
            ),
        ),
        (
            {"minimize": "forgetting", "task": "t", "metric": "margin", "reference": "x"},
            Objective(
                "forgetting (margin, x)", {"t": 1.0}, "minimize", "forgetting", "x", "margin"
            ),
        ),
        (
            {"minimize": "flops"},
            Objective("flops at 2048 tokens", {}, "minimize", kind="flops", context=2048),
        ),
        ({"minimize": "parameters"}, Objective("parameters", {}, "minimize", "parameters")),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)  # fmt: skip
def test_what_is_left_out_has_its_default(written, expected):
    spec = ObjectiveSpec.model_validate(written)
    assert objective(spec) == expected
    assert ObjectiveSpec.model_validate(spec.model_dump(mode="json")) == spec


# ---- models and tasks


def test_what_does_not_fit_models_and_tasks_is_named_at_once_with_its_line(tmp_path):
    path = file_with(
        tmp_path,
        "{minimize: entrpy, task: town}",
        "{minimize: forgetting, task: score, reference: twon}",
        "{minimize: forgetting, task: score, metric: accurcy}",
        "{maximize: stability, task: town, step: 0.2}",
        "{maximize: stability, task: twon}",
    )
    found = problems_of(path, lambda p: prepare_file(p, ["optimizer.name=random"]))
    expected = [
        ":9: objectives.0: task town: unknown metric 'entrpy'; did you mean 'entropy'?",
        ":10: objectives.1: reference: unknown source model 'twon'; did you mean 'town'?",
        ":11: objectives.2: task score: unknown metric 'accurcy'; did you mean 'accuracy'?",
        ":13: objectives.4: unknown task 'twon'; did you mean 'town'?",
        ":13: objectives.4: step: 0.1 here and 0.2 above; give all one step.",
    ]
    assert len(found) == len(expected)
    for problem, start in zip(found, expected, strict=True):
        assert problem.startswith(f"experiment.yaml{start}")


def test_the_base_is_no_reference_where_there_is_none(tmp_path):
    path = file_with(tmp_path, "{minimize: forgetting, task: score}")
    (problem,) = problems_of(path, lambda p: prepare_file(p, ["models.base="]))
    assert "objectives.0: reference: unknown source model 'base'" in problem


def test_stability_needs_models_between_which_weight_can_move(tmp_path):
    path = file_with(tmp_path, "{maximize: stability, task: town}")
    changes = [f"models={{experts: {{town: {ZOO}/town}}}}"]
    (problem,) = problems_of(path, lambda p: prepare_file(p, changes))
    assert problem.endswith("objectives.0: stability needs at least two source models.")


def test_a_size_that_is_the_same_for_every_recipe_is_noted(tmp_path):
    path = file_with(tmp_path, "{minimize: parameters}", "{minimize: flops, context: 64}")
    notes = prepare_file(path)[1].notes
    told = [note for note in notes if "for every recipe" in note]
    assert told[0].startswith("objectives.0: parameters is 992,384 for every recipe")
    assert told[1].startswith("objectives.1: flops at 64 tokens is 2,145,792 for every recipe")


# ---- a search


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> evomerge.Study:
    folder = tmp_path_factory.mktemp("label_free")
    path = write_experiment(
        folder,
        fitness={"items": {"search": 12, "validation": 12, "test": 12}, "finalists": 2},
        budget={"candidates": 4},
        objectives=[
            {"maximize": "stability", "task": "town"},
            {"minimize": "forgetting", "task": "sort", "reference": "sort"},
            {"maximize": "information", "task": "town"},
            {"minimize": "parameters"},
        ],
    )
    return evomerge.run(path, out=folder / "run")


def test_every_objective_has_a_value_for_every_recipe(study):
    frame = study.trials()
    assert set(frame["status"]) == {"complete"}
    assert frame["stability on town"].between(0, 1).all()
    assert frame["information on town"].between(-1.5, 3.5).all()  # 18 towns
    assert (frame["parameters"] == 992_384).all()
    assert (frame["parameters s.e."] == 0).all()
    forgotten = frame.set_index("name")["forgetting (accuracy, sort) on sort"]
    assert forgotten["sort"] == 0.0
    assert forgotten["town"] > 0.3


def test_the_second_question_for_stability_is_counted_as_an_item_evaluation(study):
    with StudyStore.open(study.path, read_only=True) as store:
        counts = [t.item_evaluations for t in store.trials() if t.timings]
        answered = store.count_responses()
    assert set(counts) == {12 + 12 + 12}  # town twice, sort once
    assert study.summary().counts.item_evaluations == answered * 3 / 2


def test_the_report_compares_derived_objectives_on_test_items(study):
    final = study.summary().final
    assert final is not None
    rows = {row.trial.name: row for row in final.rows}
    assert rows["sort"].test[1].value == 0.0
    difference = rows["town"].differences[1]
    assert difference is not None
    assert difference.low <= difference.value <= difference.high
    assert difference.value == pytest.approx(rows["town"].test[1].value)
    page = (study.path / "report.html").read_text()
    assert "forgetting (accuracy, sort) on sort" in page


def test_scores_without_a_task_are_told_without_items(study):
    recipe = (study.path / "front" / "01.recipe.yaml").read_text()
    assert "# parameters: 992.4 k\n" in recipe
    assert "# stability on town: " in recipe


def test_stability_is_agreement_with_the_neighbouring_recipes(study, tmp_path):
    """Of the uniform average of two experts: .6 and .4, .4 and .6, every other item each."""
    path = write_experiment(
        tmp_path,
        fitness={"items": {"search": 40, "validation": 12, "test": 12}},
        objectives=[{"maximize": "stability", "task": "town"}],
    )
    prepared = prepare_file(path)[1]
    evaluate = make_evaluation(prepared).evaluate
    items = {"town": prepared.items["search"]["town"]}

    def answered(**weights: float):
        models = {name: {"weight": weight} for name, weight in weights.items()}
        recipe = prepared.models.recipe([Rule("linear", models, {"normalize": False})])
        result = evaluate(Job(1, recipe, items))
        assert isinstance(result, Answered)
        return result.responses["town"].values

    own = answered(town=0.5, sort=0.5)
    towards = answered(town=0.6, sort=0.4)["choice"], answered(town=0.4, sort=0.6)["choice"]
    expected = [
        float(own["choice"][k] == towards[item % 2][k]) for k, item in enumerate(items["town"])
    ]
    assert list(own["stability"]) == expected
    assert 0 < np.mean(expected) < 1


def test_what_stability_depends_on_is_part_of_the_settings(tmp_path):
    plain = prepare_file(file_with(tmp_path, "{minimize: entropy, task: town}"))[1]
    assert "stability" not in make_evaluation(plain).settings
    asked = prepare_file(file_with(tmp_path, "{maximize: stability, task: town}"))[1]
    settings = make_evaluation(asked).settings["stability"]
    assert settings == {"step": 0.1, "models": ["town", "sort"]}
    only_base = prepare_file(
        file_with(tmp_path, "{maximize: stability, task: town}"),
        [f"models.experts={{town: {ZOO}/town}}"],
    )[1]
    assert make_evaluation(only_base).settings["stability"]["models"] == ["base", "town"]


def test_a_chat_template_that_is_not_there_is_found_before_a_run(tmp_path):
    base = shutil.copytree(ZOO / "base", tmp_path / "base")
    file = base / "tokenizer_config.json"
    plain = json.loads(file.read_text())
    del plain["chat_template"]
    file.write_text(json.dumps(plain))
    path = write_experiment(tmp_path / "home", evaluation={"apply_chat_template": True})
    assert prepare_file(path)
    (problem,) = problems_of(path, lambda p: prepare_file(p, [f"models.base={base}"]))
    assert problem.endswith(
        "evaluation.apply_chat_template: base's tokenizer has no chat template."
    )
