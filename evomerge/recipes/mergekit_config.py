"""A mergekit configuration read into plain values; every problem is named at once."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from evomerge.core.errors import ConfigError
from evomerge.core.near_names import unknown
from evomerge.recipes.mergekit_methods import KNOWN_PARAMETERS, METHODS
from evomerge.recipes.mergekit_setting import setting_problems

Settings = Mapping[str, Any]
"""Parameters by name, each a value, a gradient or a list of conditions."""

_PAIR = 2


@dataclass(frozen=True)
class Input:
    """A model that takes part, in a slice or in the whole."""

    model: str
    layers: tuple[int, int] | None = None
    """Half-open range; None for all layers."""

    parameters: Settings = field(default_factory=dict)


@dataclass(frozen=True)
class OutputSlice:
    """Neighbouring layers of the merged model."""

    inputs: tuple[Input, ...]
    parameters: Settings = field(default_factory=dict)
    base: str | None = None


@dataclass(frozen=True)
class MergekitConfig:
    """A configuration of the shape that ``mergekit-yaml`` takes."""

    method: str
    slices: tuple[OutputSlice, ...]
    """One without ranges of layers where the file has ``models``."""

    base: str | None = None
    parameters: Settings = field(default_factory=dict)
    dtype: str | None = None
    """Of the merged tensors."""

    tokenizer: str | None = None
    """``union``, ``base``, or a model; None where the file does not say."""

    @property
    def models(self) -> tuple[str, ...]:
        """Every model, the base first, then in the order of the file."""
        named = [i.model for part in self.slices for i in part.inputs]
        bases = [part.base for part in self.slices]
        given = [self.base, *named, *bases]
        if self.tokenizer not in ("union", "base"):
            given.append(self.tokenizer)
        return tuple(dict.fromkeys(model for model in given if model is not None))


_REFUSED = {
    "modules": "models of several modules are not supported; merge the language model alone "
    "with 'models' or 'slices'",
    "chat_template": "the merged model has the template of its reference; delete the key, and "
    "edit chat_template.jinja of the finished folder for another",
}
_TOP = (
    "merge_method", "models", "slices", "base_model", "parameters", "dtype", "out_dtype",
    "tokenizer_source", "tokenizer", *_REFUSED,
)  # fmt: skip
_SLICE = ("sources", "base_model", "parameters", "residual_weight")
_SLICE_INPUT = ("model", "layer_range", "parameters")
_INPUT = ("model", "parameters")


def is_mergekit(plain: Any) -> bool:  # noqa: ANN401 - anything YAML can hold
    """Whether a file's content is meant to be a mergekit configuration."""
    return isinstance(plain, dict) and "merge_method" in plain


def parse_mergekit(plain: Any) -> MergekitConfig:  # noqa: ANN401 - anything YAML can hold
    """The configuration that a YAML file holds.

    Raises:
        ConfigError: With everything that is wrong, or that evomerge does not do.
    """
    reader = _Reader()
    config = reader.config(plain)
    if reader.problems:
        raise ConfigError(reader.problems)
    return config


