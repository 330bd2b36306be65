"""Plugins: operators, optimizers and search spaces of other packages, found by name.

Installed packages announce theirs as entry points of the groups ``evomerge.operators``,
``evomerge.optimizers`` and ``evomerge.spaces``. Modules that are named (``--plugin``, or
``plugins:`` in an experiment file) list theirs as ``OPERATORS``, ``OPTIMIZERS`` or ``SPACES``,
mappings by name. Nothing is imported before a name is looked up.
"""

import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from typing_extensions import override

from evomerge.core.digest import digest
from evomerge.core.errors import ConfigError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

Thing = TypeVar("Thing")

KINDS: Mapping[str, str] = {
    "operators": "operator",
    "optimizers": "optimizer",
    "spaces": "search space",
}
"""What plugins can add: the name of the entry points' group, and what one is called."""

_OURS = "evomerge itself"

_named: dict[str, bool] = {}
"""Plugins named in this process; true where they are for every experiment of it."""

_modules: dict[str, ModuleType] = {}


def use_plugins(names: Sequence[str], *, everywhere: bool = False) -> None:
    """Let registries look into modules; they are imported when a name is first looked up.

    Args:
        names: Importable modules (``my_package.merging``) or paths of ``.py`` files.
        everywhere: Every experiment of this process depends on them and records them.
    """
    for name in map(plugin_place, names):
        _named[name] = everywhere or _named.get(name, False)


def plugins_everywhere() -> tuple[str, ...]:
    """The plugins that every experiment of this process depends on."""
    return tuple(name for name, everywhere in _named.items() if everywhere)


def plugin_place(name: str, folder: Path = Path()) -> str:
    """A ``.py`` file's absolute path, sought in a folder first; a module's name as it is."""
    if not name.endswith(".py"):
        return name
    beside = folder / Path(name).expanduser()
    return str((beside if beside.is_file() else Path(name).expanduser()).resolve())


def import_plugins() -> None:
    """Import every plugin named.

    Raises:
        ConfigError: Those that cannot be imported or that add nothing, each with the reason.
    """
    problems = []
    for name in _named:
        try:
            _module(name)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)


class Registry(Mapping[str, Thing], Generic[Thing]):
    """Things of one kind by name: evomerge's own, and those of plugins.

    Installed plugins are looked at only for a name that is not evomerge's own, or when all
    names are listed, so that a broken one does not stop what does without it. Plugins that
    were named are always looked at.

    Args:
        kind: A key of ``KINDS``.
        own: evomerge's.
        of: The type that a plugin's must have.
    """

    def __init__(self, kind: str, own: Mapping[str, Thing], of: type[Thing]) -> None:
        self._kind = kind
        self._of = of
        self._found = dict(own)
        self._origins = dict.fromkeys(own, _OURS)
        self._seen: set[str] = set()

    @override
    def __getitem__(self, name: str) -> Thing:
        self._look_into_named()
        if name not in self._found:
            self._look_into_installed()
        return self._found[name]

    @override
    def __iter__(self) -> Iterator[str]:
        self._look_into_named()
        self._look_into_installed()
        return iter(tuple(self._found))

    @override
    def __len__(self) -> int:
        return sum(1 for _ in self)

    def origin(self, name: str) -> str | None:
        """The plugin that added it; None where it is evomerge's own.

        Raises:
            KeyError: There is nothing of this name.
        """
        self[name]
        origin = self._origins[name]
        return None if origin == _OURS else origin.removeprefix("plugin ")

    def _look_into_named(self) -> None:
        for name in [name for name in _named if name not in self._seen]:
            given = getattr(_module(name), self._kind.upper(), {})
            if not isinstance(given, Mapping):
                raise ConfigError(
                    f"plugin {name}: {self._kind.upper()} must be a mapping of name to "
                    f"{KINDS[self._kind]}, found {type(given).__name__}."
                )
            self._add(name, [(f"plugin {name}", key, thing) for key, thing in given.items()])

    def _look_into_installed(self) -> None:
        group = f"evomerge.{self._kind}"
        if group in self._seen:
            return
        from importlib.metadata import entry_points  # noqa: PLC0415 - slow, and seldom needed

        things, problems = [], []
        for point in sorted(entry_points(group=group), key=lambda p: (p.name, p.value)):
            try:
                things.append((_origin(point), point.name, _loaded(point)))
            except ConfigError as error:
                problems += error.problems
        self._add(group, things, problems)

    def _add(
        self, place: str, things: Sequence[tuple[str, Any, Any]], problems: Sequence[str] = ()
    ) -> None:
        """Take over what a place offers, all of it or nothing."""
        found, origins = dict(self._found), dict(self._origins)
        problems = list(problems)
        for origin, name, thing in things:
            problem = self._misfit(name, thing)
            if problem is None and name in found and found[name] is not thing:
                problem = f"has the name of one of {origins[name]}; give it another name"
            if problem is not None:
                problems.append(f"{origin}: {KINDS[self._kind]} {name!r} {problem}.")
            elif name not in found:
                found[name], origins[name] = thing, origin
        if problems:
            raise ConfigError(problems)
        self._found, self._origins = found, origins
        self._seen.add(place)

    def _misfit(self, name: object, thing: object) -> str | None:
        """Why something cannot be in this registry, or None."""
        if not isinstance(name, str) or not name:
            return "needs a name that is text"
        if not isinstance(thing, self._of):
            return f"must be of type {self._of.__name__}, found {type(thing).__name__}"
        own_name = getattr(thing, "name", name)
        return None if own_name == name else f"calls itself {own_name!r}; give it one name"


def _origin(point: "EntryPoint") -> str:
    package = f" of package {point.dist.name}" if point.dist is not None else ""
    return f"plugin {point.value}{package}"


def _loaded(point: "EntryPoint") -> object:
    try:
        return point.load()
    except (Exception, SystemExit) as error:  # another's code may raise anything
        raise ConfigError(
            f"{_origin(point)}: cannot be imported: {_reason(error)}. Repair or uninstall it."
        ) from error


def _module(name: str) -> ModuleType:
    if name in _modules:
        return _modules[name]
    try:
        of_file = name.endswith(".py")
        module = _module_of_file(name) if of_file else importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.partition(".")[0]:
            raise ConfigError(_import_failed(name, error)) from error
        raise ConfigError(
            f"plugin {name}: no such module is installed; install its package here, or give "
            "the path of a .py file."
        ) from error
    except (Exception, SystemExit) as error:  # another's code may raise anything
        raise ConfigError(_import_failed(name, error)) from error
    if not any(hasattr(module, kind.upper()) for kind in KINDS):
        listed = ", ".join(kind.upper() for kind in KINDS)
        raise ConfigError(f"plugin {name}: adds nothing; it has to define one of {listed}.")
    _modules[name] = module
    return module


def _module_of_file(path: str) -> ModuleType:
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}")
    name = f"evomerge_plugin_{Path(path).stem}_{digest(path, 8)}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # as dataclasses and pickles of its classes need it
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _import_failed(name: str, error: BaseException) -> str:
    return f"plugin {name}: cannot be imported: {_reason(error)}."


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split()).rstrip('.')}"
