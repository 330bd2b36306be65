"""A chain of searches as written: every stage becomes an experiment of its own."""

import pytest
import yaml
from quickstart import experiment

from evomerge.core.errors import ConfigError
from evomerge.experiment.stages_reader import has_stages, read_chain

PS = {"name": "ps", "budget": {"candidates": 5}}
DFS = {"name": "dfs", "space": {"kind": "layer_moves"}}


def written(tmp_path, *stages, **changes):
    path = tmp_path / "experiment.yaml"
    whole = experiment(**changes) | {"stages": list(stages)}
    path.write_text(yaml.safe_dump(whole, sort_keys=False))
    return path


def read(tmp_path, *stages, overrides=(), **changes):
    return read_chain(written(tmp_path, *stages, **changes), overrides)


def specs(chain):
    assert chain.problems == ()
    return {stage.name: stage.experiment.spec for stage in chain.stages}


def test_a_file_is_a_chain_where_it_has_stages(tmp_path):
    assert has_stages(written(tmp_path, PS, DFS))
    alone = tmp_path / "alone.yaml"
    alone.write_text(yaml.safe_dump(experiment()))
    assert not has_stages(alone)


def test_what_stands_above_holds_for_every_stage_that_does_not_say_otherwise(tmp_path):
    found = specs(read(tmp_path, PS, DFS, budget={"candidates": 9, "minutes": 2}))
    assert found["ps"].budget.candidates == 5
    assert found["ps"].budget.minutes is None  # a key is replaced as a whole
    assert (found["dfs"].budget.candidates, found["dfs"].budget.minutes) == (9, 2)
    assert [spec.seed for spec in found.values()] == [5, 5]
    assert [spec.name for spec in found.values()] == ["small-ps", "small-dfs"]


def test_a_later_stage_has_the_kept_models_and_those_of_the_first(tmp_path):
    found = specs(read(tmp_path, PS | {"keep": 2}, DFS))
    assert [*found["dfs"].models.experts] == ["ps-1", "ps-2", "town", "sort"]
    assert found["dfs"].models.experts["ps-2"] == "stage:ps:2"
    assert found["dfs"].models.base == found["ps"].models.base


def test_models_are_replaced_key_by_key_and_statistics_follow(tmp_path):
    town = experiment()["models"]["experts"]["town"]
    models = experiment()["models"] | {"statistics": {"sort": "a", "town": "b"}}
    own = DFS | {"models": {"experts": {"better": "stage:ps", "town": town}}}
    found = specs(read(tmp_path, PS, own, models=models))
    assert found["dfs"].models.base == models["base"]
    assert dict(found["dfs"].models.experts) == {"better": "stage:ps", "town": town}
    assert dict(found["dfs"].models.statistics) == {"town": "b"}


def test_models_that_nobody_asks_for_are_not_kept(tmp_path):
    own = DFS | {"models": {"experts": experiment()["models"]["experts"]}}
    chain = read(tmp_path, PS, own)
    assert [stage.keep for stage in chain.stages] == [0, 0]
    assert [stage.keep for stage in read(tmp_path, PS, DFS).stages] == [1, 0]


def test_overrides_are_for_all_stages_or_for_one(tmp_path):
    overrides = [
        "fitness.finalists=4",
        "stages.dfs.optimizer.population=8",
        "stages.ps.keep=3",
        "name=other",
    ]
    found = read(tmp_path, PS, DFS, overrides=overrides)
    made = specs(found)
    assert [spec.fitness.finalists for spec in made.values()] == [4, 4]
    assert made["ps"].optimizer.options == {"population": 6}
    assert made["dfs"].optimizer.options == {"population": 8}
    assert found.stages[0].keep == 3
    assert made["dfs"].name == "other-dfs"


