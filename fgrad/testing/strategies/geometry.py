"""The window along one axis: sizes, strides, paddings and dilations that fit each other by construction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from hypothesis import strategies as st

#: How paddings are written: (lo, hi) pairs, or a name for all axes.
PADDINGS = ("explicit", "VALID", "SAME", "SAME_LOWER")
#: What an axis may be beside ordinary: as large as its window, under a window of one element, with fewer elements than
#: the stride, padded by more than the window on either side, or empty.
EXTREMES = ("whole", "point", "far", "beyond", "empty")
_AXIS_KINDS = st.sampled_from(("plain",) * 6 + EXTREMES)
_STEPS = st.sampled_from((1, 1, 2, 3))  # strides and dilations


class WindowAxis(NamedTuple):
    """One axis: n elements, spread by ``base``, padded by (lo, hi), under a window of k, spread by ``dilation``.

    A padding with a name does not need lo and hi, which are then 0.
    """

    n: int
    k: int
    stride: int
    lo: int
    hi: int
    base: int
    dilation: int
    out: int


def spread(n: int, factor: int) -> int:
    """1 + (n - 1) factor, and 0 of nothing."""
    return 1 + (n - 1) * factor if n else 0


@st.composite
def window_axes(
    draw: Any,
    padding: str,
    *,
    max_side: int,
    max_window: int,
    max_work: int,
    base: bool,
    dilation: bool,
    extremes: bool,
) -> WindowAxis:
    """An axis on which at least one window fits unless it is empty, and out * k <= max_work.

    ``extremes``: one of `EXTREMES` now and then.  ``base``, ``dilation``: either may be spread.  Every kind of axis and
    of padding draws equally many numbers, so that shrinking can turn one into another and prefers the first of them.
    """
    kind = draw(_AXIS_KINDS) if extremes else "plain"
    b = draw(_STEPS) if base else 1
    b = b if padding == "explicit" else 1
    r = draw(_STEPS) if dilation else 1
    n = draw(st.integers(1, max_side))
    most = min(max_window, max_work)
    fitting = min(most, 1 + (n - 1) // r) if padding == "VALID" else most
    k, stride = draw(st.integers(1, fitting)), draw(_STEPS)
    if kind == "empty":
        n = 0
    elif kind == "point":
        k = 1
    elif kind == "whole" and padding != "explicit":
        r, k = 1, min(n, most)
    elif kind == "far":
        stride += spread(n, b)
    windows, reach, length = max_work // k, spread(k, r), spread(n, b)
    lo, hi = _draw_pads(draw, kind, length, reach)
    if padding in ("SAME", "SAME_LOWER"):
        stride = max(stride, -(-n // windows))
        return WindowAxis(n, k, stride, 0, 0, b, r, -(-n // stride))
    lo, hi = (lo, hi) if padding == "explicit" else (0, 0)
    room = lo + length + hi - reach
    stride = max(stride, room // windows + 1 if room // stride >= windows else 1)
    return WindowAxis(n, k, stride, lo, hi, b, r, max(room // stride + 1, 0))


def _draw_pads(draw: Callable[..., Any], kind: str, length: int, reach: int) -> tuple[int, int]:
    """Pads of either sign for an axis of ``length``, as spread, that leave room for the window, ``reach`` long."""
    low, high = (reach + 1, reach + 2) if kind == "beyond" else (-3, 3)
    lo = draw(st.integers(low, high))
    least = reach - length - lo if length else low
    hi = draw(st.integers(max(least, low), max(least, low) + high - low))
    return lo, least if kind == "whole" else hi


def pads(padding: str, axes: Sequence[WindowAxis]) -> str | tuple[tuple[int, int], ...]:
    """The padding as an argument."""
    return tuple((a.lo, a.hi) for a in axes) if padding == "explicit" else padding
