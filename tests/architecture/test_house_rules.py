"""Rules that every file of the package keeps."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import evomerge

PACKAGE = Path(evomerge.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
EVERY_FILE = pytest.mark.parametrize(
    "path", FILES, ids=lambda path: str(path.relative_to(PACKAGE))
)
LONGEST_FILE = 400
LONGEST_FUNCTION = 50
JUNK_DRAWERS = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "managers"}
HEAVY = {
    "torch", "transformers", "ray", "lm_eval", "pandas", "plotly", "pydantic", "datasets",
    "pymoo", "cma", "numpy", "sqlite3", "yaml",
}  # fmt: skip


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def test_the_package_is_found():
    assert len(FILES) > 50


@EVERY_FILE
def test_a_file_opens_with_one_sentence_on_its_purpose(path):
    first, _, rest = (ast.get_docstring(tree(path)) or "").partition("\n")
    assert first.endswith(".")
    assert not rest or rest.startswith("\n")


@EVERY_FILE
def test_a_file_can_be_read_in_one_sitting(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE


@EVERY_FILE
def test_functions_are_short(path):
    functions = [n for n in ast.walk(tree(path)) if isinstance(n, ast.FunctionDef)]
    assert [f.name for f in functions if lines_of_code(f) > LONGEST_FUNCTION] == []


def lines_of_code(function: ast.FunctionDef) -> int:
    """Without the docstring."""
    documented = ast.get_docstring(function) is not None
    body = function.body[1:] if documented else function.body
    return (function.end_lineno or 0) - body[0].lineno + 1 if body else 0


@EVERY_FILE
def test_a_file_is_named_for_what_lives_in_it(path):
    assert not JUNK_DRAWERS & {*path.relative_to(PACKAGE).with_suffix("").parts}


@EVERY_FILE
def test_only_the_command_line_prints(path):
    if path.relative_to(PACKAGE).parts[0] == "cli":
        return
    called = [n.func for n in ast.walk(tree(path)) if isinstance(n, ast.Call)]
    assert not [f.lineno for f in called if isinstance(f, ast.Name) and f.id == "print"]


@EVERY_FILE
def test_mistakes_are_raised_not_asserted(path):
    assert not [n.lineno for n in ast.walk(tree(path)) if isinstance(n, ast.Assert)]


@EVERY_FILE
def test_exceptions_are_caught_by_name(path):
    """Four places catch everything: what workers, loggers and plugins run, and the exit."""
    handlers = [n for n in ast.walk(tree(path)) if isinstance(n, ast.ExceptHandler)]
    broad = [h for h in handlers if h.type is None or ast.unparse(h.type) == "Exception"]
    boundary = str(path.relative_to(PACKAGE)) in (
        "merging/operators/contract.py",
        "search/evaluate.py",
        "tracking/logger_thread.py",
        "cli/main.py",
    )
    assert len(broad) <= boundary


def loaded_by(code: str, *arguments: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after some code."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)", *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}


def test_importing_evomerge_loads_nothing_heavy():
    assert not HEAVY & loaded_by("import evomerge")


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_the_command_lines_help_loads_nothing_heavy(argument):
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['evomerge', {argument!r}]\n"
        "try:\n    runpy.run_module('evomerge', run_name='__main__')\n"
        "except SystemExit as end:\n    assert not end.code"
    )
    assert not HEAVY & loaded_by(code)


def test_checking_an_experiment_files_keys_loads_no_model_framework():
    heavy = {"torch", "transformers", "lm_eval", "pandas", "plotly"}
    assert not heavy & loaded_by("import evomerge.experiment.load")


def test_checking_a_recipe_loads_no_model_framework():
    assert not {"torch", "transformers"} & loaded_by("import evomerge.merging.recipe_check")
