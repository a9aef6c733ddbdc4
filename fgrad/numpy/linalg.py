"""Linear algebra: what there is of ``numpy.linalg`` so far."""

from fgrad.numpy.contraction import matmul, norm, outer, tensordot, trace, vecdot
from fgrad.numpy.creation import diagonal
from fgrad.numpy.shaping import matrix_transpose

__all__ = ["diagonal", "matmul", "matrix_transpose", "norm", "outer", "tensordot", "trace", "vecdot"]
