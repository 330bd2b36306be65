"""Registries that plugins add to: what is found, when it is imported, and what is refused."""

import sys
from dataclasses import dataclass

import pytest

from evomerge.core import plugins
from evomerge.core.errors import ConfigError
from evomerge.core.plugins import Registry, import_plugins, plugins_everywhere, use_plugins


@dataclass(frozen=True)
class Thing:
    name: str


OWN = {"own": Thing("own")}
HEAD = "from test_things import Thing\n"


@pytest.fixture(autouse=True)
def nothing_imported(monkeypatch):
    """No plugin of another test is known."""
    monkeypatch.setattr(plugins, "_modules", {})
    monkeypatch.setitem(sys.modules, "test_things", sys.modules[__name__])


def registry() -> Registry:
    return Registry("operators", OWN, Thing)


def written(folder, text: str, name: str = "extra.py") -> str:
    (folder / name).write_text(HEAD + text)
    return str(folder / name)


def installed(folder, monkeypatch, points: dict[str, str], package="some-package") -> None:
    info = folder / f"{package.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = "".join(f"{name} = {value}\n" for name, value in points.items())
    (info / "entry_points.txt").write_text(f"[evomerge.operators]\n{lines}")
    monkeypatch.syspath_prepend(str(folder))


def test_a_named_files_things_are_found_beside_our_own(tmp_path):
    use_plugins([written(tmp_path, "OPERATORS = {'new': Thing('new')}")])
    found = registry()
    assert [*found] == ["own", "new"]
    assert found["new"] == Thing("new")
    assert found.origin("own") is None
    assert found.origin("new") == str(tmp_path / "extra.py")


def test_a_module_is_imported_when_a_name_is_first_looked_up(tmp_path, monkeypatch):
    (tmp_path / "late_plugin.py").write_text(HEAD + "OPERATORS = {'new': Thing('new')}")
    monkeypatch.syspath_prepend(str(tmp_path))
    use_plugins(["late_plugin"])
    found = registry()
    assert "late_plugin" not in sys.modules
    assert "new" in found
    assert "late_plugin" in sys.modules


def test_a_plugin_named_after_the_first_look_up_is_found_too(tmp_path):
    found = registry()
    assert "new" not in found
    use_plugins([written(tmp_path, "OPERATORS = {'new': Thing('new')}")])
    assert "new" in found


def test_what_is_installed_is_found_by_its_entry_point(tmp_path, monkeypatch):
    written(tmp_path, "NEW = Thing('new')", "installed_things.py")
    installed(tmp_path, monkeypatch, {"new": "installed_things:NEW"})
    found = registry()
    assert found["new"].name == "new"
    assert found.origin("new") == "installed_things:NEW of package some-package"


def test_our_own_work_without_a_broken_installed_plugin_but_a_list_names_it(
    tmp_path, monkeypatch
):
    written(tmp_path, "1 / 0", "broken_things.py")
    points = {"first": "broken_things:X", "second": "missing_things:Y"}
    installed(tmp_path, monkeypatch, points)
    found = registry()
    assert found["own"] == OWN["own"]
    for _ in range(2):  # not only the first time
        with pytest.raises(ConfigError) as wrong:
            list(found)
        first, second = wrong.value.problems
        assert first.startswith("plugin broken_things:X of package some-package: cannot be")
        assert "ZeroDivisionError" in first
        assert "No module named 'missing_things'" in second


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("OPERATORS = {'own': Thing('own 2')}", "'own' calls itself 'own 2'"),
        ("OPERATORS = {'own': Thing('own')}", "'own' has the name of one of evomerge itself"),
        ("OPERATORS = {'new': 3}", "operator 'new' must be of type Thing, found int"),
        ("OPERATORS = {3: Thing('new')}", "operator 3 needs a name that is text"),
        ("OPERATORS = [Thing('new')]", "OPERATORS must be a mapping of name to operator"),
        ("", "adds nothing; it has to define one of OPERATORS, OPTIMIZERS, SPACES"),
        (
            "import nowhere",
            "cannot be imported: ModuleNotFoundError: No module named 'nowhere'",
        ),
        ("def (", "cannot be imported: SyntaxError"),
        ("raise SystemExit(3)", "cannot be imported: SystemExit: 3"),
    ],
    ids=["own name", "taken", "type", "key", "list", "empty", "import", "syntax", "exit"],
)
def test_a_wrong_plugin_is_named_with_the_reason(tmp_path, text, said):
    place = written(tmp_path, text)
    use_plugins([place])
    with pytest.raises(ConfigError) as wrong:
        registry()["own"]
    (problem,) = wrong.value.problems
    assert problem.startswith(f"plugin {place}: ")
    assert said in problem


def test_two_plugins_cannot_share_a_name(tmp_path):
    use_plugins(
        [
            written(tmp_path, "OPERATORS = {'new': Thing('new')}", "one.py"),
            written(tmp_path, "OPERATORS = {'new': Thing('new')}", "two.py"),
        ]
    )
    with pytest.raises(ConfigError, match=r"two\.py: operator 'new' has the name of one of "):
        registry()["new"]


def test_the_same_thing_may_be_named_and_installed(tmp_path, monkeypatch):
    text = "NEW = Thing('new')\nOPERATORS = {'new': NEW}"
    written(tmp_path, text, "twice_things.py")
    installed(tmp_path, monkeypatch, {"new": "twice_things:NEW"})
    use_plugins(["twice_things"])
    assert [*registry()] == ["own", "new"]


def test_every_named_plugin_that_cannot_be_imported_is_told_at_once(tmp_path):
    use_plugins([str(tmp_path / "none.py"), "no_such_module_at_all"])
    with pytest.raises(ConfigError) as wrong:
        import_plugins()
    first, second = wrong.value.problems
    assert f"there is no file {tmp_path / 'none.py'}" in first
    assert second.startswith("plugin no_such_module_at_all: no such module is installed")


def test_only_plugins_of_the_whole_process_are_recorded_with_every_experiment(tmp_path):
    use_plugins(["a_module"])
    use_plugins(["another"], everywhere=True)
    use_plugins(["another"])
    assert plugins_everywhere() == ("another",)
