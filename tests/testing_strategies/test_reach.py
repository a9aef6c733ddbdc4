"""What the strategies reach: every feature of a convolution and of the others, and every branch of their code."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from fgrad import lax
from fgrad.testing import strategies
from fgrad.testing.samples.elementwise_table import ROWS
from fgrad.testing.strategies import conv_problems

ROOT = Path(__file__).resolve().parents[2]


def seen(strategy, features, examples: int = 500) -> Counter:
    """How many of the examples have each feature."""
    found: Counter = Counter()

    @settings(
        max_examples=examples, derandomize=True, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(strategy)
    def count(problem):
        found.update(set(features(problem)))

    count()
    return found


def conv_features(problem):
    """Every feature of a convolution that this one has."""
    (x, w), options = problem.operands, problem.options
    rank = x.ndim - 2
    numbers = options.get("dimension_numbers")
    lhs_spec, rhs_spec, _ = lax.conv_dimension_numbers(x.shape, w.shape, numbers)
    ones = (1,) * rank
    strides, padding = options["window_strides"], options["padding"]
    lhs_dilation, rhs_dilation = options.get("lhs_dilation", ones), options.get("rhs_dilation", ones)
    yield f"{rank} spatial"
    yield f"order {type(numbers[0]).__name__ if type(numbers) is tuple else type(numbers).__name__}"
    yield padding if isinstance(padding, str) else "explicit"
    yield from [
        name for name in ("feature_group_count", "batch_group_count", "preferred_element_type") if name in options
    ]
    yield from (name for name, f in (("lhs dilated", lhs_dilation), ("rhs dilated", rhs_dilation)) if max(f) > 1)
    yield from ["both dilated"] * (max(lhs_dilation) > 1 and max(rhs_dilation) > 1)
    n = [x.shape[d] for d in lhs_spec[2:]]
    k = [w.shape[d] for d in rhs_spec[2:]]
    yield from ["empty batch"] * (x.shape[lhs_spec[0]] == 0)
    yield from ["empty features"] * (x.shape[lhs_spec[1]] == 0)
    yield from ["empty out features"] * (w.shape[rhs_spec[0]] == 0)
    yield from ["empty axis"] * (0 in n)
    for m, j, stride, a, r, pads in zip(
        n, k, strides, lhs_dilation, rhs_dilation, [*padding] if type(padding) is tuple else [(0, 0)] * rank
    ):
        length, reach = 1 + (m - 1) * a, 1 + (j - 1) * r
        yield from ["1x1"] * (j == 1)
        yield from ["kernel as large as the input"] * (reach == length and j > 1)
        yield from ["stride beyond the input"] * (stride > length)
        yield from ["padding beyond the kernel"] * (min(pads) > reach)
        yield from ["negative padding"] * (min(pads) < 0)
        yield from ["cropped to the last"] * (sum(pads) + length == reach and m > 1 and min(pads) < 0)
        yield from ["asymmetric"] * (pads[0] != pads[1])
        yield from ["strided"] * (stride > 1)
        yield from ["a rest"] * (m > 0 and (sum(pads) + length - reach) % stride > 0)


CONV_FEATURES = """
1 spatial|2 spatial|3 spatial|order NoneType|order str|order tuple|order ConvDimensionNumbers|explicit|VALID|SAME
SAME_LOWER|feature_group_count|batch_group_count|preferred_element_type|lhs dilated|rhs dilated|both dilated|empty batch
empty features|empty out features|empty axis|1x1|kernel as large as the input|stride beyond the input
padding beyond the kernel|negative padding|cropped to the last|asymmetric|strided|a rest
"""


def test_convolutions_have_every_feature():
    found = seen(conv_problems(), conv_features)
    wanted = CONV_FEATURES.strip().replace("\n", "|").split("|")
    assert not {name: found[name] for name in wanted if not found[name]}
    assert set(found) <= set(wanted)


def test_what_is_switched_off_is_not_drawn():
    plain = conv_problems(
        groups=False, batch_groups=False, lhs_dilation=False, rhs_dilation=False, paddings=("VALID",), orders=False,
        preferred=False, degenerate=False, spatial_dims=2,
    )  # fmt: skip
    found = seen(plain, conv_features, 100)
    allowed = {"2 spatial", "order NoneType", "VALID", "1x1", "strided", "a rest", "kernel as large as the input"}
    assert set(found) <= allowed | {"stride beyond the input"}


def macs(problem) -> int:
    (x, w), options = problem.operands, problem.options
    out = problem.f(x, w)
    rhs_spec = lax.conv_dimension_numbers(x.shape, w.shape, options.get("dimension_numbers")).rhs_spec
    return out.size * w.size // max(w.shape[rhs_spec[0]], 1)


@pytest.mark.parametrize("limit", [1, 50, 4096])
def test_multiplications_are_bounded(limit):
    assert all(n <= limit for n in seen(conv_problems(max_macs=limit), lambda p: [macs(p)], 100))


def test_the_other_strategies_have_every_feature():
    """For each: every function, option and odd shape that its documentation speaks of."""

    def name(p):
        return p.function.__name__

    def sized(p):
        yield name(p)
        yield from ["empty"] * any(x.size == 0 for x in p.operands)
        yield from ["scalar"] * any(x.ndim == 0 for x in p.operands)

    def pads(p):
        for x, (lo, hi, interior) in zip(p.operands[0].shape, p.options["padding_config"]):
            yield from ["crops"] * (min(lo, hi) < 0)
            yield from ["interior"] * (interior > 0)
            yield from ["crops all"] * (lo + hi + x + max(x - 1, 0) * interior == 0)

    def windows(p):
        o = p.options
        yield o["computation"].__name__
        yield o["padding"] if isinstance(o["padding"], str) else "explicit"
        yield from ["init"] * (len(p.operands) == 2)
        yield from [key for key in ("base_dilation", "window_dilation", "window_strides") if max(o[key]) > 1]

    def scatters(p):
        yield from (p.options["kind"], p.options["mode"])
        indices, shape = p.operands[1], [p.operands[0].shape[a] for a in p.options["axes"]]
        rows = [tuple(indices[at].tolist()) for at in np.ndindex(indices.shape[:-1])]
        yield from ["repeated"] * (len(set(rows)) < len(rows))
        yield from ["before"] * any(i < 0 for r in rows for i in r)
        yield from ["beyond"] * any(i >= n for r in rows for i, n in zip(r, shape))
        yield f"{len(shape)} indexed"

    def dots(p):
        (lc, _), (lb, _) = p.options["dimension_numbers"]
        yield from (f"{len(lc)} contracted", f"{len(lb)} batched")
        yield from ["scalar"] * any(x.ndim == 0 for x in p.operands) + ["empty"] * any(x.size == 0 for x in p.operands)

    cases = {
        "pad_problems": (pads, "crops interior crops_all"),
        "dilate_problems": (sized, "dilate undilate empty scalar"),
        "rev_problems": (sized, "rev empty scalar"),
        "slice_problems": (sized, "slice empty scalar"),
        "transpose_problems": (sized, "transpose empty scalar"),
        "reshape_problems": (lambda p: [*sized(p), *p.options], "reshape empty scalar dimensions"),
        "broadcast_problems": (sized, "broadcast broadcast_in_dim empty scalar"),
        "concatenate_problems": (lambda p: [*sized(p), str(len(p.operands))], "concatenate empty 1 2 3 4"),
        "gather_problems": (lambda p: [*sized(p), p.options["mode"]], "gather empty fill clip"),
        "scatter_problems": (scatters, "set add mul min max drop clip repeated before beyond 0_indexed 2_indexed"),
        "dynamic_slice_problems": (sized, "dynamic_slice dynamic_update_slice empty scalar"),
        "reduce_window_problems": (
            windows, "add max min VALID SAME SAME_LOWER explicit init base_dilation window_dilation window_strides",
        ),
        "dot_general_problems": (dots, "0_contracted 2_contracted 0_batched 2_batched scalar empty"),
        "reduction_problems": (sized, "reduce_sum reduce_prod reduce_max reduce_min argmax argmin empty scalar"),
        "cumulative_problems": (sized, "cumsum cumprod cummax cummin cumlogsumexp empty"),
        "sort_problems": (lambda p: [*sized(p), *p.options], "sort top_k num_keys empty"),
        "select_problems": (sized, "select select_n empty scalar"),
        "conv_transpose_problems": (
            lambda p: [*p.options], "dimension_numbers transpose_kernel use_consistent_padding rhs_dilation",
        ),
    }  # fmt: skip
    missing = {}
    for strategy, (features, wanted) in cases.items():
        found = seen(getattr(strategies, strategy)(), features, 80)
        lost = [w for w in wanted.split() if not found[w.replace("_", " ")] and not found[w]]
        missing |= {strategy: lost} if lost else {}
    assert not missing


def test_every_elementwise_function_is_drawn():
    found = seen(strategies.elementwise_problems(derivative=False, scipy=True), lambda p: [p.function.__name__], 700)
    fixed = {"polygamma", "zeta", "igamma", "igammac", "betainc"}  # an operand has no derivative
    floats = {row.name for row in ROWS if "f" in row.kinds}
    assert set(found) == floats - fixed


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_values_are_spread_as_documented(dtype):
    @settings(max_examples=30)
    @given(strategies.arrays(dtype, (40,)))
    def check(x):
        values = np.sort(x.astype(float))
        assert np.diff(values).min() >= strategies.basic.SPACING[dtype]
        assert np.abs(values).min() >= strategies.basic.SPACING[dtype]
        assert np.abs(values).max() <= 20

    check()


@pytest.mark.long
def test_every_branch_of_the_convolution_is_reached():
    """In a process of its own: the definitions count as well, and here they ran before coverage could see them."""
    pytest.importorskip("coverage")
    script = ROOT / "tools" / "conv_coverage.py"
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, cwd=ROOT, timeout=1800)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