class _Reader:
    """Reads what it can and notes every problem on the way."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def config(self, plain: Any) -> MergekitConfig:  # noqa: ANN401 - anything YAML can hold
        given = self._mapping(plain, _TOP, "")
        if not isinstance(plain, dict):
            return MergekitConfig("", ())
        for key, reason in _REFUSED.items():
            if given.get(key) is not None:
                self.problems.append(f"{key}: {reason}.")
        method = given.get("merge_method")
        if not isinstance(method, str):
            self.problems.append(
                f"merge_method: must be the name of a method, found {method!r:.60}."
            )
        elif method not in METHODS:
            self.problems.append(f"{unknown('merge_method', method, METHODS)}.")
        models, slices = given.get("models"), given.get("slices")
        readable = all(isinstance(each, list | None) for each in (models, slices))
        if readable and bool(models) == bool(slices) and given.get("modules") is None:
            self.problems.append("give either 'models' or 'slices'.")
        parts = [
            self._slice(each, f"slices[{k}]")
            for k, each in enumerate(self._list(slices, "slices"))
        ] or [OutputSlice(self._inputs(models, "models", ranged=False))]
        return MergekitConfig(
            method=str(method),
            slices=tuple(parts),
            base=self._model(given.get("base_model"), "base_model", required=False),
            parameters=self._settings(given.get("parameters"), "parameters"),
            dtype=self._dtype(given),
            tokenizer=self._tokenizer(given),
        )

    def _slice(self, plain: Any, where: str) -> OutputSlice:  # noqa: ANN401
        given = self._mapping(plain, _SLICE, where)
        if isinstance(plain, dict) and given.get("sources") in (None, []):
            self.problems.append(f"{where}.sources: give at least one model with its layers.")
        if given.get("residual_weight") is not None:
            self.problems.append(f"{where}.residual_weight: not supported; delete the key.")
        inputs = self._inputs(given.get("sources"), f"{where}.sources", ranged=True)
        lengths = {i.layers[1] - i.layers[0] for i in inputs if i.layers is not None}
        if len(lengths) > 1:
            self.problems.append(f"{where}: its sources must give equally many layers.")
        return OutputSlice(
            inputs,
            self._settings(given.get("parameters"), f"{where}.parameters"),
            self._model(given.get("base_model"), f"{where}.base_model", required=False),
        )

    def _inputs(self, plain: Any, where: str, *, ranged: bool) -> tuple[Input, ...]:  # noqa: ANN401
        inputs = []
        for number, each in enumerate(self._list(plain, where)):
            place = f"{where}[{number}]"
            given = self._mapping(each, _SLICE_INPUT if ranged else _INPUT, place)
            if not isinstance(each, dict):
                continue
            inputs.append(
                Input(
                    self._model(given.get("model"), f"{place}.model") or "",
                    self._range(given.get("layer_range"), place) if ranged else None,
                    self._settings(given.get("parameters"), f"{place}.parameters"),
                )
            )
        models = [each.model for each in inputs]
        twice = sorted({model for model in models if model and models.count(model) > 1})
        if twice:
            self.problems.append(f"{where}: names {twice} twice.")
        return tuple(inputs)

    def _range(self, plain: Any, where: str) -> tuple[int, int] | None:  # noqa: ANN401
        if (
            isinstance(plain, list)
            and len(plain) == _PAIR
            and all(isinstance(n, int) and not isinstance(n, bool) for n in plain)
            and 0 <= plain[0] < plain[1]
        ):
            return plain[0], plain[1]
        self.problems.append(
            f"{where}.layer_range: must be [first, last + 1], in whole numbers; "
            f"found {plain!r:.60}."
        )
        return None

    def _settings(self, plain: Any, where: str) -> Settings:  # noqa: ANN401
        if plain is None:
            return {}
        if not isinstance(plain, dict):
            self.problems.append(f"{where}: must be a mapping, found {plain!r:.60}.")
            return {}
        for name, setting in plain.items():
            if name not in KNOWN_PARAMETERS:
                known = sorted(KNOWN_PARAMETERS)
                self.problems.append(f"{where}: {unknown('parameter', name, known)}.")
            self.problems += [f"{where}.{name}: {p}." for p in setting_problems(setting)]
        return plain

    def _model(self, plain: Any, where: str, *, required: bool = True) -> str | None:  # noqa: ANN401
        if plain is None and not required:
            return None
        if isinstance(plain, str) and plain:
            return plain
        self.problems.append(
            f"{where}: must be a folder or hub id, as text (model@revision+adapter); "
            f"found {plain!r:.60}."
        )
        return None

    def _dtype(self, given: Mapping[str, Any]) -> str | None:
        """Of the result: evomerge computes in float32 whatever the sources are stored in."""
        for key in ("dtype", "out_dtype"):
            if not isinstance(given.get(key), str | None):
                self.problems.append(
                    f"{key}: must be a dtype's name, found {given[key]!r:.60}."
                )
                return None
        found = given.get("out_dtype") or given.get("dtype")
        return found.removeprefix("torch.") if found else None

    def _tokenizer(self, given: Mapping[str, Any]) -> str | None:
        source = self._model(given.get("tokenizer_source"), "tokenizer_source", required=False)
        if given.get("tokenizer") is None:
            return source
        if source is not None:
            self.problems.append("give either 'tokenizer_source' or 'tokenizer'.")
        keys = ("source", "tokens", "pad_to_multiple_of")
        tokenizer = self._mapping(given["tokenizer"], keys, "tokenizer")
        for key in keys[1:]:
            if tokenizer.get(key):
                self.problems.append(f"tokenizer.{key}: not supported; delete the key.")
        return self._model(tokenizer.get("source", "union"), "tokenizer.source")

    def _list(self, plain: Any, where: str) -> list[Any]:  # noqa: ANN401
        if plain is None or isinstance(plain, list):
            return plain or []
        self.problems.append(f"{where}: must be a list, found {plain!r:.60}.")
        return []

    def _mapping(self, plain: Any, keys: tuple[str, ...], where: str) -> dict[str, Any]:  # noqa: ANN401
        before = f"{where}: " if where else ""
        if not isinstance(plain, dict):
            self.problems.append(
                f"{before}expected a mapping with the keys {', '.join(keys)}; "
                f"found {plain!r:.60}."
            )
            return {}
        self.problems += [
            f"{before}{unknown('key', key, keys)}." for key in plain if key not in keys
        ]
        return plain
