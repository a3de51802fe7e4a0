"""Systems of a few linear equations, without a library. Pure.

By the factors of Cholesky, for symmetric matrices whose eigenvalues are above zero.
"""

import math
from collections.abc import Sequence

Matrix = list[list[float]]


def factor(matrix: Sequence[Sequence[float]]) -> Matrix:
    """Return the lower factor L of a positive definite matrix, L times its transpose."""
    lower: Matrix = []
    for i, row in enumerate(matrix):
        new: list[float] = []
        for j in range(i):
            done = sum(a * b for a, b in zip(new, lower[j][:j], strict=True))
            new.append((row[j] - done) / lower[j][j])
        new.append(math.sqrt(row[i] - sum(a * a for a in new)))
        lower.append(new)
    return lower


def solve(lower: Matrix, right: Sequence[float]) -> list[float]:
    """Return x where L times its transpose times x is `right`."""
    half: list[float] = []
    for row, value in zip(lower, right, strict=True):
        done = sum(a * b for a, b in zip(row[:-1], half, strict=True))
        half.append((value - done) / row[-1])
    found = half
    for i in reversed(range(len(lower))):
        later = sum(lower[k][i] * found[k] for k in range(i + 1, len(lower)))
        found[i] = (half[i] - later) / lower[i][i]
    return found


def log_determinant(lower: Matrix) -> float:
    """Return the logarithm of the determinant of the matrix that was factored."""
    return 2 * sum(math.log(row[-1]) for row in lower)
