"""Spaces in which low-rank task vectors are merged: concatenation, KnOTS and Core Space.

Each takes the factors of every task's change of one matrix and gives the factors of the
merged change; no matrix of the model's own size is formed.
"""

from collections.abc import Callable, Sequence

import torch

from evomerge.merging.low_rank.factors import Factors, kept

Merge = Callable[[Sequence[torch.Tensor]], torch.Tensor]
"""Merges one matrix a task, all of one shape, into one."""


def concatenated(tasks: Sequence[Factors], weights: Sequence[float]) -> Factors:
    """The weighted sum of the changes, whose rank is at most the sum of theirs.

    Sum w_t B_t A_t = [w_1 B_1 … w_T B_T] [A_1; …; A_T], without any loss.
    """
    return Factors(
        torch.cat([w * task.b for w, task in zip(weights, tasks, strict=True)], dim=1),
        torch.cat([task.a for task in tasks]),
    )


def in_knots(tasks: Sequence[Factors], merge: Merge) -> Factors:
    """Merge in the common output space of KnOTS (arXiv:2410.19735, section 4).

    [D_1 … D_T] = U S [V_1 … V_T]: the tasks' parts V_t, (rank, inputs), are merged, and U S is
    theirs in common. The decomposition is taken from the factors: with B_1 … B_T = Q_B R_B and
    A_t' = Q_t R_t it is that of R_B diag(R_1', …, R_T'), of the size of the ranks' sum.
    """
    q_b, r_b = torch.linalg.qr(torch.cat([task.b for task in tasks], dim=1))
    parts = [torch.linalg.qr(task.a.T) for task in tasks]
    core = r_b @ torch.block_diag(*[r_a.T for _, r_a in parts])  # type: ignore[no-untyped-call]
    u, sizes, v = torch.linalg.svd(core, full_matrices=False)
    count = kept(sizes)
    widths = [q_a.shape[1] for q_a, _ in parts]
    blocks = v[:count].split(widths, dim=1)
    own = [block @ q_a.T for block, (q_a, _) in zip(blocks, parts, strict=True)]
    return Factors(q_b @ u[:, :count] * sizes[:count], merge(own))


def in_core_space(tasks: Sequence[Factors], merge: Merge) -> Factors:
    """Merge in Core Space (arXiv:2509.17786, section 3): the tasks' common bases.

    With U from [B_1 … B_T] and V from [A_1; …; A_T], M_t = U' B_t A_t V is a small matrix that
    holds all of the change, D_t = U M_t V'; the M_t are merged.
    """
    u, sizes, _ = torch.linalg.svd(
        torch.cat([task.b for task in tasks], dim=1), full_matrices=False
    )
    u = u[:, : kept(sizes)]
    _, sizes, v = torch.linalg.svd(torch.cat([task.a for task in tasks]), full_matrices=False)
    v = v[: kept(sizes)]
    merged = merge([(u.T @ task.b) @ (task.a @ v.T) for task in tasks])
    if len(u.T) < len(v):
        return Factors(u, merged @ v)
    return Factors(u @ merged, v)
