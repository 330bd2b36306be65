"""What ``evomerge space`` tells of search spaces before anything is run."""

import json

import pytest
from quickstart import ROOT, write_experiment
from staged_runs import write_chain

from evomerge.recipes.recipe_yaml import recipe_from_yaml
from evomerge.spaces.registry import SPACES

PRESETS = sorted(path.stem for path in (ROOT / "search_spaces").glob("*.yaml"))
QUICKSTART = str(ROOT / "experiments" / "quickstart" / "experiment.yaml")


@pytest.fixture
def space(call, monkeypatch):
    def run(*arguments: str, columns: int = 100):
        monkeypatch.setenv("COLUMNS", str(columns))
        shown = call("space", *arguments)
        assert shown.code == 0, shown.err
        return shown.out

    return run


def test_every_kind_and_every_ready_space_is_listed_within_the_width(space):
    listing = space("list", columns=80)
    assert max(map(len, listing.splitlines())) <= 80
    starts = {line.split(" ")[0] for line in listing.splitlines()}
    assert starts >= {*SPACES, *PRESETS}
    ready = json.loads(space("list", "--json"))["ready"]
    assert all(facts["summary"] for facts in ready.values())


@pytest.mark.parametrize("preset", [name for name in PRESETS if name != "splits"])
def test_every_ready_space_is_shown_over_made_up_models(space, preset):
    shown = space("show", preset, "--layers", "12")
    assert "made up" in shown
    facts = json.loads(space("show", preset, "--layers", "12", "--json"))
    assert f"dimensions: {len(facts['genes']):,} gene" in shown
    assert facts["made_up_models"]
    assert facts["layers"] == 12
    assert [*facts["example"]["genome"]] == [gene["name"] for gene in facts["genes"]]


def test_an_experiments_space_is_shown_over_its_own_models(space):
    shown = space("show", QUICKSTART)
    assert "3 experts (sort, score, town) of 5 layers\n" in shown
    assert "dimensions: 22 genes: 22 numbers" in shown
    assert shown.count("sort.weight") == 7
    example = shown[shown.index("recipe: 1") :]
    assert recipe_from_yaml(example).digest in shown


def test_many_genes_are_cut_short_unless_all_are_asked_for(space):
    short = space("show", "linear", "--experts", "20")
    assert "more; --all lists them" in short
    everything = space("show", "linear", "--experts", "20", "--all")
    assert len(everything.splitlines()) > len(short.splitlines()) + 50


def test_an_override_changes_the_space(space):
    one = json.loads(space("show", "ties_by_block", "--json"))
    more = json.loads(space("show", "ties_by_block", "-o", "space.layer_groups=4", "--json"))
    assert len(more["genes"]) > len(one["genes"])


def test_samples_are_recipes_with_the_digest_told_and_the_same_for_a_seed(space):
    drawn = space("sample", "layer_moves", "-n", "4", "--layers", "6", "--seed", "3")
    assert drawn == space("sample", "layer_moves", "-n", "4", "--layers", "6", "--seed", "3")
    recipes = drawn.split("---\n")
    assert len(recipes) == 4
    for text in recipes:
        assert f"# digest {recipe_from_yaml(text).digest}\n" in text
    assert drawn != space("sample", "layer_moves", "-n", "4", "--layers", "6")
    lines = space("sample", "layer_moves", "-n", "4", "--layers", "6", "--seed", "3", "--json")
    digests = [json.loads(line)["digest"] for line in lines.splitlines()]
    assert digests == [recipe_from_yaml(text).digest for text in recipes]


def test_samples_written_to_a_folder_can_be_merged(call, space, tmp_path):
    space("sample", QUICKSTART, "-n", "2", "--out", str(tmp_path / "drawn"))
    files = sorted((tmp_path / "drawn").iterdir())
    assert [file.name for file in files] == ["1.recipe.yaml", "2.recipe.yaml"]
    merged = call("merge", str(files[0]), str(tmp_path / "model"))
    assert merged.code == 0, merged.err
    assert (tmp_path / "model" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("show", "tees"), "unknown search space 'tees'; did you mean 'ties'"),
        (("show", "ties", "--layers", "0"), "expected 1 to 100 experts and 1 to 1000 layers"),
        (("show", "ties", "-o", "seed=3"), "expected space.KEY=VALUE"),
        (("show", "slerp", "--experts", "4"), "merges 2 models"),
        (("show", "splits"), "name an experiment file"),
        (("show", "layer_moves", "-o", "space.spair=3"), "did you mean 'spare'"),
        (("sample", "ties", "-n", "0"), "0 is not in the range"),
    ],
)
def test_wrong_input_is_told_in_a_line_with_an_exit_code(call, arguments, said):
    shown = call("space", *arguments)
    assert shown.code != 0
    assert said in shown.err
    assert "Traceback" not in shown.err


def test_problems_of_a_space_name_the_line_of_the_key(call, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("kind: parameter\noperator: ties\nlayer_groups: 99\n")
    shown = call("space", "show", str(file))
    assert f"{file}:3: layer_groups" in shown.err


def test_a_problem_of_an_experiments_space_names_its_line(call, tmp_path):
    space = {"kind": "layer_moves", "spare": 2, "operators": ["lineer"]}
    path = write_experiment(tmp_path, space=space)
    line = next(
        k for k, text in enumerate(path.read_text().splitlines(), 1) if "operators" in text
    )
    shown = call("space", "show", str(path))
    assert f"{path}:{line}: space.operators: unknown operator 'lineer'" in shown.err


def test_a_chains_stages_are_shown_one_after_the_other_or_one_alone(space, tmp_path):
    path = str(write_chain(tmp_path))
    shown = space("show", path)
    first = shown.index("stage ps: kind parameter")
    assert first < shown.index("stage dfs: kind layer_moves")
    assert "2 experts (ps, town) of 5 layers" in shown
    both = json.loads(space("show", path, "--json"))
    assert [facts["stage"] for facts in both] == ["ps", "dfs"]
    assert json.loads(space("show", path, "--stage", "dfs", "--json")) == both[1]


def test_a_stage_with_fixed_values_has_no_genes_for_them(space, tmp_path):
    ties = {"operator": "ties", "experts": {"density": [0.1, 1.0], "weight": [0.0, 1.0]}}
    stages = [
        {"name": "first", "space": ties},
        {"name": "then", "space": ties, "fix": {"from": "first", "parameters": "density"}},
    ]
    path = str(write_chain(tmp_path, stages=stages))
    first, then = json.loads(space("show", path, "--json"))
    assert any("density" in gene["name"] for gene in first["genes"])
    assert not any("density" in gene["name"] for gene in then["genes"])
    assert then["fixed"].startswith("density as the best candidate of stage first")


def test_recipes_of_a_chain_are_drawn_of_the_stage_that_is_named(call, space, tmp_path):
    path = str(write_chain(tmp_path))
    refused = call("space", "sample", path)
    assert refused.code == 2
    assert "a chain of stages, ps, dfs; say of which" in refused.err
    assert "layers" in space("sample", path, "--stage", "dfs", "-n", "2")
    assert "did you mean 'dfs'?" in call("space", "show", path, "--stage", "dsf").err
    assert "no chain of stages" in call("space", "show", "linear", "--stage", "ps").err
