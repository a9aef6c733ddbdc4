"""The laws a primitive's rules obey, checked on given operands in float64.

``f`` takes and returns Arrays (one result).  ``mask`` says which operands to differentiate; default: the inexact ones.
"""

import itertools

import numpy as np

from fgrad.core import dtypes
from fgrad.core.array import Array, lift
from fgrad.core.aval import ShapedArray
from fgrad.core.primitive import Zero
from fgrad.transforms.jvp import jvp_flat
from fgrad.transforms.linearize import linearize_flat
from fgrad.transforms.vmap import vmap_flat

RNG_SEED = 20


def arrays(*shapes, seed=RNG_SEED, dtype=np.float64):
    """Standard normal Arrays of the given shapes."""
    rng = np.random.default_rng(seed)
    return [lift(rng.standard_normal(s).astype(dtype)) for s in shapes]


def relative_error(got, want) -> float:
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    assert got.shape == want.shape, f"shapes {got.shape} and {want.shape}"
    if got.size == 0:
        return 0.0
    return float(np.abs(got - want).max() / max(np.abs(want).max(), 0.1))


def inexact(xs):
    return [dtypes.is_inexact(x.dtype) for x in xs]


def directions(xs, mask, seed=1):
    rng = np.random.default_rng(seed)
    return [lift(rng.standard_normal(x.shape)) if m else Zero(x.aval.tangent()) for x, m in zip(xs, mask)]


def check_value(prim, *xs, exact=True, rtol=1e-12, **params):
    """What runs is what the reference computes, of the type the abstract rule gives; strided operands as well."""
    values = [np.asarray(x) for x in xs]
    want = prim.reference(*values, **params)
    aval = prim.abstract(*[ShapedArray(v.shape, v.dtype) for v in values], **params)
    assert (want.shape, want.dtype) == (aval.shape, aval.dtype)
    for make in (lambda v: v, strided):
        got = prim.bind(*[as_given(make(v)) for v in values], **params)
        assert (got.shape, got.dtype) == (aval.shape, aval.dtype)
        if exact:
            np.testing.assert_array_equal(np.asarray(got), want)
        elif got.size:
            np.testing.assert_allclose(
                np.asarray(got, np.float64), np.asarray(want, np.float64), rtol=rtol, atol=rtol * np.abs(want).max()
            )


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
    (out_tape,), tape = linearize_flat(lambda *a: [f(*a)], xs, mask)
    np.testing.assert_array_equal(np.asarray(out_tape), np.asarray(out))
    active = [t for t, m in zip(ts, mask) if m]
    (t_tape,) = tape.apply(active)
    np.testing.assert_allclose(np.asarray(t_tape), np.asarray(t_out), rtol=1e-12, atol=1e-12)
    ct = lift(np.random.default_rng(2).standard_normal(out.shape))
    bars = tape.transpose([ct])
    for bar, x in zip(bars, [x for x, m in zip(xs, mask) if m]):
        assert (tuple(bar.aval.shape), bar.aval.dtype) == (tuple(x.shape), x.dtype)
    forwards = np.vdot(np.asarray(t_out), np.asarray(ct))
    backwards = sum(np.vdot(np.asarray(t), np.asarray(b)) for t, b in zip(active, bars) if type(b) is not Zero)
    scale = np.linalg.norm(np.asarray(t_out)) * np.linalg.norm(np.asarray(ct))
    assert abs(forwards - backwards) <= tolerance * max(scale, 1e-3)


def check_jvp(f, *xs, mask=None, step=1e-5, tolerance=1e-6):
    """The tangent against central differences (``step=1`` is exact for linear and bilinear maps), and the adjoint."""
    mask = inexact(xs) if mask is None else mask
    ts = directions(xs, mask)
    _, (t_out,) = jvp_flat(lambda *a: [f(*a)], xs, ts)

    def shifted(h):
        return np.asarray(f(*[lift(np.asarray(x) + h * np.asarray(t)) if m else x for x, t, m in zip(xs, ts, mask)]))

    want = (shifted(step) - shifted(-step)) / (2 * step)
    got = np.zeros_like(want) if type(t_out) is Zero else t_out
    assert relative_error(got, want) <= tolerance
    if type(t_out) is not Zero:
        check_adjoint(f, *xs, mask=mask)


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
    """vmap is the loop, for every choice of batched operands and of their batch axes ('ends': first and last)."""
    rng = np.random.default_rng(4)
    stacks = []
    for x in xs:
        v = np.asarray(x)
        if np.issubdtype(v.dtype, np.inexact):
            stacks.append([v, *(rng.standard_normal(v.shape) for _ in range(size - 1))])
        else:
            stacks.append([np.roll(v, i) for i in range(size)])
    choices = [
        [None, *(range(x.ndim + 1) if axes == "all" else sorted({0, x.ndim}))]
        for x in xs
    ]  # fmt: skip
    for dims in itertools.product(*choices):
        if all(d is None for d in dims):
            continue
        args = [x if d is None else lift(np.stack(s, axis=d)) for x, s, d in zip(xs, stacks, dims)]
        (out,), (d_out,) = vmap_flat(lambda *a: [f(*a)], args, list(dims), size)
        rows = [
            np.asarray(f(*[x if d is None else lift(s[i]) for x, s, d in zip(xs, stacks, dims)])) for i in range(size)
        ]
        got = np.moveaxis(np.asarray(out), d_out, 0)
        assert relative_error(got, np.stack(rows)) <= tolerance, f"batch axes {dims}"