WRONG = {
    "a stage that there is not": (
        [PS, DFS | {"models": {"experts": {"x": "stage:pss"}}}],
        "models.experts.x: unknown earlier stage 'pss'; did you mean 'ps'? known: ps. "
        "(stage dfs)",
    ),
    "a stage of itself": (
        [PS, DFS | {"models": {"experts": {"x": "stage:dfs"}}}],
        "models.experts.x: unknown earlier stage 'dfs'",
    ),
    "more models than are kept": (
        [PS, DFS | {"models": {"experts": {"x": "stage:ps:2"}}}],
        "stage ps keeps 1, and 'stage:ps:2' would be number 2; raise its 'keep'.",
    ),
    "more models than are validated": (
        [PS | {"keep": 4}, DFS],
        "stages.ps.keep: 4 models are to be kept, but fitness.finalists validates 3.",
    ),
    "a seed of its own": ([PS, DFS | {"seed": 3}], "stages.dfs.seed: all stages have"),
    "models kept by the last": ([PS, DFS | {"keep": 1}], "stages.dfs.keep: nothing comes"),
    "an expert's name": ([PS | {"name": "town"}, DFS], "would be called 'town', as an expert"),
    "an unknown key": ([PS, DFS | {"spaces": 1}], "spaces: unknown key 'spaces'; did you"),
    "a wrong value": ([PS | {"budget": {"candidates": 0}}, DFS], "budget.candidates: must be"),
    "values fixed by nobody": (
        [PS, DFS | {"fix": {"from": "sp", "parameters": "weight"}}],
        "stages.dfs.fix.from: unknown earlier stage 'sp'",
    ),
}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["density"], "fix: {from: ps, parameters: [density]}; found ['density']."),
        ("density", "fix: {from: ps, parameters: [density]}; found 'density'."),
        (3, "fix: {from: ps, parameters: [NAME]}; found 3."),
        ({"from": "ps", "parameters": 3}, "parameters: must be a parameter's name, or a list"),
        (
            {"from": "ps", "parameters": "a", "form": 1},
            "form: unknown key 'form'; did you mean",
        ),
    ],
)
def test_a_fix_written_wrongly_is_told_as_it_is_to_be_written(tmp_path, given, said):
    with pytest.raises(ConfigError) as refused:
        read(tmp_path, PS, DFS | {"fix": given})
    (problem,) = refused.value.problems
    assert "stages.dfs.fix" in problem
    assert said in problem
    assert "instance of" not in problem


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_told_with_its_line(tmp_path, case):
    stages, message = WRONG[case]
    path = written(tmp_path, *stages)
    problems = read_chain(path).problems
    told = [problem for problem in problems if message in problem]
    assert len(told) == 1, problems
    line = int(told[0].removeprefix(f"{path}:").partition(":")[0])
    key = told[0].partition(": ")[2].partition(":")[0].split(".")[-1]
    lines = path.read_text().splitlines()
    assert line > lines.index("stages:")
    assert key in lines[line - 1]


def test_problems_that_all_stages_share_are_told_once_and_all_together(tmp_path):
    bad = {"maximise": "accuracy", "task": "sort"}
    problems = read(tmp_path, PS, DFS | {"sede": 3}, objectives=[bad]).problems
    assert sum("objectives.0.maximise" in problem for problem in problems) == 1
    assert any(p.endswith("(stage dfs)") and "sede" in p for p in problems)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([PS, PS], "the name 'ps' is another stage's too"),
        ([{"space": "ties"}], "stages.0.name: this key is missing"),
        ([{"name": "a/b"}], "must be letters, digits"),
        ([{"name": "base"}], "no stage can be named 'base'"),
        (["ps"], "must be a mapping with a name"),
    ],
)
def test_stages_that_cannot_be_told_apart_are_refused(tmp_path, stages, message):
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, *stages)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("budget.candidates=3", "changes nothing, every stage gives its own 'budget'"),
        ("stages.pss.keep=3", "unknown stage 'pss'; did you mean 'ps'?"),
        ("stages.ps=3", "expected stages.NAME.KEY=value"),
    ],
)
def test_overrides_that_would_change_nothing_are_refused(tmp_path, override, message):
    own = DFS | {"budget": {"candidates": 2}}
    assert any(message in p for p in read(tmp_path, PS, own, overrides=[override]).problems)
