"""Source models compared before a search: how alike they are, in which groups, what to do."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evomerge.core.errors import CheckpointError, ConfigError, EvomergeError
from evomerge.core.model_spelling import model_parts
from evomerge.merging.checkpoint import SourceModel, open_source
from evomerge.merging.kinship import BASE, Kinship, kin_groups, kinship_matrix
from evomerge.merging.vocabulary import read_vocabulary, same_tokenizer_file
from evomerge.recipes.from_mergekit import short_names

CLOSE_KIN = 0.9
"""Cosine of task vectors from which on a merge gains little (arXiv:2410.12613)."""

ONE_FAMILY = 0.95
"""Similarity of weights from which on models can be merged (arXiv:2410.05357)."""

_AGAINST = -0.5
"""Cosine below which most of a sum of two task vectors cancels."""


@dataclass(frozen=True)
class TriageOptions:
    """What a comparison may be told."""

    base: str | None = None
    """Folder, hub id or ``BASE+ADAPTER``; None compares weights instead of task vectors."""

    threshold: float | None = None
    """From which measure on models are one group; None is ``CLOSE_KIN``, or ``ONE_FAMILY``."""

    offline: bool = False
    """Ask no hub for anything."""

    allow_pickle: bool = False
    """Whether PyTorch's pickle files may be read where a model has no safetensors."""


@dataclass(frozen=True)
class Pair:
    """Two models; a measure that is not defined is NaN."""

    models: tuple[str, str]
    cosine: float
    correlation: float
    distance: float
    sign_agreement: float
    similarity: float


@dataclass(frozen=True)
class Triage:
    """Models compared and grouped."""

    kinship: Kinship
    models: Mapping[str, str]
    """How each was spelled, by name."""

    base: str | None
    threshold: float
    groups: tuple[tuple[str, ...], ...]
    """Every model in one."""

    notes: tuple[str, ...]
    """What the numbers do not say, in sentences."""

    @property
    def measure(self) -> str:
        """The field of ``Pair`` by which models are grouped."""
        return "similarity" if self.base is None else "cosine"

    @property
    def pairs(self) -> list[Pair]:
        """All pairs, the most alike first; those without a measure last."""
        kinship, names = self.kinship, self.kinship.names
        found = [
            Pair(
                (names[i], names[j]),
                float(kinship.cosine[i, j]),
                float(kinship.correlation[i, j]),
                float(kinship.distance[i, j]),
                float(kinship.sign_agreement[i, j]),
                float(kinship.similarity[i, j]),
            )
            for i in range(len(names))
            for j in range(i + 1, len(names))
        ]
        return sorted(found, key=lambda pair: -np.nan_to_num(self.of(pair), nan=-2.0))

    @property
    def compared(self) -> list[Pair]:
        """The pairs whose measure is defined, the most alike first."""
        return [pair for pair in self.pairs if not np.isnan(self.of(pair))]

    def of(self, pair: Pair) -> float:
        """A pair's measure."""
        return float(getattr(pair, self.measure))

    @property
    def advice(self) -> list[str]:
        """What to do with it, in plain sentences."""
        return _families(self) if self.base is None else _kin(self)


def triage(
    given: Sequence[str],
    options: TriageOptions = TriageOptions(),
    advance: Callable[[float], object] = lambda _: None,
) -> Triage:
    """Compare models, group them and say what that means for a merge.

    Args:
        given: ``MODEL`` or ``NAME=MODEL``, each a folder, hub id or ``BASE+ADAPTER``.
        options: See there.
        advance: Is told the share of all weights compared since the last time.

    Raises:
        ConfigError: Fewer than two models, names or models given twice; every problem.
        CheckpointError: Models that cannot be read or compared; every one is named.
    """
    models = _named(given, options.base)
    opened, base = _opened(models, options)
    kinship = kinship_matrix(opened, base, advance)
    threshold = options.threshold
    if threshold is None:
        threshold = ONE_FAMILY if base is None else CLOSE_KIN
    groups = kin_groups(kinship.measure, threshold)
    return Triage(
        kinship,
        models,
        options.base,
        threshold,
        tuple(tuple(kinship.names[model] for model in group) for group in groups),
        tuple(_notes(kinship) + _token_notes(opened, base)),
    )


def _named(given: Sequence[str], base: str | None) -> dict[str, str]:
    """Models by name; those without one are called by the ends of their places."""
    problems: list[str] = []
    named = [_split(text) for text in given]
    short = short_names([model for name, model in named if name is None])
    for text, (name, model) in zip(given, named, strict=True):
        if name == "" or not model:
            problems.append(f"{text}: expected MODEL or NAME=MODEL, e.g. math=./folder.")
    names = [short[model] if name is None else name for name, model in named]
    places = {model: _place(model) for _, model in named}
    for place, times in Counter(places[model] for _, model in named).items():
        if times > 1:
            problems.append(f"{'+'.join(place)}: is given {times} times; give each model once.")
    if not problems:  # else the same mistake would be told twice
        problems += [
            f"{name}: {times} models have this name; tell them apart by NAME=MODEL."
            for name, times in Counter(names).items()
            if times > 1
        ]
    if base is not None and _place(base) in places.values():
        problems.append(
            f"{base}: is the base and among the models; its task vector is zero, so leave it "
            "out of the models."
        )
    if len(given) < 2:
        problems.append(f"at least two models are compared, got {len(given)}: {given[0]}.")
    if problems:
        raise ConfigError(problems)
    return dict(zip(names, (model for _, model in named), strict=True))


