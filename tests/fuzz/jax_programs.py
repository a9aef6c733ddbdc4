"""Random programs in fgrad and in JAX: the same source with other modules under its names.

The two libraries share every name that programs use, but for the few in ``Lax``.  What is compared, in one compiled
function on JAX's side: the results; and of differentiable programs the gradient of a weighted sum and a tangent; of
every other one of them, mapped over a batch.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import fgrad
import fgrad.numpy as fnp
from fgrad.testing.strategies import random_program
from fgrad.testing.strategies.programs_text import Program, is_float

EPSILON = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
# Differences that need no explanation, in units of the narrowest float's epsilon times the largest number of an array:
# two evaluations round differently, and chains of steps amplify it.  2e-10 is far below any wrong result in float64.
ROUNDINGS = {"float64": 1e6, "float32": 100.0, "float16": 20.0, "bfloat16": 20.0}
RATIO = 20  # errors of the two libraries against float64 that are of one size


class Lax:
    """jax.lax with the two names that only fgrad has (docs/differences.md), and a `pad` without JAX 0.10.2's bug."""

    def __init__(self, jax: Any) -> None:
        self.jax = jax

    def __getattr__(self, name: str) -> Any:
        return getattr(self.jax.lax, name)

    def dilate(self, x: Any, factors: tuple[int, ...]) -> Any:
        """pad with interior padding."""
        zero = self.jax.numpy.zeros((), x.dtype)
        return self.jax.lax.pad(x, zero, [(0, 0, f - 1) for f in factors])

    def undilate(self, x: Any, factors: tuple[int, ...]) -> Any:
        """A strided slice."""
        return self.jax.lax.slice(x, (0,) * x.ndim, x.shape, factors)

    def pad(self, x: Any, value: Any, config: Any) -> Any:
        """Where only ``value`` has a gradient, JAX's rule fails on the operand's: so the operand gets one too, 0."""
        return self.jax.lax.pad(self.jax.numpy.where(False, value, x), value, config)


Computed = dict[str, list[np.ndarray]]  # what -> its arrays


class Case(NamedTuple):
    """A program and what of it is compared."""

    seed: int
    program: Program
    derivatives: bool

    def __str__(self) -> str:
        return f"# seed {self.seed}\n{self.program}"


OPTIONS: tuple[dict[str, Any], ...] = (
    {"dtypes": ("float64", "int32", "bool"), "differentiable": True},
    {"dtypes": ("float32", "float64", "int32"), "differentiable": True},
    {"dtypes": ("float32", "int32", "bool", "uint8")},
    {"dtypes": ("float64", "int64", "int8", "uint32", "bool")},
)


def case_of(seed: int) -> Case:
    """Half of the programs are differentiable, and half of those in float64 alone."""
    rnd = random.Random(seed)
    options = rnd.choice(OPTIONS)
    return Case(seed, random_program(rnd, **options), "differentiable" in options)


# --- what is computed ------------------------------------------------------------------------------------------------
def like(xs: list[Any], seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.uniform(-1, 1, x.shape)).astype(x.dtype) for x in xs]


def computed(case: Case, f: Callable, api: Any, np_: Any) -> Callable:
    """(arguments) -> {what: list of arrays}: results; gradient, tangent, both of a batch."""
    active = [i for i, t in enumerate(case.program.types) if is_float(t)]
    ts = like([case.program.args[i] for i in active], 1)

    def floats(args):
        def g(*xs):
            full = list(args)
            for i, x in zip(active, xs):
                full[i] = x
            return [y for y in f(*full) if y.dtype.name in EPSILON]

        return g

    def first(*args):
        g = floats(args)
        xs = [args[i] for i in active]

        def weighted(*xs):
            return sum([(y * (k + 1.0)).sum() for k, y in enumerate(g(*xs))], np_.zeros((), np_.float32))

        return list(api.grad(weighted, argnums=tuple(range(len(xs))))(*xs)), list(api.jvp(g, tuple(xs), tuple(ts))[1])

    def everything(*args):
        if not case.derivatives:
            return {"result": list(f(*args))}
        if case.seed % 2:
            gradients, tangents = first(*args)
            return {"result": list(f(*args)), "gradient": gradients, "tangent": tangents}
        batched = [np_.stack([x, np_.roll(x, 1)]) for x in args]
        gradients, tangents = api.vmap(first)(*batched)
        return {"result of a batch": list(api.vmap(f)(*batched)), "gradient of a batch": gradients,
                "tangent of a batch": tangents}  # fmt: skip

    return everything


