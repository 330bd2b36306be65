"""Experiment files from mergekit-evolve configurations."""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import wrap
from typing import Any

from evomerge.core.atomic_write import write_text
from evomerge.core.errors import ConfigError
from evomerge.core.recipe import UNION
from evomerge.core.tensor_names import count_layers
from evomerge.experiment.evolve_config import (
    ON_DIFFERENCES,
    EvolveConfig,
    EvolveGenome,
    EvolveTask,
    read_evolve,
)
from evomerge.experiment.recipe_files import tensor_names
from evomerge.experiment.spec import BASE
from evomerge.recipes.from_mergekit import short_names
from evomerge.recipes.yaml_text import dump_yaml

_NORMALIZED = ("linear", "ties", "dare_ties")
"""Whose weights mergekit-evolve divides by their sum unless told otherwise."""

_WITH_DENSITY = ("ties", "dare_ties")
_MOST_WEIGHT = 1.5
_FIRST_STEP = 1 / 6
_EVALUATIONS = 100
_LINE = 94
"""Longest comment without its sign."""

_NEAR = 3
"""So many steps up, and a folder is no longer near."""


@dataclass(frozen=True)
class ImportOptions:
    """What the configuration does not say."""

    include: Sequence[str] = ()
    """Folders with task files: mergekit-evolve's ``--task-search-path``."""

    layers: int | None = None
    """Number of layers, where the models are not at hand."""

    offline: bool = False
    """Ask no hub for anything."""


@dataclass(frozen=True)
class _Section:
    """A part of the file, and what is to be known about it."""

    plain: Any
    notes: list[str] = field(default_factory=list)


def import_evolve(path: Path, out: Path, options: ImportOptions = ImportOptions()) -> None:
    """Write the experiment that searches what a mergekit-evolve configuration does.

    Args:
        path: The configuration.
        out: The experiment file to write; must not exist.
        options: See there.

    Raises:
        ConfigError: With everything wrong with the configuration, or that has no counterpart.
        CheckpointError: The number of layers is needed and the first model cannot be read.
    """
    if out.exists():
        raise ConfigError(f"{out} exists already; choose another place or delete it.")
    config = read_evolve(path)
    place = _placer(path.parent, out.parent)
    layers = _layers(config, path.parent, options)
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", path.resolve().stem).strip("-_")[:80] or "evolve"
    text = experiment_text(config, name, place, layers, options.include)
    write_text(out, text)


def experiment_text(
    config: EvolveConfig,
    name: str,
    place: Callable[[str], str],
    layers: int | None,
    include: Sequence[str],
) -> str:
    """The YAML text, with comments where the two differ."""
    objectives, single = _objectives(config.tasks)
    sections = {
        "name": _Section(name),
        "seed": _Section(0, ["mergekit-evolve's CMA-ES is not seeded by its configuration."]),
        "models": _models(config.genome, place),
        "space": _space(config.genome, layers),
        "tasks": _tasks(config, [place(folder) for folder in include]),
        "fitness": _fitness(config),
        "objectives": objectives,
        "optimizer": _optimizer(config, single=single),
        "budget": _Section(
            {"candidates": _EVALUATIONS},
            ["--max-fevals is no part of the configuration; 100 is its default."],
        ),
        "evaluation": _evaluation(config),
    }
    text = "# Made from a mergekit-evolve configuration; comments say where the two differ.\n"
    for key, section in sections.items():
        notes = "".join(
            f"# {line}\n"
            for note in section.notes
            for line in wrap(note, _LINE, break_long_words=False)
        )
        text += ("\n" if notes or not isinstance(section.plain, str | int) else "") + notes
        text += dump_yaml({key: section.plain})
    return text


def _models(genome: EvolveGenome, place: Callable[[str], str]) -> _Section:
    base = genome.base_model
    on_differences = genome.merge_method in ON_DIFFERENCES
    experts = [m for m in genome.models if not (on_differences and m == base)]
    plain: dict[str, Any] = {}
    notes = []
    if on_differences and base is not None:
        plain["base"] = place(base)
        if base in genome.models:
            notes.append("The base is no expert: its difference to itself is 0.")
    elif base is not None:
        notes.append(f"{genome.merge_method} has no use for the base_model {base}; left out.")
    named: dict[str, str] = {}
    for model, name in short_names(experts).items():
        usable = _usable(name)
        named[usable if usable not in named else f"{usable}-{len(named) + 1}"] = model
    plain["experts"] = {name: place(model) for name, model in named.items()}
    wanted = genome.tokenizer_source
    by_model = {model: name for name, model in named.items()}
    if base is not None and on_differences:
        by_model[base] = BASE
    policy = wanted if wanted in (BASE, UNION) else by_model.get(wanted or "")
    if policy is not None:
        plain["tokenizer_mismatch"] = policy
    elif wanted is not None:
        notes.append(
            f"tokenizer_source {wanted} is none of the models; sources whose tokenizers differ "
            "are refused."
        )
    return _Section(plain, notes)


def _usable(name: str) -> str:
    usable = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-_") or "model"
    return f"{usable}-model" if usable == BASE else usable