def _split(text: str) -> tuple[str | None, str]:
    """Name and model; a path that exists or goes through folders before ``=`` has no name."""
    name, sign, model = text.partition("=")
    if not sign or "/" in name or Path(text).expanduser().exists():
        return None, text
    return name, model


def _place(model: str) -> tuple[str, ...]:
    paths = [(part, Path(part).expanduser()) for part in model_parts(model)]
    return tuple(str(path.resolve()) if path.exists() else part for part, path in paths)


def _opened(
    models: Mapping[str, str], options: TriageOptions
) -> tuple[dict[str, SourceModel], SourceModel | None]:
    places = [*models.items()]
    if options.base is not None:
        places.insert(0, (BASE, options.base))
    opened: list[SourceModel] = []
    problems: list[str] = []
    for name, model in places:
        try:
            opened.append(
                open_source(model, offline=options.offline, allow_pickle=options.allow_pickle)
            )
        except EvomergeError as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise CheckpointError("\n".join(problems))
    base = None if options.base is None else opened.pop(0)
    return dict(zip(models, opened, strict=True)), base


def _notes(kinship: Kinship) -> list[str]:
    notes = []
    if kinship.relative_norms is None:
        notes.append(
            "Without --base the weights themselves are compared. Those of models of one family "
            "are always near 1; what sets them apart shows in their differences to the base."
        )
    alike = np.isclose(kinship.distance, 0.0, atol=0.0) & (kinship.norms > 0)
    pairs = zip(*np.nonzero(np.triu(alike, 1)), strict=True)
    notes += [
        f"{kinship.names[i]} and {kinship.names[j]} hold the same weights." for i, j in pairs
    ]
    what = "task vector is zero (it holds the base's weights)"
    if kinship.relative_norms is None:
        what = "weights are zero"
    notes += [
        f"{name}: its {what}, so no angle to it is defined (–)."
        for name, norm in zip(kinship.names, kinship.norms, strict=True)
        if norm == 0
    ]
    for name, share in zip(kinship.names, _relative(kinship), strict=True):
        if share >= 1:
            notes.append(
                f"{name}: its task vector is {share:.2f} times as long as the base; it hardly "
                "descends from it."
            )
    return notes + _tensor_notes(kinship)


def _relative(kinship: Kinship) -> Sequence[float]:
    found = kinship.relative_norms
    return [0.0] * len(kinship.names) if found is None else found.tolist()


def _tensor_notes(kinship: Kinship) -> list[str]:
    notes = [
        f"{name}: models have other numbers of rows; the first {rows} are compared."
        for name, rows in kinship.shortened.items()
    ]
    if kinship.left_out:
        more = f" and {len(kinship.left_out) - 1} more" if len(kinship.left_out) > 1 else ""
        notes.append(f"Left out is what not all models have: {kinship.left_out[0]}{more}.")
    return notes


def _token_notes(opened: Mapping[str, SourceModel], base: SourceModel | None) -> list[str]:
    """Rows of embeddings are compared by number, so tokens should have the same ones."""
    name, reference = (BASE, base) if base is not None else next(iter(opened.items()))
    folder = reference.tokenizer_folder
    expected = read_vocabulary(folder)
    notes = []
    for model, source in opened.items():
        if expected is None or same_tokenizer_file(source.tokenizer_folder, folder):
            continue
        found = read_vocabulary(source.tokenizer_folder)
        if found is None:
            continue
        moved = sum(found.get(token) != number for token, number in expected.items())
        if moved:
            notes.append(
                f"{model}: {moved} tokens of {name} have another id or none in it; rows of the "
                "embedding are compared by id all the same."
            )
    return notes


def _kin(found: Triage) -> list[str]:
    close = [group for group in found.groups if len(group) > 1]
    advice = [
        f"{', '.join(group)} are close kin (cosine {found.threshold:g} or more on average): "
        "merging them with each other gains little, so search with the best of them."
        for group in close
    ]
    if not close:
        advice.append(
            f"No models are close kin (cosine {found.threshold:g} or more on average): each "
            "brings changes of its own."
        )
    compared = found.compared
    if compared:
        advice.append(f"Most related: {_told(found, compared[0])}.")
        least = compared[-1]
        hint = "the pair to try where merges of the best models no longer gain"
        if least.cosine < _AGAINST:
            hint = "they point against each other, so that much of their sum cancels"
        advice.append(f"Least related: {_told(found, least)}; {hint}.")
    return advice


def _families(found: Triage) -> list[str]:
    if len(found.groups) == 1:
        advice = ["All models are of one family, so that their weights can be averaged."]
    else:
        advice = [
            f"{len(found.groups)} families (similarity {found.threshold:g} or more on "
            "average): merge inside of a family. Across families weights may mean different "
            "things, and averages of them may be worth nothing."
        ]
    compared = found.compared
    if compared:
        advice.append(f"Most related: {_told(found, compared[0])}.")
        advice.append(f"Least related: {_told(found, compared[-1])}.")
    return advice


def _told(found: Triage, pair: Pair) -> str:
    return f"{' and '.join(pair.models)} ({found.measure} {found.of(pair):.4f})"
