"""mergekit-evolve configurations become experiments that can be run."""

from pathlib import Path

import pytest
import yaml
from cli.conftest import call  # noqa: F401 - a fixture
from quickstart import TASKS, ZOO

from evomerge.core.errors import ConfigError
from evomerge.experiment.import_evolve import ImportOptions, import_evolve
from evomerge.experiment.load import load_experiment
from evomerge.experiment.prepare import prepare_file

NO_OPTIONS = ImportOptions()
GENOME = {
    "models": [str(ZOO / "town"), str(ZOO / "sort")],
    "merge_method": "dare_ties",
    "base_model": str(ZOO / "base"),
}
CONFIG = {"genome": GENOME, "tasks": [{"name": "town", "metric": "acc,none"}]}


def imported(folder: Path, options: ImportOptions = NO_OPTIONS, **changes) -> dict:
    config = {**CONFIG, **{k: v for k, v in changes.items() if k not in GENOME_KEYS}}
    config["genome"] = {**GENOME, **{k: v for k, v in changes.items() if k in GENOME_KEYS}}
    folder.mkdir(exist_ok=True)
    (folder / "evolve.yml").write_text(yaml.safe_dump(config))
    out = folder / "experiment.yaml"
    out.unlink(missing_ok=True)
    import_evolve(folder / "evolve.yml", out, options)
    load_experiment(out)
    return yaml.safe_load(out.read_text())


GENOME_KEYS = (
    "models", "merge_method", "base_model", "tokenizer_source", "layer_granularity", "normalize",
    "allow_negative_weights", "filters", "smooth",
)  # fmt: skip


def test_the_written_experiment_is_valid_and_searches_the_same(tmp_path, call):  # noqa: F811
    config = {
        "genome": {
            **GENOME,
            "tokenizer_source": "base",
            "layer_granularity": 1,
            "filters": ["self_attn", "mlp"],
            "smooth": True,
            "allow_negative_weights": True,
        },
        "tasks": [{"name": "town", "weight": 2.0, "metric": "acc,none"}],
        "limit": 12,
        "num_fewshot": 0,
        "apply_chat_template": False,
    }
    (tmp_path / "evolve.yml").write_text(yaml.safe_dump(config))
    done = call("import-evolve", tmp_path / "evolve.yml", "--include", TASKS)
    assert done.code == 0, done.err
    assert "experiment.yaml written" in done.out
    experiment, prepared = prepare_file(tmp_path / "experiment.yaml", offline=True)
    space = experiment.spec.space
    assert (space.operator, space.layer_groups, space.interpolate) == (("dare_ties",), 5, True)
    assert space.components == ("self_attn", "mlp")
    recipe = prepared.space.decode(
        {gene.name: gene.from_unit(0.5) for gene in prepared.space.genes}
    )
    assert recipe.rules[0].parameters == {"lambda": 1.0, "normalize": True}
    assert len(prepared.space.genes) == 2 * 2 * (5 * 2 + 1)  # models, parameters, sections
    assert len(prepared.items["search"]["town"]) == 12
    assert experiment.spec.optimizer.name == "cma_es"
    assert experiment.spec.budget.candidates == 100


def test_tasks_of_one_metric_are_one_weighted_objective(tmp_path):
    plain = imported(
        tmp_path, tasks=["town", {"name": "sort", "weight": 3}, {"name": "town", "weight": 1}]
    )
    assert plain["objectives"] == [{"maximize": "acc", "tasks": {"town": 2.0, "sort": 3.0}}]
    assert plain["tasks"]["use"] == ["town", "sort"]


def test_metrics_of_different_kinds_are_objectives_of_their_own(tmp_path):
    plain = imported(
        tmp_path,
        tasks=[
            {"name": "town", "metric": "acc_norm,none"},
            {"name": "sort", "metric": "exact_match,strict-match"},
            {"name": "wiki", "metric": "perplexity,none", "weight": -0.5},
        ],
    )
    assert plain["objectives"] == [
        {"maximize": "acc_norm", "tasks": {"town": 1.0}},
        {"maximize": "exact_match,strict-match", "tasks": {"sort": 1.0}},
        {"minimize": "perplexity", "tasks": {"wiki": 0.5}},
    ]
    assert plain["optimizer"] == {"name": "nsga2"}


@pytest.mark.parametrize(
    ("changes", "space"),
    [
        (
            {"merge_method": "linear", "base_model": None},
            {
                "operator": "linear",
                "experts": {"weight": [0.0, 1.5]},
                "merge": {"normalize": True},
            },
        ),
        (
            {"merge_method": "task_arithmetic", "allow_negative_weights": True},
            {
                "operator": "task_arithmetic",
                "experts": {"weight": [-1.5, 1.5]},
                "merge": {"normalize": False, "lambda": 1.0},
            },
        ),
        (
            {"merge_method": "ties", "normalize": False},
            {
                "operator": "ties",
                "experts": {"weight": [0.0, 1.5], "density": [0.0, 1.0]},
                "merge": {"normalize": False, "lambda": 1.0},
            },
        ),
        (
            {"merge_method": "slerp", "base_model": None},
            {"operator": "slerp", "merge": {"t": [0.0, 1.0]}},
        ),
    ],
    ids=["linear", "task_arithmetic", "ties", "slerp"],
)
def test_each_method_becomes_a_space(tmp_path, changes, space):
    assert imported(tmp_path, **changes)["space"] == {"kind": "parameter", **space}


