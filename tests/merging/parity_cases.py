"""Recipes that evomerge and mergekit both know, and what they are tried on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import torch
from merging.mergekit_oracle import their_tensor

from evomerge.merging.operators.contract import Inputs, MaskKey
from evomerge.merging.operators.registry import operator

SHAPES = ((7,), (5, 9), (4, 3, 5), (40, 30), (130, 1100))
"""The last one is longer than the blocks that tensors are walked in."""

FLOAT32_ROUNDING = 2.0**-24
BFLOAT16_STEP = 2.0**-8


@dataclass(frozen=True)
class Difference:
    """How far evomerge is from mergekit on one tensor."""

    float32: float
    """Largest difference of entries over the largest entry, in roundings of float32 (2^-24)."""

    bfloat16: float
    """Largest difference of entries in steps of bfloat16 there (2^-8 of the entry)."""

    compared: float
    """Share of entries whose value the recipe alone decides."""


@dataclass(frozen=True)
class Mean:
    """A mean over seeds with its standard error."""

    mean: float
    error: float


@dataclass(frozen=True)
class Samples:
    """What a random recipe gave over many seeds."""

    kept: Mean
    """Share of entries of the first model's task vector, when it is merged alone."""

    kept_by_rank: list[Mean]
    """The same among tenths of every row's entries, from the smallest to the largest."""

    factor: Mean
    """By which the kept ones were multiplied."""

    means: torch.Tensor
    """Of the merge of all models, by entry."""

    errors: torch.Tensor
    """Standard errors of the means."""


@dataclass(frozen=True)
class Case:
    """One recipe of one operator."""

    operator: str
    label: str
    base: bool = False
    models: int = 3
    own: tuple[Mapping[str, float], ...] = ()
    """Per-model parameters; empty for none."""

    whole: Mapping[str, Any] = field(default_factory=dict)
    spread: float = 0.3
    """How far models lie from the base, whose entries are about 1."""

    def __str__(self) -> str:
        """As a test's name."""
        return f"{self.operator}: {self.label}"

    def named(self) -> dict[str, Mapping[str, float]]:
        """Per-model parameters by the models' names."""
        own = self.own or ({},) * self.models
        return dict(zip("abcdef"[: self.models], own, strict=True))


def each(**values: Sequence[float]) -> tuple[dict[str, float], ...]:
    """``each(weight=(1, 2))`` is ``({"weight": 1}, {"weight": 2})``."""
    return tuple(
        dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)
    )


W3, W2 = (0.3, 0.9, 0.5), (0.3, 0.9)
DENSITIES = (0.5, 0.2, 0.8)


def task_vectors(name: str, label: str, whole: Mapping[str, Any] | None = None, **own) -> Case:
    return Case(name, label, True, 3, each(**({"weight": W3} | own)), whole or {})


