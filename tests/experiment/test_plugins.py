"""Optimizers and search spaces of plugins in an experiment file."""

import sys

import pytest
from quickstart import ZOO, write_experiment

from evomerge.core import plugins
from evomerge.core.errors import ConfigError
from evomerge.core.plugins import Registry
from evomerge.experiment.build import make_study_optimizer
from evomerge.experiment.prepare import prepare_file
from evomerge.optimizers import registry as optimizers
from evomerge.spaces import registry as spaces

PLUGIN = '''
from dataclasses import replace

from pydantic import BaseModel, ConfigDict, Field

from evomerge.core.recipe import Rule
from evomerge.optimizers.designs.options import RandomSearchOptions
from evomerge.optimizers.designs.random_search import RandomSearch
from evomerge.optimizers.registry import OptimizerEntry
from evomerge.spaces.baselines import plain_baselines
from evomerge.spaces.genes import FloatGene
from evomerge.spaces.registry import SpaceKind
from evomerge.spaces.space import SearchSpace


class LineOptions(BaseModel):
    model_config = ConfigDict(extra="forbid")
    longest: float = Field(default=1.0, gt=0)


class Line(SearchSpace):
    """One gene: how far to go from the first expert to the second."""

    def __init__(self, options, models, operators):
        self.genes_, self.models = (FloatGene("t", 0.0, options.longest),), models

    @property
    def genes(self):
        return self.genes_

    def decode(self, genome):
        first, second = (expert.name for expert in self.models.experts)
        weights = {first: {"weight": 1 - genome["t"]}, second: {"weight": genome["t"]}}
        return self.models.recipe([Rule("linear", weights)])

    def encode(self, recipe):
        return None

    def baselines(self):
        return plain_baselines(self.models)


class Backwards(RandomSearch):
    """Random search by another name."""

    def __init__(self, problem, options):
        super().__init__(replace(problem, seed=problem.seed + 1), options)


SPACES = {"line": SpaceKind("a line between two models", LineOptions, Line)}
OPTIMIZERS = {
    "backwards": OptimizerEntry("as random", RandomSearchOptions, f"{__name__}:Backwards")
}
'''


@pytest.fixture(autouse=True)
def nothing_stays(monkeypatch):
    """What a test's plugin adds is gone after it."""
    monkeypatch.setattr(plugins, "_named", {})
    monkeypatch.setattr(plugins, "_modules", {})
    loaded = set(sys.modules)
    for module, name in ((optimizers, "OPTIMIZERS"), (spaces, "SPACES")):
        known = getattr(module, name)
        kind = name.lower()
        monkeypatch.setattr(module, name, Registry(kind, dict(known), known._of))
    yield
    for name in set(sys.modules) - loaded:
        if name.startswith("evomerge_plugin_"):
            del sys.modules[name]


def prepared(folder, **changes):
    folder.mkdir(exist_ok=True)
    (folder / "lines.py").write_text(PLUGIN)
    path = write_experiment(
        folder,
        plugins=["lines.py"],
        fitness={"items": {"search": 8, "validation": 8, "test": 8}},
        **changes,
    )
    return prepare_file(path)[1]


def test_a_plugins_space_and_optimizer_search(tmp_path):
    found = prepared(
        tmp_path / "exp",
        space={"kind": "line", "longest": 0.5},
        optimizer={"name": "backwards"},
    )
    (gene,) = found.space.genes
    assert (gene.low, gene.high) == (0.0, 0.5)
    recipe = found.space.decode({"t": 0.25})
    assert recipe.rules[0].models == {"town": {"weight": 0.75}, "sort": {"weight": 0.25}}
    optimizer = make_study_optimizer(found, [])
    (candidate,) = optimizer.ask(1)
    assert type(optimizer).__name__ == "Backwards"
    assert 0 <= candidate.genome["t"] <= 0.5


def test_an_optimizer_that_is_called_otherwise_is_refused_by_name(tmp_path, monkeypatch):
    import evomerge

    monkeypatch.setattr(
        sys.modules[__name__],
        "PLUGIN",
        PLUGIN.replace(
            "self, problem, options", "self, genes, objectives, seed, options, first"
        ),
    )
    (tmp_path / "exp").mkdir()
    prepared(tmp_path / "exp", space={"kind": "line"}, optimizer={"name": "backwards"})
    said = r"lines\w*:Backwards takes \(genes, objectives, seed, .*called with a SearchProblem"
    with pytest.raises(ConfigError, match=said):
        evomerge.run(tmp_path / "exp" / "experiment.yaml", out=tmp_path / "run")


def test_what_is_recorded_of_such_a_space_prepares_to_the_same(tmp_path):
    from evomerge.experiment.spec import ExperimentSpec

    spec = prepared(tmp_path / "exp", space={"kind": "line", "longest": 0.5}).spec
    again = ExperimentSpec.model_validate(spec.model_dump(mode="json"))
    assert again == spec
    assert again.space.options == {"longest": 0.5}


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({"kind": "lime"}, "space.kind: unknown search space 'lime'; did you mean 'line'?"),
        (
            {"kind": "line", "longst": 1},
            "space.longst: unknown key 'longst'; did you mean 'longest'?",
        ),
        ({"kind": "line", "longest": 0}, "space.longest: Input should be greater than 0"),
    ],
)
def test_a_wrong_space_is_told_in_the_words_of_the_file(tmp_path, space, said):
    with pytest.raises(ConfigError) as wrong:
        prepared(tmp_path / "exp", space=space)
    (problem,) = wrong.value.problems
    assert "experiment.yaml:" in problem
    assert said in problem


def test_a_wrong_option_of_a_plugins_optimizer_is_named(tmp_path):
    with pytest.raises(ConfigError, match="unknown option of backwards 'populaton'"):
        prepared(tmp_path / "exp", optimizer={"name": "backwards", "populaton": 3})


def test_without_plugins_an_experiment_records_none(tmp_path):
    path = write_experiment(tmp_path / "exp", models={"experts": {"a": str(ZOO / "sort")}},
                            space={"operator": "linear", "experts": {"weight": [0, 1]}})  # fmt: skip
    assert prepare_file(path)[1].spec.plugins == ()
