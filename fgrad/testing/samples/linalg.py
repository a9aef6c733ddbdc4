"""Samples of the matrix decompositions.  They take float32 and float64 only."""

import numpy as np

from fgrad.testing.sample import Sample, normal


def table() -> dict[str, list[Sample]]:
    """The samples of each of them."""
    return {"solve": _solves(), "cholesky": _choleskys(), "qr": _qrs(), "eigh": _eighs(), "svd": _svds()}


def _positive(*shape: int) -> np.ndarray:
    """Positive definite matrices."""
    x = normal(*shape)
    return x @ np.swapaxes(x, -1, -2) + np.eye(shape[-1])


def _in_float32(sample: Sample) -> Sample:
    """Differences in float32 are no measure of its tangents; their adjoints are."""
    return sample._replace(operands=tuple(x.astype(np.float32) for x in sample.operands), slope="kink")


def _solves() -> list[Sample]:
    def sample(a: np.ndarray, b: np.ndarray, transpose_a: bool = False) -> Sample:
        return Sample((a, b), {"transpose_a": transpose_a}, linear=((1,),))

    a, b = normal(3, 3) + 2 * np.eye(3), normal(3, 2)
    return [
        sample(a, b),
        sample(a, b, transpose_a=True),
        sample(normal(2, 3, 3) + 2 * np.eye(3), normal(2, 3, 1)),
        sample(np.full((1, 1), 2.0), np.zeros((1, 0))),
        sample(np.zeros((2, 0, 0)), np.zeros((2, 0, 3))),
        _in_float32(sample(a, b)),
    ]


def _choleskys() -> list[Sample]:
    return [
        Sample((_positive(3, 3),)),
        Sample((_positive(2, 4, 4),)),
        Sample((np.full((1, 1), 4.0),)),
        Sample((np.zeros((0, 2, 2)),)),
        _in_float32(Sample((_positive(3, 3),))),
    ]


def _qrs() -> list[Sample]:
    return [
        Sample((normal(3, 3),)),
        Sample((normal(5, 2),)),
        Sample((normal(2, 4, 3),)),
        Sample((normal(2, 3),)),
        _in_float32(Sample((normal(4, 3),))),
    ]


def _eighs() -> list[Sample]:
    # eigenvalues apart: between equal ones the eigenvectors have no derivative
    apart = np.diag(3.0 * np.arange(4))
    return [
        Sample((normal(4, 4) + apart,)),
        Sample((normal(2, 4, 4) + apart,)),
        Sample((np.full((1, 1), 4.0),)),
        _in_float32(Sample((normal(4, 4) + apart,))),
    ]


def _svds() -> list[Sample]:
    thin, full = {"full_matrices": False}, {"full_matrices": True}
    return [
        Sample((normal(3, 3),), thin),
        Sample((normal(3, 3),), full),
        Sample((normal(5, 2),), thin),
        Sample((normal(4, 2),), full, refused=(0,)),
        Sample((normal(2, 2, 4),), thin),
        _in_float32(Sample((normal(4, 3),), thin)),
    ]
