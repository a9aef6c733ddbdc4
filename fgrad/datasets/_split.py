"""A held-out part that never changes."""

import numpy as np
from numpy.typing import NDArray

from fgrad.core.static import real_number, static_int


def train_test_split(n: int, test_fraction: float = 0.2, seed: int = 0) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Indices ``(train, test)``: a permutation of 0..n-1 fixed by ``seed``, cut in two.

    ``test`` holds ``round(n * test_fraction)`` indices and ``train`` the others; the same arguments give the same
    indices with every version of NumPy.

    Raises:
        ValueError: ``test_fraction`` is outside [0, 1], or ``n`` is negative.

    >>> train, test = train_test_split(10, test_fraction=0.3, seed=0)
    >>> train.tolist(), test.tolist()
    ([9, 1, 6, 7, 3, 0, 5], [2, 8, 4])
    """
    n = static_int("train_test_split", "n must be an integer", n)
    test_fraction = real_number("train_test_split", "test_fraction", test_fraction)
    seed = static_int("train_test_split", "seed must be an integer", seed)
    if not 0 <= seed < 2**32:
        raise ValueError(f"train_test_split: seed must be in [0, 2**32), got {seed}. Use a smaller one.")
    if n >= 2**48:
        raise ValueError(f"train_test_split: n must be a number of examples in memory, got {n}. Pass a smaller one.")
    if n < 0:
        raise ValueError(f"train_test_split: n must not be negative, got {n}. Pass the number of examples.")
    if not 0 <= test_fraction <= 1:
        raise ValueError(
            f"train_test_split: test_fraction must lie in [0, 1], got {test_fraction}. "
            "Pass 0.2 to hold out one in five."
        )
    # RandomState's stream is frozen for good; the newer Generator's may change between NumPy versions.
    order = np.random.RandomState(seed).permutation(n)
    n_test = round(n * test_fraction)
    return order[n_test:], order[:n_test]
