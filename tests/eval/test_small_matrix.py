"""Small systems of equations, against numpy."""

from random import Random

import numpy as np
import pytest

from eval.small_matrix import factor, log_determinant, solve


@pytest.mark.parametrize("size", [1, 2, 5, 8])
def test_systems_are_solved_and_determinants_found(size: int) -> None:
    random = Random(size)
    root = np.array([[random.gauss(0, 1) for _ in range(size)] for _ in range(size)])
    matrix = root @ root.T + np.eye(size)
    right = [random.gauss(0, 1) for _ in range(size)]
    lower = factor(matrix.tolist())
    assert np.array(solve(lower, right)) == pytest.approx(np.linalg.solve(matrix, right))
    assert log_determinant(lower) == pytest.approx(np.linalg.slogdet(matrix)[1])
    assert right != solve(lower, right)