EXACT = (
    Case("linear", "weights", own=each(weight=W3)),
    Case("linear", "normalize: false", own=each(weight=W3), whole={"normalize": False}),
    Case("linear", "a negative weight", own=each(weight=(1.4, -0.3, 0.2))),
    *(Case("slerp", f"t: {t}", models=2, whole={"t": t}) for t in (0.0, 0.3, 1.0)),
    Case("slerp", "nearly parallel", models=2, whole={"t": 0.3}, spread=0.01),
    Case("nuslerp", "weights", models=2, own=each(weight=W2)),
    Case("nuslerp", "weights that cancel", models=2, own=each(weight=(0.5, -0.5))),
    Case("nuslerp", "a negative weight", models=2, own=each(weight=(-0.2, 1.0))),
    Case("nuslerp", "nearly parallel", models=2, own=each(weight=W2), spread=1e-3),
    Case("nuslerp", "base", True, 2, each(weight=W2)),
    *(
        Case(
            "nuslerp",
            f"{'base, ' * base}{'columns' if columns else 'rows'}",
            base,
            2,
            each(weight=W2),
            {"nuslerp_flatten": False, "nuslerp_row_wise": columns},
        )
        for base in (False, True)
        for columns in (False, True)
    ),
    Case("multislerp", "weights", own=each(weight=W3)),
    Case("multislerp", "base", True, own=each(weight=W3)),
    Case(
        "multislerp",
        "normalize_weights: false",
        own=each(weight=W3),
        whole={"normalize_weights": False},
    ),
    Case("multislerp", "eps: 1e-4", True, own=each(weight=W3), whole={"eps": 1e-4}),
    Case("multislerp", "one model", models=1, own=each(weight=(0.7,))),
    Case("karcher", "defaults"),
    Case("karcher", "far apart", spread=2.0),
    Case("karcher", "max_iter: 1", whole={"max_iter": 1}, spread=2.0),
    Case("karcher", "tol: 0.01", whole={"tol": 0.01}, spread=2.0),
    Case("karcher", "one model", models=1),
    Case("model_stock", "defaults", True),
    Case("model_stock", "two models", True, 2),
    Case("model_stock", "filter_wise: true", True, whole={"filter_wise": True}),
    Case("nearswap", "t: 0.1", True, 1, whole={"t": 0.1}),
    Case("nearswap", "t: 0.0001", True, 1, whole={"t": 0.0001}),
    Case("arcee_fusion", "defaults", True, 1),
    Case("sce", "defaults", True),
    Case("sce", "small task vectors", True, spread=1e-4),
    Case("sce", "select_topk: 0.3", True, whole={"select_topk": 0.3}),
    Case("sce", "select_topk: 0", True, whole={"select_topk": 0.0}),
    Case("ram", "epsilon: 0.2", True, whole={"epsilon": 0.2}),
    Case("ramplus_tl", "epsilon: 0.2", True, whole={"epsilon": 0.2, "r": 0.3, "alpha": 0.8}),
    Case("passthrough", "defaults", models=1),
    Case("passthrough", "scale: 0.7", models=1, own=each(scale=(0.7,))),
    task_vectors("task_arithmetic", "weights"),
    task_vectors("task_arithmetic", "normalize, lambda: 0.7", {"normalize": True, "lambda": 0.7}),
    task_vectors("ties", "densities", density=DENSITIES),
    task_vectors("ties", "density 1"),
    task_vectors("ties", "normalize: false, lambda: 1.3", {"normalize": False, "lambda": 1.3}, density=DENSITIES),
    task_vectors("ties", "rescale: true", {"rescale": True}, density=DENSITIES),
    task_vectors("breadcrumbs", "densities, gamma", density=(0.5, 0.2, 0.8), gamma=(0.05, 0.1, 0.3)),
    task_vectors("breadcrumbs", "default gamma", {"normalize": True, "rescale": True}, density=DENSITIES),
    task_vectors("breadcrumbs_ties", "densities, gamma", density=DENSITIES, gamma=(0.05, 0.1, 0.3)),
    task_vectors("breadcrumbs_ties", "normalize: true", {"normalize": True}, density=DENSITIES),
    *(task_vectors(name, "density 1") for name in ("dare_linear", "dare_ties", "della", "della_linear")),
    *(
        task_vectors(name, "density 1, normalize", {"normalize": name != "della"})
        for name in ("dare_linear", "dare_ties", "della", "della_linear")
    ),
)  # fmt: skip
"""Recipes whose result is determined."""

STOCHASTIC = (
    task_vectors("dare_linear", "densities", density=(0.4, 0.7, 0.3)),
    task_vectors("dare_linear", "rescale: false", {"rescale": False}, density=(0.4, 0.7, 0.3)),
    task_vectors("dare_ties", "densities", density=(0.4, 0.7, 0.3)),
    task_vectors("dare_ties", "normalize: true", {"normalize": True}, density=(0.4, 0.7, 0.3)),
    task_vectors("della", "densities", density=(0.4, 0.7, 0.3)),
    task_vectors("della", "epsilon", density=(0.4, 0.7, 0.3), epsilon=(0.3, 0.25, 0.05)),
    task_vectors("della_linear", "densities", density=(0.4, 0.7, 0.3)),
    task_vectors("della_linear", "rescale: false", {"rescale": False}, density=(0.4, 0.7, 0.3)),
)  # fmt: skip
"""Recipes whose result is random; it has one distribution."""

