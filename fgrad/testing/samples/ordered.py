"""Samples of the primitives that sort and that run along an axis."""

import numpy as np

from fgrad.testing.sample import Sample, normal

TIES = np.array([[2.0, 1.0, 2.0, 2.0, 0.0], [1.0, 1.0, 3.0, 0.0, 3.0]])


def table() -> dict[str, list[Sample]]:
    """The samples of each of them."""
    return _sorts() | _running()


def _sorts() -> dict[str, list[Sample]]:
    def params(dimension: int, num_keys: int) -> dict:
        return {"dimension": dimension, "num_keys": num_keys, "is_stable": True}

    x, y = normal(3, 4), normal(3, 4, seed=1)
    with_nan = np.array([0.0, np.nan, -0.0, -1.0, np.inf, np.nan])
    return {
        "sort": [
            Sample((x,), params(1, 1), "fib", exact=True),
            Sample((x, y), params(0, 1), "fib", exact=True),
            Sample((normal(3, 2, 4),), params(0, 1), exact=True),
            Sample(
                (normal(2, 3, 2), normal(2, 3, 2, seed=1), np.arange(12).reshape(2, 3, 2)), params(1, 2), exact=True
            ),
            Sample((TIES, np.arange(10.0).reshape(2, 5), y[:2, :1] * np.ones(5)), params(1, 2), "fib", True, "kink"),
            Sample((with_nan, np.arange(6)), params(0, 1), exact=True, slope="kink"),
            Sample((np.zeros((2, 0)), np.zeros((2, 0))), params(1, 1), "fib", exact=True),
            Sample((normal(1),), params(0, 1), "fib", exact=True),
        ]
    }


def _running() -> dict[str, list[Sample]]:
    samples: dict[str, list[Sample]] = {}
    shapes = [((3, 4), 1), ((4, 3), 0), ((2, 3, 2), 1), ((1,), 0), ((2, 0), 1)]
    for shape, axis in shapes:
        for reverse in (False, True):
            x, params = normal(*shape), {"axis": axis, "reverse": reverse}
            samples.setdefault("cumsum", []).append(Sample((x,), params, "fi"))
            samples.setdefault("cumprod", []).append(Sample((x,), params, "fi"))
            samples.setdefault("cumlogsumexp", []).append(Sample((x,), params, "f"))
            for name in ("cummax", "cummin"):
                samples.setdefault(name, []).append(Sample((x,), params, "fib", exact=True))
    zeros = np.array([2.0, 0.0, 3.0, 0.0, 5.0])
    samples["cumprod"].append(Sample((zeros,), {"axis": 0, "reverse": True}, "fi"))
    samples["cumlogsumexp"].append(Sample((np.array([1e3, 1e3, -1e3]),), {"axis": 0, "reverse": False}, slope="kink"))
    nothing_yet = np.array([-np.inf, -np.inf, 1.0, -np.inf])
    samples["cumlogsumexp"].append(Sample((nothing_yet,), {"axis": 0, "reverse": False}, slope="kink"))
    for name in ("cummax", "cummin"):
        samples[name].append(Sample((TIES,), {"axis": 1, "reverse": True}, "fib", True, "kink"))
    return samples
