"""The plugin of docs/plugins.md, used from a file and as an installed package."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch
import yaml
from quickstart import ROOT, ZOO, write_experiment
from safetensors.torch import load_file

from evomerge.core import plugins

SOFTNESS = 0.25
TINY = {"search": 8, "validation": 8, "test": 8}


@pytest.fixture(scope="module")
def blocks() -> dict[str, str]:
    """The files that docs/plugins.md shows, by name."""
    text = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
    found = re.findall(r"^`([\w.]+)`:\n\n```\w+\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert [name for name, _ in found] == ["median_merge.py", "pyproject.toml"]
    return dict(found)


@pytest.fixture
def plugin(blocks, tmp_path) -> Path:
    """The operator's file, on no path of Python's."""
    place = tmp_path / "plugins" / "median_merge.py"
    place.parent.mkdir()
    place.write_text(blocks["median_merge.py"])
    return place


@pytest.fixture
def site(blocks, tmp_path) -> Path:
    """A folder in which the package is installed, as an installer leaves it."""
    place = tmp_path / "site"
    project = tomllib.loads(blocks["pyproject.toml"])["project"]
    info = place / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    (place / "median_merge.py").write_text(blocks["median_merge.py"])
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    groups = "".join(
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
        for group, points in project["entry-points"].items()
    )
    (info / "entry_points.txt").write_text(groups)
    return place


def evomerge(*arguments: object, cwd: Path, site: Path | None = None):
    """The command line in a process of its own, since what is found there stays found."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "100"}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, [ROOT, *([site] if site else [])]))
    return subprocess.run(
        [sys.executable, "-m", "evomerge", *map(str, arguments)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def write_recipe(folder: Path) -> Path:
    sources = {name: str(ZOO / name) for name in ("base", "sort", "town")}
    rule = {
        "operator": "median",
        "parameters": {"softness": SOFTNESS},
        "models": {name: {} for name in sources},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({"recipe": 1, "sources": sources, "rules": [rule]}))
    return path


def assert_is_the_median(merged: Path) -> None:
    found = load_file(merged / "model.safetensors")
    models = [load_file(ZOO / n / "model.safetensors") for n in ("base", "sort", "town")]
    for name, tensor in found.items():
        rows = torch.stack([model[name].float() for model in models])
        expected = (1 - SOFTNESS) * rows.median(0).values + SOFTNESS * rows.mean(0)
        torch.testing.assert_close(tensor, expected.to(tensor.dtype), msg=name)


def test_the_operator_of_the_docs_has_twenty_lines(blocks):
    lines = [line for line in blocks["median_merge.py"].splitlines() if line.strip()]
    assert len(lines) <= 21


def test_an_installed_packages_operator_merges_without_being_named(site, tmp_path):
    done = evomerge("merge", write_recipe(tmp_path), "merged", cwd=tmp_path, site=site)
    assert done.returncode == 0, done.stderr
    assert_is_the_median(tmp_path / "merged")
    listed = evomerge("operators", "median", cwd=tmp_path, site=site)
    assert "median_merge:MEDIAN of package median-merge" in listed.stdout


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_a_file_is_named_before_or_after_the_command(plugin, tmp_path, before):
    option = ("--plugin", os.path.relpath(plugin, tmp_path))
    command = ("operators", "median")
    arguments = (*option, *command) if before else (*command, *option)
    listed = evomerge(*arguments, cwd=tmp_path)
    assert listed.returncode == 0, listed.stderr
    assert "softness" in listed.stdout


def test_without_the_plugin_its_operator_is_unknown(plugin, tmp_path):
    listed = evomerge("operators", "median", cwd=tmp_path)
    assert listed.returncode == 2
    assert "unknown operator 'median'" in listed.stderr


@pytest.fixture(scope="module")
def run(blocks, tmp_path_factory) -> Path:
    """A finished run whose plugin was named on the command line, as a file."""
    folder = tmp_path_factory.mktemp("with_plugin")
    (folder / "median_merge.py").write_text(blocks["median_merge.py"])
    experiment = write_experiment(
        folder / "experiment",
        space={"operator": "median", "merge": {"softness": [0, 1]}},
        fitness={"items": TINY, "finalists": 1},
        budget={"candidates": 2},
    )
    arguments = ("run", experiment, "--out", "run", "--plugin", "median_merge.py")
    done = evomerge(*arguments, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run"


def python(code: str, *arguments: object) -> str:
    """What code prints in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_run_remembers_its_plugin_for_resume_and_export(run, tmp_path):
    resolved = yaml.safe_load((run / "resolved.yaml").read_text())
    assert resolved["plugins"] == [str(run.parent / "median_merge.py")]
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from evomerge.experiment.export import export_trial\n"
        "from evomerge import resume\n"
        "study = resume(sys.argv[1], add=1)\n"
        "trials = study.trials()\n"
        "number = int(trials[trials.kind == 'candidate'].number.iloc[-1])\n"
        "export_trial(Path(sys.argv[1]), number, Path(sys.argv[2]))\n"
    )
    python(code, run, tmp_path / "model")
    recipe = yaml.safe_load((tmp_path / "model" / "recipe.yaml").read_text())
    assert [rule["operator"] for rule in recipe["rules"]] == ["median"]


def test_a_worker_finds_the_plugin_from_the_plain_values_it_is_given(run):
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from evomerge.experiment.build import versions\n"
        "from evomerge.experiment.crew import WorkerSetup\n"
        "from evomerge.merging.operators.registry import OPERATORS\n"
        "from evomerge.store.study_store import StudyStore\n"
        "with StudyStore.open(Path(sys.argv[1]), read_only=True) as store:\n"
        "    sources, banks = store.meta('sources'), store.meta('banks')\n"
        "    spec = store.meta('experiment')\n"
        "prints = {name: facts['fingerprint'] for name, facts in sources.items()}\n"
        "items = {name: facts['version'] for name, facts in banks.items()}\n"
        "assert 'median' not in OPERATORS\n"
        "WorkerSetup(spec, prints, items, versions(), True)({})\n"
        "print(OPERATORS['median'].summary)\n"
    )
    assert python(code, run).splitlines()[-1] == "entry-wise median of the models"


def test_an_experiments_broken_plugin_is_named_with_its_line(call, plugin, monkeypatch):
    monkeypatch.setattr(plugins, "_named", {})  # nothing of it stays with other tests
    plugin.write_text("import nowhere_to_be_found")
    experiment = write_experiment(plugin.parent, plugins=["median_merge.py"])
    checked = call("validate", experiment)
    assert checked.code == 2
    line = experiment.read_text().splitlines().index("plugins:") + 1
    assert f"{experiment}:{line}: plugins: plugin {plugin}: cannot be" in checked.err
    assert "nowhere_to_be_found" in checked.err


def test_help_does_not_look_at_plugins(plugin, tmp_path):
    plugin.write_text("1 / 0")
    shown = evomerge("--plugin", plugin, "--help", cwd=tmp_path)
    assert shown.returncode == 0
    assert "--plugin MODULE" in shown.stdout
