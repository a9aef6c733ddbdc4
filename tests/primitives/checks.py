"""The laws a primitive's rules obey, checked on given operands in float64.

``f`` takes and returns Arrays (one result).  ``mask`` says which operands to differentiate; default: the inexact ones.
"""

import itertools

import numpy as np

from fgrad import jit
from fgrad.core import dtypes
from fgrad.core.array import Array, lift
from fgrad.core.aval import ShapedArray
from fgrad.core.primitive import Axis, Zero
from fgrad.transforms.jvp import jvp_flat
from fgrad.transforms.linearize import linearize_flat
from fgrad.transforms.vmap import vmap_flat

RNG_SEED = 20


def arrays(*shapes, seed=RNG_SEED, dtype=np.float64):
    """Standard normal Arrays of the given shapes."""
    rng = np.random.default_rng(seed)
    return [lift(rng.standard_normal(s).astype(dtype)) for s in shapes]


def relative_error(got, want) -> float:
    """max |got - want| / max |want|; equal infinities and NaNs differ by nothing, unequal integers infinitely."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape, f"shapes {got.shape} and {want.shape}"
    if got.size == 0:
        return 0.0
    if got.dtype.kind in "iub":
        return 0.0 if np.array_equal(got, want) else np.inf
    got, want = got.astype(np.float64), want.astype(np.float64)
    same = (got == want) | (np.isnan(got) & np.isnan(want))
    with np.errstate(invalid="ignore"):
        difference = np.where(same, 0, np.abs(got - want))
    return float(difference.max() / max(np.abs(want[np.isfinite(want)]).max(initial=0), 0.1))


def inexact(xs):
    return [dtypes.is_inexact(x.dtype) for x in xs]


def normal_like(aval, rng):
    return lift(rng.standard_normal(aval.shape).astype(aval.dtype))


def directions(xs, mask, seed=1):
    rng = np.random.default_rng(seed)
    return [normal_like(x.aval, rng) if m else Zero(x.aval.tangent()) for x, m in zip(xs, mask)]


def results(prim, out):
    return out if prim.multiple_results else [out]


def check_value(prim, *xs, exact=True, rtol=1e-12, compiled=False, **params):
    """What runs is what the reference computes, of the type the abstract rule gives; strided operands as well.

    ``compiled``: under jit, too.
    """
    values = [np.asarray(x) for x in xs]
    with np.errstate(all="ignore"):
        wants = results(prim, prim.reference(*values, **params))
    avals = results(prim, prim.abstract(*[ShapedArray(v.shape, v.dtype) for v in values], **params))

    def run(*xs):
        return prim.bind(*xs, **params)

    for call in (run, jit(run)) if compiled else (run,):
        for make in (lambda v: v, strided):
            gots = results(prim, call(*[as_given(make(v)) for v in values]))
            for got, want, aval in zip(gots, wants, avals, strict=True):
                assert (want.shape, want.dtype) == (aval.shape, aval.dtype)
                assert (got.shape, got.dtype) == (aval.shape, aval.dtype)
                check_close(got, want, 0 if exact else rtol)


def check_close(got, want, rtol):
    """Equal element by element, or to ``rtol`` of the largest finite one."""
    got, want = np.asarray(got), np.asarray(want)
    if rtol == 0 or want.dtype.kind in "iub":
        np.testing.assert_array_equal(got, want)
    elif got.size:
        got, want = got.astype(np.float64), want.astype(np.float64)
        scale = np.abs(want[np.isfinite(want)]).max(initial=0)
        np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol * scale)


def strided(v: np.ndarray) -> np.ndarray:
    """The same values with axes in reverse order in memory, every other element, and the first axis backwards."""
    if v.ndim == 0:
        return v
    memory = np.zeros(tuple(2 * n for n in v.shape[::-1]), v.dtype)
    view = memory.T[tuple(slice(None, None, -2) if d == 0 else slice(None, None, 2) for d in range(v.ndim))]
    view[...] = v
    return view


def as_given(v: np.ndarray) -> Array:
    """An Array on the very memory of ``v``."""
    from fgrad.core.array import ConcreteArray

    return ConcreteArray(v)


def check_linear_map(f, *xs, mask=None):
    """f is linear in the masked operands together: f(dx) is its tangent, and <f'(dx), y> = <dx, f'^T(y)>."""
    mask = inexact(xs) if mask is None else mask
    check_adjoint(f, *xs, mask=mask)
    ts = directions(xs, mask)
    _, (t_out,) = jvp_flat(lambda *a: [f(*a)], xs, ts)
    moved = [t if m else x for x, t, m in zip(xs, ts, mask)]
    assert relative_error(t_out, f(*moved)) <= 1e-13


def check_adjoint(f, *xs, mask=None, tolerance=1e-12):
    """Forward mode, the tape run forwards and the tape run backwards are one linear map."""
    mask = inexact(xs) if mask is None else mask
    ts = directions(xs, mask)
    (out,), (t_out,) = jvp_flat(lambda *a: [f(*a)], xs, ts)
    if type(t_out) is Zero:
        return
    (out_tape,), tape = linearize_flat(lambda *a: [f(*a)], xs, mask)
    np.testing.assert_array_equal(np.asarray(out_tape), np.asarray(out))
    active = [t for t, m in zip(ts, mask) if m]
    (t_tape,) = tape.apply(active)
    np.testing.assert_allclose(np.asarray(t_tape), np.asarray(t_out), rtol=tolerance, atol=tolerance)
    ct = normal_like(out.aval, np.random.default_rng(2))
    bars = tape.transpose([ct])
    for bar, x in zip(bars, [x for x, m in zip(xs, mask) if m]):
        assert (tuple(bar.aval.shape), bar.aval.dtype) == (tuple(x.shape), x.dtype)
    check_inner_products([t_out], [ct], active, bars, tolerance)


def check_inner_products(forwards, cts, ts, bars, tolerance):
    """<A t, ct> = <t, A^T ct>, with forwards = A t and bars = A^T ct (an entry for each result and operand)."""
    left = sum(inner(a, ct) for a, ct in zip(forwards, cts, strict=True))
    right = sum(inner(t, b) for t, b in zip(ts, bars, strict=True) if type(b) is not Zero)
    scale = sum(inner(a, a) for a in forwards) * sum(inner(ct, ct) for ct in cts)
    assert abs(left - right) <= tolerance * max(np.sqrt(scale), 1e-3)


def inner(a, b) -> float:
    return float(np.vdot(np.asarray(a, np.float64), np.asarray(b, np.float64)))


def check_jvp(f, *xs, mask=None, step=1e-5, tolerance=1e-6):
    """The tangent against central differences (``step=1`` is exact for linear and bilinear maps), and the adjoint."""
    check_tangent(f, *xs, mask=mask, step=step, tolerance=tolerance)
    check_adjoint(f, *xs, mask=mask)


def check_tangent(f, *xs, mask=None, step=1e-5, tolerance=1e-6):
    """The tangent along a random direction against central differences; an integer or bool result has none."""
    mask = inexact(xs) if mask is None else mask
    ts = directions(xs, mask)
    (out,), (t_out,) = jvp_flat(lambda *a: [f(*a)], xs, ts)
    assert t_out.aval == out.aval.tangent().update(weak_type=t_out.aval.weak_type)
    if not dtypes.is_inexact(out.dtype):
        assert type(t_out) is Zero
        return

    def shifted(h):
        return np.asarray(f(*[lift(np.asarray(x) + h * np.asarray(t)) if m else x for x, t, m in zip(xs, ts, mask)]))

    want = (shifted(step) - shifted(-step)) / (2 * step)
    got = np.zeros_like(want) if type(t_out) is Zero else t_out
    assert relative_error(got, want) <= tolerance


def gradient(f, xs, mask=None, seed=3):
    """The cotangents of the masked operands for a fixed random cotangent of f's result, as a function of them."""
    mask = inexact(xs) if mask is None else mask

    def of(*active):
        it = iter(active)
        full = [next(it) if m else x for x, m in zip(xs, mask)]
        (out,), tape = linearize_flat(lambda *a: [f(*a)], full, mask)
        ct = lift(np.random.default_rng(seed).standard_normal(out.shape))
        return tape.transpose([ct])

    return of, [x for x, m in zip(xs, mask) if m]


