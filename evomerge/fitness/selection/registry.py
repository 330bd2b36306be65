"""The selections by name: when to use each, and where it is."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from evomerge.core.errors import ConfigError
from evomerge.core.near_names import unknown
from evomerge.fitness.calibration import TaskCalibration
from evomerge.fitness.selection.contract import Select, Selection


@dataclass(frozen=True)
class SelectionEntry:
    """One way of choosing items that a fitness definition can name."""

    summary: str
    """When to use it, one line."""

    target: str
    """``module:function``, a ``Select``, imported when used."""

    random_sample: bool = False
    """Whether the items are a random sample (plain or stratified) of the bank, as the mean
    and prediction-powered estimators need."""

    def load(self) -> Select:
        """Import the function."""
        module, _, name = self.target.partition(":")
        found: Select = getattr(importlib.import_module(module), name)
        return found


_HERE = "evomerge.fitness.selection"

SELECTIONS: Mapping[str, SelectionEntry] = MappingProxyType(
    {
        "random": SelectionEntry(
            "nothing is known of the items, or an estimate that assumes nothing is wanted",
            f"{_HERE}.random_items:select_random",
            random_sample=True,
        ),
        "stratified": SelectionEntry(
            "as random, with every difficulty in its share: a smaller error of the plain mean",
            f"{_HERE}.stratified:select_stratified",
            random_sample=True,
        ),
        "anchors_irt": SelectionEntry(
            "tinyBenchmarks' anchors: items that stand for others of like discrimination and "
            "difficulty",
            f"{_HERE}.anchors:select_anchors_irt",
        ),
        "anchors_responses": SelectionEntry(
            "items that stand for others which the same models solve; for weighted means",
            f"{_HERE}.anchors:select_anchors_responses",
        ),
        "max_information": SelectionEntry(
            "abilities of models like the calibration's, by the items that tell most alone",
            f"{_HERE}.information:select_max_information",
        ),
        "d_optimal": SelectionEntry(
            "abilities of several dimensions, by items that complement each other",
            f"{_HERE}.d_optimal:select_d_optimal",
        ),
        "greedy": SelectionEntry(
            "the ridge estimator, by its own left-out error; slower than c_optimal",
            f"{_HERE}.greedy:select_greedy",
        ),
        "c_optimal": SelectionEntry(
            "the factor estimator: the items that leave least doubt about the bank's mean; "
            "the best choice wherever a calibration exists",
            f"{_HERE}.c_optimal:select_c_optimal",
        ),
    }
)


def select(
    method: str, calibration: TaskCalibration, count: int, rng: np.random.Generator
) -> Selection:
    """Choose items by a method's name.

    Args:
        method: A key of ``SELECTIONS``.
        calibration: Of the task.
        count: Items to choose.
        rng: Where the method draws anything.

    Raises:
        ConfigError: The method is unknown, or the bank has fewer items.
    """
    problems = []
    if method not in SELECTIONS:
        problems.append(f"fitness.select: {unknown('selection', method, SELECTIONS)}")
    items = len(calibration.matrix.items)
    if not 1 <= count <= items:
        problems.append(
            f"fitness.items: {count} asked for; the calibration's bank has {items}, so "
            f"choose 1 to {items}."
        )
    if problems:
        raise ConfigError(problems)
    return SELECTIONS[method].load()(calibration, count, rng)
