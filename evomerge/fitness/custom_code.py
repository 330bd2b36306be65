"""A user's own Python files: imported from one folder, and known by what they contain."""

import ast
import hashlib
import importlib
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, TracebackType

from evomerge.core.errors import ConfigError
from evomerge.core.near_names import unknown

_OURS = "evomerge"
"""Never taken for the user's, where the experiment lies in a checkout of it."""


@contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Let modules of a folder be imported in the block, as from a script that lies there."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def import_module(name: str, folder: Path) -> ModuleType:
    """Import a module of a folder, or an installed one.

    What was imported before from the folder, or under the same names from another folder, is
    read anew, so that one process may run several experiments, or one whose code has changed
    in the meantime.

    Raises:
        ConfigError: There is no such module, its name is taken by Python or an installed
            package, or it raised while it was imported.
    """
    files = files_of_module(name, folder)
    for known in _module_names(files, folder):
        loaded = sys.modules.get(known)
        place = getattr(loaded, "__file__", None)
        if known in sys.stdlib_module_names or (place and _is_installed(Path(place), folder)):
            raise ConfigError(
                f"module {known!r} of {folder} has the name of an installed one"
                f"{f' ({place})' if place else ''}; give the file another name."
            )
        sys.modules.pop(known, None)
    importlib.invalidate_caches()
    with importable(folder):
        if not files and not _can_be_found(name.partition(".")[0]):
            for known in [known for known in sys.modules if f"{known}.".startswith(f"{name}.")]:
                sys.modules.pop(known)  # of a folder that was importable before
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name and f"{name}.".startswith(f"{error.name}."):
                known_here = _modules_in(folder)
                raise ConfigError(
                    f"{unknown('module', name, known_here)} (Python files of {folder}, and "
                    "what is installed)"
                ) from error
            raise ConfigError(_import_failed(name, error, folder)) from error
        except (Exception, SystemExit) as error:  # the user's code may raise anything
            raise ConfigError(_import_failed(name, error, folder)) from error


def files_of_module(name: str, folder: Path) -> dict[str, Path]:
    """The files of a folder that make up a module, by relative path, sorted.

    Its own file and what it imports from the same folder, directly or not, as far as import
    statements tell. Empty where the module is not of this folder.
    """
    return _closure([name], [folder], folder)


def files_of_script(script: Path, folder: Path) -> dict[str, Path]:
    """A file of a folder and, for a Python file, what it imports there; as for modules."""
    imported = _imports(script, []) if script.suffix == ".py" else []
    found = _closure(imported, [script.parent, folder], folder)
    if script.is_relative_to(folder):
        found[script.relative_to(folder).as_posix()] = script
    return dict(sorted(found.items()))


def content_digest(file: Path) -> str:
    """32 hex digits that change with a file's content.

    Raises:
        ConfigError: It cannot be read.
    """
    try:
        with file.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()[:32]
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}.") from error


def place_in(trace: TracebackType | None, folder: Path, file: Path) -> str:
    """``judge.py:12 in score``: the innermost frame of a traceback in the user's own code.

    Args:
        trace: Of the exception.
        folder: Where the user's code lies.
        file: The called function's file, which may lie elsewhere.
    """
    found = ""
    while trace is not None:
        code = trace.tb_frame.f_code
        place = Path(code.co_filename)
        own = place.is_relative_to(folder) and not _is_installed(place, folder)
        if own or place == file:
            shown = place.relative_to(folder) if own else place
            found = f"{shown}:{trace.tb_lineno} in {code.co_name}"
        trace = trace.tb_next
    return found


def _import_failed(name: str, error: BaseException, folder: Path) -> str:
    if isinstance(error, SyntaxError) and error.filename:
        where = f"{error.filename}:{error.lineno}"
    else:
        file = files_of_module(name, folder).get(f"{name.replace('.', '/')}.py", folder)
        where = place_in(error.__traceback__, folder, file)
    reason = error.msg if isinstance(error, SyntaxError) else error
    return (
        f"module {name!r} cannot be imported: {type(error).__name__}: {reason}"
        f"{f' ({where})' if where else ''}"
    )


def _can_be_found(top: str) -> bool:
    """Whether a module could be imported now if it were not known already."""
    return any(finder.find_spec(top, None) is not None for finder in sys.meta_path)


def _closure(modules: Sequence[str], roots: Sequence[Path], folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    waiting = list(modules)
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen or name.partition(".")[0] == _OURS:
            continue
        seen.add(name)
        for file in _files_named(name, roots):
            if file.is_relative_to(folder):
                found[file.relative_to(folder).as_posix()] = file
                package = name.split(".")
                waiting += _imports(file, package if _is_package(file) else package[:-1])
    return dict(sorted(found.items()))


def _files_named(module: str, roots: Sequence[Path]) -> list[Path]:
    """The files that importing a module by its dotted name executes."""
    parts = module.split(".")
    for root in roots:
        above = [root.joinpath(*parts[:depth]) for depth in range(1, len(parts) + 1)]
        own = [above[-1] / "__init__.py", above[-1].with_suffix(".py")]
        packages = [place / "__init__.py" for place in above[:-1]]
        there = next((file for file in own if file.is_file()), None)
        if there is not None:
            return [*(file for file in packages if file.is_file()), there]
    return []


def _imports(file: Path, package: Sequence[str]) -> list[str]:
    """Dotted names that a file's import statements may mean, from most to least specific."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return []
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = list(package)[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            names += [f"{source}.{a.name}" if source else a.name for a in node.names]
            names += [source] if source else []
    return names


def _module_names(files: dict[str, Path], folder: Path) -> list[str]:
    """Dotted names of files and of the packages that hold them."""
    names: list[str] = []
    for file in files.values():
        parts = file.relative_to(folder).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        names += [".".join(parts[:depth]) for depth in range(1, len(parts) + 1)]
    return list(dict.fromkeys(name for name in names if name))


def _modules_in(folder: Path) -> list[str]:
    files = sorted([*folder.glob("*.py"), *folder.glob("*/*.py")])
    return _module_names({str(file): file for file in files}, folder)


def _is_package(file: Path) -> bool:
    return file.name == "__init__.py"


def _is_installed(file: Path, folder: Path) -> bool:
    """Whether a file is part of Python or of an installed package rather than the user's."""
    paths = sysconfig.get_paths()
    places = [Path(paths[key]) for key in ("stdlib", "platstdlib", "purelib", "platlib")]
    return any(
        file.is_relative_to(place) and not folder.is_relative_to(place) for place in places
    )
