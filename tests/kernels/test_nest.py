"""How work is cut into parts."""

import pytest

from fgrad.kernels.cpu.nest import even_cut, even_parts


@pytest.mark.parametrize("extent", [1, 5, 13, 64, 100])
@pytest.mark.parametrize("most", [1, 2, 7, 14, 16])
def test_parts_cover_the_extent(extent, most):
    for size, count in (even_parts(extent, most), even_parts(extent, most, 3)):
        assert 1 <= count <= most and (count - 1) * size < extent <= count * size


@pytest.mark.parametrize(
    "extent, most, tasks, parts",
    [(64, 14, 1, (8, 8)), (64, 16, 1, (4, 16)), (100, 16, 1, (25, 4)), (32, 16, 3, (2, 16)), (7, 16, 1, (1, 7))],
)
def test_threads_end_together(extent, most, tasks, parts):
    """64 pieces in at most 14 parts would be 13 of 5: seven for one thread and six for the other."""
    assert even_parts(extent, most, tasks) == parts


def test_cuts_are_even():
    assert even_cut(10, 4, 1) == (4, 3) and even_cut(0, 4, 1) == (1, 0) and even_cut(100, 60, 16) == (64, 2)