SAMPLES = 300
"""Seeds that a random recipe is merged with."""


def drawn(case: Case, shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0):
    """The models' tensors and the base's: what models share, and what each has of its own."""
    generator = torch.Generator().manual_seed(seed)

    def normal() -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    base, common = normal(), normal()
    tensors = [
        (base + case.spread * (0.7 * common + 0.7 * normal())).to(dtype)
        for _ in range(case.models)
    ]
    return tensors, base.to(dtype) if case.base else None


def our_tensor(
    case: Case,
    tensors: Sequence[torch.Tensor],
    base: torch.Tensor | None,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> torch.Tensor:
    """One tensor merged by evomerge, rounded once to a dtype."""
    found = operator(case.operator)
    settings = found.settings(case.named(), case.whole)
    inputs = Inputs(tensors, base, settings, MaskKey(seed, "tensor", tuple(case.named())))
    merged = torch.empty(tensors[0].shape, dtype=dtype)
    found.merge_into([merged.view(-1)], inputs, dtype)
    return merged


def oracle(
    case: Case,
    tensors: Sequence[torch.Tensor],
    base: torch.Tensor | None,
    dtype: torch.dtype,
    seed: int | None = None,
) -> torch.Tensor:
    """The same by mergekit, computed in a dtype."""
    origin = None if base is None else base.to(dtype)
    return their_tensor(
        case.operator, [t.to(dtype) for t in tensors], origin, case.own, case.whole, seed
    )


def difference(case: Case, shape: tuple[int, ...], dtype: torch.dtype) -> Difference:
    """Of sources in a dtype, merged into it; mergekit computes in float64 and does not round.

    In float64, since its sums of squares in float32 are off by more than the merge itself.
    """
    seeds = range(100)
    made = (drawn(case, shape, dtype, seed) for seed in seeds)
    tensors, base = next(inputs for inputs in made if settled(case, *inputs))
    theirs = oracle(case, tensors, base, torch.float64)
    ours = our_tensor(case, tensors, base, dtype).double()
    sure = decided(case, tensors, base).expand(shape)
    apart, scale = ((ours - theirs).abs() * sure), float(theirs.abs().max())
    steps = torch.maximum(ours.abs(), theirs.abs()) * BFLOAT16_STEP
    # Beside 0 a step of bfloat16 is finer than the rounding of the float32 sums.
    beyond = (apart - 4 * FLOAT32_ROUNDING * scale).clamp(min=0)
    return Difference(
        float32=float(apart.max()) / scale / FLOAT32_ROUNDING,
        bfloat16=float((beyond / steps.clamp(min=1e-30)).max()),
        compared=float(sure.double().mean()),
    )


def sampled(case: Case) -> tuple[Samples, Samples]:
    """evomerge's and mergekit's results of a random recipe."""
    tensors, base = drawn(case, (12, 50), torch.float32)
    return (
        _samples(case, tensors, base, lambda *call: our_tensor(*call[:3], seed=call[3])),
        _samples(case, tensors, base, lambda *call: oracle(*call[:3], torch.float32, call[3])),
    )


Merged = Callable[[Case, Sequence[torch.Tensor], torch.Tensor, int], torch.Tensor]


def _samples(
    case: Case, tensors: Sequence[torch.Tensor], base: torch.Tensor, merged: Merged
) -> Samples:
    # Alone and with weight 1, a model's kept entries and their factor can be read off.
    alone = replace(case, models=1, own=({**case.own[0], "weight": 1.0},))
    change = tensors[0] - base
    order = change.abs().argsort(-1)
    kept, factors, merges = [], [], []
    for seed in range(SAMPLES):
        moved = merged(alone, tensors[:1], base, seed) - base
        kept.append(moved.ne(0).double().gather(-1, order))
        factors.append(float((moved * change).sum() / (change * moved.ne(0)).square().sum()))
        merges.append(merged(case, tensors, base, seed).double())
    whole, by_rank = torch.stack(kept), torch.stack(kept).view(SAMPLES, -1, 10, 5)
    stacked = torch.stack(merges)
    return Samples(
        kept=_mean(whole.mean((1, 2))),
        kept_by_rank=[_mean(by_rank[:, :, tenth].mean((1, 2))) for tenth in range(10)],
        factor=_mean(torch.tensor(factors, dtype=torch.float64)),
        means=stacked.mean(0),
        errors=stacked.std(0) / SAMPLES**0.5,
    )


def _mean(values: torch.Tensor) -> Mean:
    return Mean(float(values.mean()), float(values.std()) / len(values) ** 0.5)


def decided(
    case: Case, tensors: Sequence[torch.Tensor], base: torch.Tensor | None
) -> torch.Tensor:
    """Where the recipe alone decides the result, not the order among equals or rounding.

    Left out are entries as large as a threshold that several share, of which mergekit's sort
    keeps any; sums of 0 in an election, whose sign is that of rounding; importances at their
    threshold; and rows where evomerge keeps model_stock's share from going below 0.
    """
    sure = torch.ones(tensors[0].shape, dtype=torch.bool)
    if base is None:
        return sure
    deltas = [t.double() - base.double() for t in tensors]
    own = list(case.named().values())
    if case.operator in {"ties", "breadcrumbs", "breadcrumbs_ties"}:
        for delta, parameters in zip(deltas, own, strict=True):
            for threshold in _shared_thresholds(delta.abs().flatten(), parameters, case):
                sure &= delta.abs() != threshold
    if "ties" in case.operator or case.operator in {"della", "sce"}:
        weighted = [p.get("weight", 1.0) * d for p, d in zip(own, deltas, strict=True)]
        for size in range(2, len(weighted) + 1):
            for some in combinations(weighted, size):
                sure &= sum(some).abs() >= 1e-6 * sum(part.abs() for part in some)
    if case.operator == "arcee_fusion":
        importance = _importance(tensors[0].double(), base.double())
        places = torch.tensor([0.25, 0.5, 0.75]).mul(importance.numel() - 1).long()
        low, middle, high = importance.flatten().sort().values[places]
        least = middle + 1.5 * (high - low)
        sure &= (importance - least).abs() > 1e-4 * least
    if case.operator == "model_stock":
        sure &= _mean_cosine(deltas, rows=bool(case.whole.get("filter_wise"))) > 1e-6
    return sure


def settled(case: Case, tensors: Sequence[torch.Tensor], base: torch.Tensor | None) -> bool:
    """Whether SCE's selection does not hang on rounding; it changes the weights of all entries."""
    share = case.whole.get("select_topk", 1.0)
    if not 0 < share < 1 or base is None:
        return True
    deltas = torch.stack([t.double() - base.double() for t in tensors])
    falling = deltas.var(0, unbiased=False).flatten().sort(descending=True).values
    count = int(int(falling.count_nonzero()) * share)
    return count == 0 or bool(falling[count - 1] - falling[count] > 1e-6 * falling[count])


def _shared_thresholds(
    magnitudes: torch.Tensor, own: Mapping[str, float], case: Case
) -> list[torch.Tensor]:
    density, entries = own.get("density", 1.0), magnitudes.numel()
    if density >= 1:
        return []
    falling = magnitudes.sort(descending=True).values
    kept = max(int(density * entries), 1 if case.operator == "ties" else 0)
    top = 0 if case.operator == "ties" else int(own.get("gamma", 0.01) * entries)
    top = min(top, entries - kept)
    return [
        falling[place]
        for place in (top, top + kept)
        if 0 < place < entries and falling[place - 1] == falling[place]
    ]


def _mean_cosine(deltas: Sequence[torch.Tensor], *, rows: bool) -> torch.Tensor:
    shaped = [d if rows else d.flatten() for d in deltas]
    found = [
        torch.cosine_similarity(a, b, dim=-1).unsqueeze(-1) for a, b in combinations(shaped, 2)
    ]
    return sum(found) / len(found)


def _importance(model: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
    p, q = model.softmax(-1) + 1e-8, base.softmax(-1) + 1e-8
    return (model - base).abs() * (p * (p / q).log()).sum(-1, keepdim=True)
