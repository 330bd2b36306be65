"""Find search spaces, fitness definitions and task folders by path or by name."""

from collections.abc import Sequence
from pathlib import Path

from evomerge.core.errors import ConfigError
from evomerge.core.near_names import unknown

_PACKAGE = Path(__file__).resolve().parent.parent


def preset_root() -> Path:
    """The folder that holds ``search_spaces/`` and ``fitness/``.

    In a checkout they stand beside the package; an installed package carries a copy.
    """
    packaged = _PACKAGE / "presets"
    return packaged if packaged.is_dir() else _PACKAGE.parent


def find_yaml(given: str, kind: str, folder: Path) -> Path:
    """The YAML file that an experiment means.

    Looked for, in this order: the path as given, from the experiment's folder and from the
    working directory; then a preset of that name.

    Args:
        given: A path or a preset's name, with or without ``.yaml``.
        kind: ``search_spaces`` or ``fitness``.
        folder: The experiment's folder.

    Raises:
        ConfigError: None of them exists; names the presets.
    """
    for place in (folder / given, Path(given), preset_root() / given):
        if place.is_file():
            return place
    name = Path(given).name.removesuffix(".yaml")
    presets = {path.stem: path for path in sorted((preset_root() / kind).glob("*.yaml"))}
    if name in presets and given in (name, f"{name}.yaml", f"{kind}/{name}.yaml"):
        return presets[name]
    raise ConfigError(f"{unknown(kind.replace('_', ' ').rstrip('s'), given, presets)}.")


def find_folder(given: str, folder: Path) -> Path | None:
    """An existing folder: from the experiment's folder, the working one, or the presets."""
    for place in _places(given, folder):
        if place.is_dir():
            return place.resolve()
    return None


def _places(given: str, folder: Path) -> Sequence[Path]:
    path = Path(given).expanduser()
    return (folder / path, path, preset_root() / path)
