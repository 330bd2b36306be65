"""Import the public item parameters of tinyBenchmarks, ``tinyBenchmarks.pkl``.

The file (Maia Polo et al. 2024, https://github.com/felipemaiapolo/tinyBenchmarks) is a pickled
dict: benchmark (``lb``, ``mmlu``, ``helm_lite``, ``alpaca``) → ``irt_parameters`` with arrays
``A`` (1, dims, items) and ``B`` (1, 1 or dims, items), ``seen_examples`` (the chosen items),
``examples_weights`` and ``optimal_lambdas`` by scenario, ``scenarios_position`` (scenario →
items) and ``subscenarios_position`` (scenario → sub-scenario → items). It is read without
running what a pickle could run (array_unpickler.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evomerge.core.errors import ConfigError
from evomerge.core.near_names import unknown
from evomerge.fitness.irt.array_unpickler import PickledArray, load_arrays
from evomerge.fitness.irt.model import ItemParameters

_AXES = 3
"""Of A and B."""


@dataclass(frozen=True, eq=False)
class TinyBenchmark:
    """One benchmark's items and what tinyBenchmarks chose for it.

    Its abilities are not standardised: give estimates of them a wide prior.
    """

    parameters: ItemParameters
    """In evomerge's convention, items in the file's numbering."""

    scenarios: Mapping[str, np.ndarray]
    """Items of each scenario, such as ``gsm8k`` or ``mmlu``."""

    subscenarios: Mapping[str, Mapping[str, np.ndarray]]
    """Items of each part of a scenario, such as the 57 subjects of ``mmlu``."""

    seen_items: np.ndarray
    """The chosen items of all scenarios, in the order in which they are answered."""

    weights: Mapping[str, np.ndarray]
    """Weights of a scenario's chosen items, in their order in :attr:`seen_items`."""

    mixing: Mapping[str, float]
    """λ of gp-IRT: how much the weighted mean of the chosen items counts, by scenario."""

    def balance_weights(self, scenario: str) -> np.ndarray:
        """ω_i = N / (number of sub-scenarios · items in item i's), for a scenario's items.

        With them the mean over items is the mean over sub-scenario means. tinyBenchmarks'
        package gives them to each scenario's last sub-scenario only; its paper and tutorial
        to all, as here.

        Raises:
            ConfigError: No such scenario.
        """
        if scenario not in self.scenarios:
            raise ConfigError(unknown("scenario", scenario, self.scenarios))
        items = self.scenarios[scenario]
        parts = self.subscenarios[scenario].values()
        weights = np.ones(self.parameters.items)
        for part in parts:
            weights[part] = len(items) / (len(parts) * len(part))
        return np.asarray(weights[items])


def load_tinybenchmarks(path: str | Path) -> dict[str, TinyBenchmark]:
    """Every benchmark in a ``tinyBenchmarks.pkl``, by name.

    Raises:
        ConfigError: The file cannot be read, asks for anything but arrays (the message names
            it), or lacks a part.
    """
    content = load_arrays(path)
    return {
        name: _Reader(f"{path}: {name}", part).read() for name, part in _named(path, content)
    }


class _Reader:
    """One benchmark's plain values, checked while they are taken out."""

    def __init__(self, where: str, content: object) -> None:
        self._where = where
        self._content = content

    def read(self) -> TinyBenchmark:
        slopes, offsets = (self._parameters(key) for key in ("A", "B"))
        parameters = ItemParameters.from_shared_offsets(slopes, offsets)
        count = parameters.items
        scenarios = {
            name: self._positions(value, count, f"scenarios_position.{name}")
            for name, value in self._part("scenarios_position")
        }
        subscenarios = {
            name: {
                part: self._positions(value, count, f"subscenarios_position.{name}.{part}")
                for part, value in _named(f"{self._where}: subscenarios_position.{name}", parts)
            }
            for name, parts in self._part("subscenarios_position")
        }
        weights = {
            name: self._numbers(value, f"examples_weights.{name}").ravel()
            for name, value in self._part("examples_weights")
        }
        mixing = {
            name: float(self._numbers(value, f"optimal_lambdas.{name}").mean())
            for name, value in self._part("optimal_lambdas")
        }
        for key, found in (
            ("subscenarios_position", subscenarios),
            ("examples_weights", weights),
            ("optimal_lambdas", mixing),
        ):
            missing = [name for name in scenarios if name not in found]
            if missing:
                raise ConfigError(f"{self._where}: {key} lacks scenario {missing[0]!r}.")
        seen = self._positions(self._get("seen_examples"), count, "seen_examples")
        self._check_weights(scenarios, seen, weights)
        return TinyBenchmark(parameters, scenarios, subscenarios, seen, weights, mixing)

    def _get(self, *keys: str) -> object:
        value = self._content
        for depth, key in enumerate(keys):
            if not isinstance(value, dict) or key not in value:
                raise ConfigError(f"{self._where}: {'.'.join(keys[: depth + 1])} is missing.")
            value = value[key]
        return value

    def _part(self, key: str) -> list[tuple[str, object]]:
        return _named(f"{self._where}: {key}", self._get(key))

    def _parameters(self, key: str) -> np.ndarray:
        """A or B as ``(items, dims)``."""
        array = self._numbers(self._get("irt_parameters", key), f"irt_parameters.{key}")
        if array.ndim != _AXES or len(array) != 1:
            raise ConfigError(
                f"{self._where}: irt_parameters.{key} has shape {array.shape}, expected "
                "(1, dims, items)."
            )
        return np.asarray(array[0].T)

    def _numbers(self, value: object, key: str) -> np.ndarray:
        if isinstance(value, PickledArray):
            value = value.array
        if isinstance(value, list) and not all(isinstance(one, int | float) for one in value):
            raise ConfigError(f"{self._where}: {key} must hold numbers only.")
        if isinstance(value, int | float | list | np.ndarray):
            array = np.asarray(value)
            if array.dtype.kind in "biuf" and np.isfinite(array).all():
                return array.astype(np.float64)
        raise ConfigError(f"{self._where}: {key} must hold finite numbers only.")

    def _positions(self, value: object, count: int, key: str) -> np.ndarray:
        numbers = self._numbers(value, key).ravel()
        items = numbers.astype(np.intp)
        if (
            not len(items)
            or (items != numbers).any()
            or items.min() < 0
            or items.max() >= count
        ):
            raise ConfigError(
                f"{self._where}: {key} must hold item numbers from 0 to {count - 1}."
            )
        return items

    def _check_weights(
        self,
        scenarios: Mapping[str, np.ndarray],
        seen: np.ndarray,
        weights: Mapping[str, np.ndarray],
    ) -> None:
        for name, items in scenarios.items():
            chosen = int(np.isin(seen, items).sum())
            if len(weights[name]) != chosen:
                raise ConfigError(
                    f"{self._where}: scenario {name!r} has {chosen} chosen items and "
                    f"{len(weights[name])} weights."
                )


def _named(where: object, value: object) -> list[tuple[str, object]]:
    """The entries of a dict with text keys."""
    if not isinstance(value, dict) or not value or not all(isinstance(k, str) for k in value):
        raise ConfigError(f"{where}: expected a dict with names as keys.")
    return list(value.items())