def in_fgrad(case: Case) -> Computed:
    """fgrad's: of half of the programs compiled, of the others eager."""
    run = computed(case, case.program.f, fgrad, fnp)
    return arrays((fgrad.jit(run) if case.seed % 4 < 2 else run)(*case.program.args))


def in_jax(case: Case, jax: Any) -> Computed:
    """JAX's, compiled at once."""
    f = case.program.bind(fgrad=jax, lax=Lax(jax), fnp=jax.numpy)
    return arrays(jax.jit(computed(case, f, jax, jax.numpy))(*case.program.args))


def arrays(out: dict[str, Any]) -> Computed:
    return {what: [np.asarray(x) for x in xs] for what, xs in out.items()}


# --- comparison ------------------------------------------------------------------------------------------------------
class Difference(NamedTuple):
    """Of one array: ``units`` of the program's narrowest float's epsilon times the array's largest number; infinite for
    types, integers and NaNs that differ.  ``amplified``: more than plain rounding.
    """

    what: str
    index: int
    dtype: str
    units: float
    amplified: bool
    unexplained: str

    def __str__(self) -> str:
        return f"{self.what} {self.index} ({self.dtype}): {self.units:.4g} units. {self.unexplained}"


def compare(case: Case, jax: Any) -> list[Difference]:
    """One difference for each array; ``unexplained`` says why rounding is no explanation, and is empty if it is one."""
    gots, wants = in_fgrad(case), in_jax(case, jax)
    assert {k: len(v) for k, v in gots.items()} == {k: len(v) for k, v in wants.items()}
    found, exact, narrow = [], None, case.program.narrowest
    epsilon, rounding = EPSILON[narrow], ROUNDINGS[narrow]
    for what, i in [(what, i) for what, xs in wants.items() for i in range(len(xs))]:
        got, want = gots[what][i], wants[what][i]
        n, why = units(got, want, epsilon), ""
        if not n <= rounding:
            if np.isfinite(n) and epsilon > EPSILON["float64"]:
                exact = exact or in_fgrad(case._replace(program=case.program.widened()))
                why = against(exact[what][i], got, want, epsilon)
            else:
                why = f"fgrad: {shown(got)}, JAX: {shown(want)}"
        found.append(Difference(what, i, want.dtype.name, n, not n <= rounding, why))
    return found


def against(exact: np.ndarray, got: np.ndarray, want: np.ndarray, epsilon: float) -> str:
    """'' if fgrad is about as close to the same program in float64 as JAX is."""
    rounded = exact.astype(want.dtype)
    ours, theirs = units(got, rounded, epsilon), units(want, rounded, epsilon)
    if ours <= RATIO * max(theirs, 1.0):
        return ""
    return f"From float64: fgrad {ours:.4g} units, JAX {theirs:.4g}. fgrad: {shown(got)}, JAX: {shown(want)}"


def shown(x: np.ndarray) -> str:
    return f"{x.dtype}{list(x.shape)} {np.array2string(x, threshold=30)}"


def units(got: np.ndarray, want: np.ndarray, epsilon: float) -> float:
    if (got.shape, got.dtype) != (want.shape, want.dtype):
        return np.inf
    if want.dtype.name not in EPSILON:
        return 0.0 if np.array_equal(got, want) else np.inf
    if not got.size:
        return 0.0
    a, b = got.astype(np.float64), want.astype(np.float64)
    finite = np.isfinite(b)
    if not (np.isfinite(a) == finite).all() or not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return np.inf
    return float(np.abs(a - b)[finite].max(initial=0) / (max(1.0, np.abs(b[finite]).max(initial=0)) * epsilon))