def test_layers_are_cut_into_groups_of_the_granularity(tmp_path):
    assert imported(tmp_path, layer_granularity=1)["space"]["layer_groups"] == 5
    with pytest.raises(ConfigError, match="4 does not divide the models' 5 layers"):
        imported(tmp_path, layer_granularity=4)
    told = ImportOptions(layers=32)
    assert imported(tmp_path, told, layer_granularity=8)["space"]["layer_groups"] == 4


def test_filters_that_never_match_first_are_left_out_and_named(tmp_path):
    plain = imported(tmp_path, filters=["mlp", "mlp.down_proj", "attn"])
    assert plain["space"]["components"] == ["mlp", "attn"]
    assert "['mlp.down_proj'] never match" in (tmp_path / "experiment.yaml").read_text()


def test_a_base_among_the_models_is_no_expert(tmp_path):
    plain = imported(tmp_path, models=[*GENOME["models"], GENOME["base_model"]])
    assert [*plain["models"]["experts"]] == ["town", "sort"]


def test_experts_have_names_that_experiments_take(tmp_path):
    models = ["org/Mistral-7B-v0.1", "other/Mistral-7B-v0.1", "org/base"]
    plain = imported(tmp_path, models=models, base_model="org/root")
    assert plain["models"] == {
        "base": "org/root",
        "experts": {
            "Mistral-7B-v0-1": models[0],
            "other-Mistral-7B-v0-1": models[1],
            "base-model": models[2],
        },
    }


@pytest.mark.parametrize(
    ("source", "policy"),
    [
        ("union", "union"),
        ("base", "base"),
        (GENOME["models"][1], "sort"),
        (GENOME["base_model"], "base"),
        (None, None),
    ],
)
def test_the_tokenizer_is_that_of_the_same_model(tmp_path, source, policy):
    models = imported(tmp_path, tokenizer_source=source)["models"]
    assert models.get("tokenizer_mismatch") == policy


def test_places_are_found_from_where_the_experiment_is_written(tmp_path):
    (tmp_path / "in" / "model").mkdir(parents=True)
    (tmp_path / "out").mkdir()
    config = {"genome": {**GENOME, "models": ["model"]}, "tasks": ["town"]}
    (tmp_path / "in" / "evolve.yml").write_text(yaml.safe_dump(config))
    import_evolve(tmp_path / "in" / "evolve.yml", tmp_path / "out" / "experiment.yaml")
    plain = yaml.safe_load((tmp_path / "out" / "experiment.yaml").read_text())
    assert plain["models"]["experts"] == {"model": "../in/model"}


@pytest.mark.parametrize(
    ("changes", "comment"),
    [
        ({"shuffle": True}, "shuffle: each of mergekit-evolve's workers draws"),
        ({"random_init": True}, "random_init: the search starts from the best"),
        ({"tokenizer_source": "org/other"}, "tokenizer_source org/other is none of the models"),
        ({"merge_method": "linear"}, "linear has no use for the base_model"),
        ({"num_fewshot": 3}, "fewshot_as_multiturn has no counterpart"),
        ({}, "lambda is always 1 in mergekit-evolve"),
    ],
)
def test_what_has_no_counterpart_is_told_in_a_comment(tmp_path, changes, comment):
    imported(tmp_path, **changes)
    text = (tmp_path / "experiment.yaml").read_text()
    assert comment in text
    assert max(map(len, text.splitlines())) <= 96 + len(str(ZOO))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"merge_method": "della"}, "genome.merge_method: mergekit-evolve has linear,"),
        ({"base_model": None}, "genome.base_model: dare_ties needs one."),
        ({"models": [GENOME["base_model"]]}, "genome.models: names no model besides the base."),
        ({"models": ["a", "a"]}, "genome.models: names one twice."),
        ({"merge_method": "slerp", "models": ["a", "b", "c"]}, "no counterpart"),
        ({"merge_method": "slerp", "smooth": True}, "slerp takes neither 'smooth'"),
        ({"tasks": [{"name": "town", "weight": 0}]}, "a weight of 0 has no effect"),
        ({"tasks": []}, "tasks: "),
        ({"limits": 3}, "limits: Extra inputs"),
    ],
)
def test_what_cannot_be_imported_is_named(tmp_path, changes, problem):
    with pytest.raises(ConfigError) as caught:
        imported(tmp_path, **changes)
    assert any(problem in found for found in caught.value.problems)
    assert not (tmp_path / "experiment.yaml").exists()


def test_an_experiment_is_not_overwritten(tmp_path):
    imported(tmp_path)
    with pytest.raises(ConfigError, match="exists already"):
        import_evolve(tmp_path / "evolve.yml", tmp_path / "experiment.yaml")
