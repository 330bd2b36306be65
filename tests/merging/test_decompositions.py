"""Decompositions through the Gram matrix against numpy's own."""

import numpy as np
import pytest
import torch

from evomerge.merging.operators.decompositions import (
    definite_inverse,
    gram,
    polar_factor,
    singular_triplets,
)

SHAPES = pytest.mark.parametrize("shape", [(1, 1), (5, 5), (40, 7), (7, 40), (1, 9), (9, 1)])


def matrix(shape, rank=None, seed=0):
    rng = np.random.default_rng(seed)
    if rank is None:
        return rng.normal(size=shape).astype(np.float32)
    return (rng.normal(size=(shape[0], rank)) @ rng.normal(size=(rank, shape[1]))).astype("f")


@SHAPES
def test_triplets_give_back_the_matrix_with_orthonormal_vectors(shape):
    given = matrix(shape)
    found = singular_triplets(torch.from_numpy(given))
    eye = torch.eye(found.rank, dtype=torch.float64)
    assert found.rank == min(shape)
    torch.testing.assert_close(found.product(found.values).float(), torch.from_numpy(given))
    torch.testing.assert_close(found.left.T @ found.left, eye, atol=1e-7, rtol=0)
    torch.testing.assert_close(found.right @ found.right.T, eye, atol=1e-7, rtol=0)
    np.testing.assert_allclose(
        found.values, np.linalg.svd(given, compute_uv=False), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("shape", [(30, 20), (20, 30)])
def test_directions_that_are_only_rounding_are_left_out(shape):
    found = singular_triplets(torch.from_numpy(matrix(shape, rank=4)))
    assert found.rank == 4
    assert singular_triplets(torch.zeros(shape)).rank == 0


def test_fewer_triplets_are_the_largest_ones():
    given = matrix((12, 8))
    found = singular_triplets(torch.from_numpy(given), 3)
    u, s, vt = np.linalg.svd(given)
    np.testing.assert_allclose(
        found.product(found.values), (u[:, :3] * s[:3]) @ vt[:3], atol=1e-6
    )


@SHAPES
def test_the_polar_factor_has_the_singular_vectors_and_no_values(shape):
    given = matrix(shape)
    u, _, vt = np.linalg.svd(given.astype(np.float64), full_matrices=False)
    np.testing.assert_allclose(polar_factor(torch.from_numpy(given)), u @ vt, atol=1e-6)


def test_equal_columns_share_one_direction_in_the_polar_factor():
    column = matrix((6, 1))
    found = polar_factor(torch.from_numpy(np.hstack([column, column]))).numpy()
    unit = column[:, 0] / np.linalg.norm(column) / np.sqrt(2)
    np.testing.assert_allclose(found, np.stack([unit, unit], 1), atol=1e-6)


def test_gram_of_more_rows_than_fit_at_once_is_the_whole_product():
    given = matrix((10_000, 3))
    want = given.astype(np.float64).T @ given.astype(np.float64)
    np.testing.assert_allclose(gram(torch.from_numpy(given)), want, rtol=1e-12)


def test_the_inverse_of_a_definite_matrix():
    root = matrix((9, 9)).astype(np.float64)
    given = root @ root.T + np.eye(9)
    found = definite_inverse(torch.from_numpy(given)).numpy()
    np.testing.assert_allclose(found @ given, np.eye(9), atol=1e-10)
