"""The operators once more, slowly, from their formulas and without our code."""

import math

import numpy as np


def linear(models, weights, normalize=True):
    total = sum(w * m for w, m in zip(weights, models, strict=True))
    return total / sum(weights) if normalize else total


def slerp(a, b, t):
    cosine = float(np.dot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b)))
    if abs(cosine) > 0.9995:
        return (1 - t) * a + t * b
    angle = math.acos(cosine)
    return (math.sin((1 - t) * angle) * a + math.sin(t * angle) * b) / math.sin(angle)


def task_arithmetic(models, base, weights, scale=1.0, normalize=False):
    mixed = sum(w * (m - base) for w, m in zip(weights, models, strict=True))
    return base + scale * mixed / (sum(weights) if normalize else 1)


def trim(delta, density):
    if density == 0:
        return np.zeros_like(delta)
    keep = max(1, int(density * delta.size))
    order = sorted(range(delta.size), key=lambda i: (-abs(delta[i]), i))
    kept = np.zeros_like(delta)
    kept[order[:keep]] = delta[order[:keep]]
    return kept


def elect(sparse, base, weights, scale, normalize):
    """``sparse``: one sparsified task vector a model."""
    merged = base.astype(np.float64).copy()
    for i in range(base.size):
        weighted = [w * float(s[i]) for w, s in zip(weights, sparse, strict=True)]
        sign = 1 if np.sum(np.float32(weighted), dtype=np.float32) >= 0 else -1
        agree = [k for k, value in enumerate(weighted) if value * sign > 0]
        mixed = sum(weighted[k] for k in agree)
        divisor = sum(weights[k] for k in agree)
        if normalize and divisor != 0:
            mixed /= divisor
        merged[i] += scale * mixed
    return merged


def ties(models, base, weights, densities, scale=1.0, normalize=True):
    sparse = [trim(m - base, d) for m, d in zip(models, densities, strict=True)]
    return elect(sparse, base, weights, scale, normalize)


def dare_ties(models, base, weights, masks, scale=1.0, normalize=False):
    """``masks``: which entries are kept, one row a model; L1 norms are restored."""
    sparse = []
    for model, mask in zip(models, masks, strict=True):
        delta = model - base
        before, after = np.abs(delta).sum(), np.abs(delta * mask).sum()
        factor = before / after if before >= 1e-7 and after >= 1e-7 else 1.0
        sparse.append(delta * mask * factor)
    return elect(sparse, base, weights, scale, normalize)
