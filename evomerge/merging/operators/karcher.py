"""Mean of directions along the sphere, with the mean norm."""

import math

from evomerge.merging.operators.contract import Blocks, Inputs, Operator, Parameter
from evomerge.merging.operators.inner_products import combination, inner_products


def merge(inputs: Inputs) -> Blocks:
    """``u · mean ‖θ_k‖``, u the Fréchet mean of the directions ``u_k = θ_k/‖θ_k‖``.

    From the normalized mean on, ``u ← cos‖T‖ u + sin‖T‖ T/‖T‖`` with the mean tangent
    ``T = mean Ω_k/sinΩ_k (u_k - cosΩ_k u)`` until ``‖T‖ ≤ tol``. u stays a combination of the
    u_k, so that the iteration needs their inner products only, and runs in double precision.
    Tensors of a norm up to ``tol`` have no direction. Directions opposite to u add nothing,
    since every way to them is as short.
    """
    products = inner_products(inputs, "tensor")
    rows = products.flatten(1).tolist()
    norms = [math.sqrt(row[k]) for k, row in enumerate(rows)]
    settings = inputs.settings
    tol, most = settings.number("tol"), int(settings.number("max_iter"))
    shares = [1.0]
    if len(rows) > 1:
        # Not "> tol", so that a norm of NaN reaches the result.
        valid = [k for k, norm in enumerate(norms) if not norm <= tol]
        cosines = [[rows[i][j] / (norms[i] * norms[j]) for j in valid] for i in valid]
        shares = [0.0] * len(rows)
        mean_norm = sum(norms) / len(norms)
        if valid:
            for k, share in zip(valid, _mean_direction(cosines, tol, most), strict=True):
                shares[k] = share * mean_norm / norms[k]
    return combination(inputs, products.new_tensor(shares).view(-1, 1, 1), "tensor")


def _mean_direction(cosines: list[list[float]], tol: float, most: int) -> list[float]:
    """Coefficients of unit vectors, given their inner products, in their mean direction."""
    count = len(cosines)
    mean = _unit([1.0 / count] * count, cosines, tol) or [1.0] + [0.0] * (count - 1)
    for _ in range(most):
        tangent = _mean_tangent(mean, cosines, tol)
        length = math.sqrt(max(_dot(tangent, tangent, cosines), 0.0))
        if length <= tol:
            break
        ahead, aside = math.cos(length), math.sin(length) / length
        moved = [ahead * m + aside * t for m, t in zip(mean, tangent, strict=True)]
        mean = _unit(moved, cosines, tol) or moved
    return mean


def _mean_tangent(mean: list[float], cosines: list[list[float]], tol: float) -> list[float]:
    """Coefficients of the mean of the unit vectors, seen from the mean along the sphere."""
    pulls, along = [], 0.0
    for row in cosines:
        cosine = sum(m * c for m, c in zip(mean, row, strict=True))
        cosine = max(min(cosine, 1.0), -1.0)  # keeps NaN
        angle = math.acos(cosine)
        near = angle <= tol or math.pi - angle <= tol
        pulls.append(0.0 if near else angle / math.sin(angle) / len(cosines))
        along += pulls[-1] * cosine
    return [pull - along * m for pull, m in zip(pulls, mean, strict=True)]


def _unit(vector: list[float], cosines: list[list[float]], tol: float) -> list[float] | None:
    """The vector at length 1; None if it is shorter than ``tol``."""
    length = math.sqrt(max(_dot(vector, vector, cosines), 0.0))
    return None if length <= tol else [entry / length for entry in vector]


def _dot(a: list[float], b: list[float], cosines: list[list[float]]) -> float:
    return sum(
        x * y * cosine
        for x, row in zip(a, cosines, strict=True)
        for y, cosine in zip(b, row, strict=True)
    )


KARCHER = Operator(
    name="karcher",
    summary="mean of all models along the sphere, all of equal weight",
    merge=merge,
    parameters=(
        Parameter("max_iter", "number", 10, "most steps", low=0, high=1000),
        Parameter(
            "tol", "number", 1e-5, "shortest step and norm that count", low=0.0, high=1.0
        ),
    ),
    paper="Riemannian center of mass and mollifier smoothing (Karcher, 1977); arXiv:2603.04972",
)