def _space(genome: EvolveGenome, layers: int | None) -> _Section:
    method = genome.merge_method
    groups = 1
    notes = []
    if genome.layer_granularity > 0 and layers is not None:
        groups = layers // genome.layer_granularity
    plain: dict[str, Any] = {"kind": "parameter", "operator": method}
    if groups > 1:
        plain["layer_groups"] = groups
        notes.append(
            "Embeddings, final norm and head have genes of their own; mergekit-evolve gives "
            "them those of the first and the last group."
        )
        if genome.smooth:
            plain["interpolate"] = True
    components = _reachable(genome.filters or ())
    if components:
        plain["components"] = components
        lost = [part for part in genome.filters or () if part not in components]
        if lost:
            notes.append(f"Filters {lost} never match: an earlier one is part of them.")
    if method == "slerp":
        notes.append("mergekit-evolve keeps t between 0 and .5 on the heavier model's side.")
        return _Section(plain | {"merge": {"t": [0.0, 1.0]}}, notes)
    low = -_MOST_WEIGHT if genome.allow_negative_weights else 0.0
    plain["experts"] = {"weight": [low, _MOST_WEIGHT]}
    notes.append(
        f"Weights have no bound in mergekit-evolve; it starts from 1/models ± {1 / 6:.2g}."
    )
    if method in _WITH_DENSITY:
        plain["experts"]["density"] = [0.0, 1.0]
    normalize = method in _NORMALIZED if genome.normalize is None else genome.normalize
    plain["merge"] = {"normalize": normalize}
    if method in ON_DIFFERENCES:
        plain["merge"]["lambda"] = 1.0
        notes.append(
            "lambda is always 1 in mergekit-evolve; lambda: [0.5, 2.0] searches the size of "
            "the change, which normalized weights cannot."
        )
    return _Section(plain, notes)


def _reachable(filters: Sequence[str]) -> list[str]:
    """The filters that some tensor can be the first match of."""
    return [
        part
        for k, part in enumerate(filters)
        if part and not any(earlier in part for earlier in filters[:k])
    ]


def _tasks(config: EvolveConfig, include: Sequence[str]) -> _Section:
    names = dict.fromkeys(task.name for task in config.tasks)
    shots = config.num_fewshot
    use = [n if shots is None else {"name": n, "num_fewshot": shots} for n in names]
    plain: dict[str, Any] = {"include": list(include)} if include else {}
    notes = [] if include else ["Task files of your own: include: [FOLDER]."]
    return _Section(plain | {"use": use}, notes)


def _fitness(config: EvolveConfig) -> _Section:
    count: int | str = "all" if config.limit is None else max(2, config.limit)
    notes = [
        "The questions are drawn once, by the seed, and every candidate answers the same ones; "
        "validation and test questions are kept apart."
    ]
    if config.shuffle:
        notes.append("shuffle: each of mergekit-evolve's workers draws questions of its own.")
    return _Section({"items": {"search": count, "validation": "all", "test": "all"}}, notes)


def _objectives(tasks: Sequence[EvolveTask]) -> tuple[_Section, bool]:
    """The weighted sum as one objective, or one for each metric where they differ."""
    groups: dict[tuple[str, str], dict[str, float]] = {}
    for task in tasks:
        way = "maximize" if task.weight > 0 else "minimize"
        weights = groups.setdefault((way, _metric(task.metric)), {})
        weights[task.name] = weights.get(task.name, 0.0) + abs(task.weight)
    plain = [{way: metric, "tasks": weights} for (way, metric), weights in groups.items()]
    single = len(plain) == 1
    notes = ["The weighted mean of the tasks: weights are divided by their sum."]
    if not single:
        notes = [
            "mergekit-evolve adds these up by weight. Here different metrics are objectives of "
            "their own, and the search gives the front of their trade-offs."
        ]
    return _Section(plain, notes), single


def _metric(given: str) -> str:
    """What a metric of lm-eval with its filter is called: ``acc,none`` is ``acc``."""
    return given.removesuffix(",none")


def _optimizer(config: EvolveConfig, *, single: bool) -> _Section:
    if not single:
        return _Section({"name": "nsga2"}, ["CMA-ES is for one objective."])
    allow = config.genome.allow_negative_weights
    width = 1.0 if config.genome.merge_method == "slerp" else _MOST_WEIGHT * (1 + allow)
    notes = ["The first step as in mergekit-evolve, as a share of the weights' range."]
    if config.random_init:
        notes.append("random_init: the search starts from the best of the baselines instead.")
    return _Section({"name": "cma_es", "sigma": round(_FIRST_STEP / width, 3)}, notes)


def _evaluation(config: EvolveConfig) -> _Section:
    notes = ["Merges are computed in float32; mergekit-evolve computes and stores in bfloat16."]
    if config.apply_chat_template and config.fewshot_as_multiturn and config.num_fewshot:
        notes.append("fewshot_as_multiturn has no counterpart: examples are in one turn.")
    return _Section({"apply_chat_template": config.apply_chat_template}, notes)


def _layers(config: EvolveConfig, folder: Path, options: ImportOptions) -> int | None:
    genome = config.genome
    if genome.layer_granularity <= 0:
        return None
    layers = options.layers
    if layers is None:
        model = genome.models[0]
        there = folder / model
        names = tensor_names(offline=options.offline)
        layers = count_layers(list(names(str(there) if there.is_dir() else model)))
    if layers % genome.layer_granularity:
        raise ConfigError(
            f"genome.layer_granularity: {genome.layer_granularity} does not divide the models' "
            f"{layers} layers."
        )
    return layers


def _placer(from_folder: Path, to_folder: Path) -> Callable[[str], str]:
    """How places in the one folder's file are written in the other's; hub ids stay."""

    def place(given: str) -> str:
        path = Path(given).expanduser()
        found = next((p for p in (from_folder / path, path) if p.is_dir()), None)
        if found is None or path.is_absolute():
            return given
        relative = Path(os.path.relpath(found.resolve(), to_folder.resolve()))
        near = relative.parts[:_NEAR] != ("..",) * _NEAR
        return str(relative if near else found.resolve())

    return place