def check_second(f, *xs, mask=None, step=1e-4, tolerance=1e-5):
    """The derivative of each gradient against central differences, forward and reverse over reverse."""
    of, active = gradient(f, xs, mask)
    for i, bar in enumerate(of(*active)):
        if type(bar) is not Zero:
            check_jvp(lambda *a, i=i: of(*a)[i], *active, step=step, tolerance=tolerance)


def check_vmap(f, *xs, size=3, axes="all", tolerance=1e-13):
    """vmap is the loop, for every choice of batched operands and of their batch axes.

    ``axes``: 'all' of each operand, its 'ends' (first and last), or a list of choices: an axis or None for each.
    """
    values = [np.asarray(x) for x in xs]
    examples = [[varied(v, i) for v in values] for i in range(size)]
    if isinstance(axes, str):
        own = [range(v.ndim + 1) if axes == "all" else sorted({0, v.ndim}) for v in values]
        axes = [dims for dims in itertools.product(*[(None, *a) for a in own]) if any(d is not None for d in dims)]
    loops = {}  # by which operands are batched: f of each example
    for dims in axes:
        batched = tuple([d is not None for d in dims])
        if batched not in loops:
            rows = [f(*[lift(e if b else v) for e, v, b in zip(ex, values, batched)]) for ex in examples]
            loops[batched] = np.stack(rows) if rows else np.zeros((0, *f(*map(lift, values)).shape))
        args = [
            lift(v if d is None else np.stack([ex[j] for ex in examples], d) if size else none_of(v, d))
            for j, (v, d) in enumerate(zip(values, dims))
        ]
        (out,), (d_out,) = vmap_flat(lambda *a: [f(*a)], args, list(dims), Axis(None, size))
        out = np.asarray(out)
        got = np.broadcast_to(out, (size, *out.shape)) if d_out is None else np.moveaxis(out, d_out, 0)
        assert relative_error(got, loops[batched]) <= tolerance, f"batch axes {dims}"


def varied(v: np.ndarray, i: int) -> np.ndarray:
    """Example i of a batch made of ``v``: other values at each place, from the domain v's are from."""
    v = np.roll(v, i)
    return v * (1 - i / 64) if np.issubdtype(v.dtype, np.inexact) else v


def none_of(v: np.ndarray, axis: int) -> np.ndarray:
    """A batch of no examples."""
    return np.zeros((*v.shape[:axis], 0, *v.shape[axis:]), v.dtype)
