"""Find search spaces, fitness definitions, landscapes and task folders by path or by name."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from evomerge.core.errors import ConfigError
from evomerge.core.near_names import unknown

PresetKind = Literal["search_spaces", "fitness"]

_PACKAGE = Path(__file__).resolve().parent.parent
_CALLED = {"search_spaces": "search space", "fitness": "fitness definition"}


def preset_root() -> Path:
    """The folder that holds ``search_spaces/`` and ``fitness/``.

    In a checkout they stand beside the package; an installed package carries a copy.
    """
    packaged = _PACKAGE / "presets"
    return packaged if packaged.is_dir() else _PACKAGE.parent


def find_yaml(given: str, kind: PresetKind, folder: Path) -> Path:
    """The YAML file that an experiment means.

    Looked for, in this order: the path as given, from the experiment's folder, the working
    directory and the presets' folder; then a preset of that name.

    Args:
        given: A path or a preset's name, with or without ``.yaml``.
        kind: ``search_spaces`` or ``fitness``.
        folder: The experiment's folder.

    Raises:
        ConfigError: None of them exists; names the presets.
    """
    for place in _places(given, folder):
        if place.is_file():
            return place
    presets = {path.stem: path for path in sorted((preset_root() / kind).glob("*.yaml"))}
    name = given.removesuffix(".yaml").removeprefix(f"{kind}/")
    if name in presets:
        return presets[name]
    raise ConfigError(f"{unknown(_CALLED[kind], given, presets)}; no such file either.")


def landscapes() -> dict[str, Path]:
    """The frozen landscapes that come with evomerge, by name."""
    root = preset_root()
    folders = (root / "landscapes", root / "experiments" / "landscapes")
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.npz"))}


def find_folder(given: str, folder: Path) -> Path | None:
    """An existing folder: from the experiment's folder, the working one, or the presets."""
    for place in _places(given, folder):
        if place.is_dir():
            return place.resolve()
    return None


def _places(given: str, folder: Path) -> Iterator[Path]:
    path = Path(given).expanduser()
    yield from (folder / path, path, preset_root() / path)
