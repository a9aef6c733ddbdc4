"""The simple steps of random programs: each rule writes one expression of values of order one, of order one again."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from fgrad.testing.strategies.programs_text import Type, Value, is_float
from fgrad.testing.strategies.programs_writer import SHAPES, Writer

# [-1, 1] to itself, smooth with slopes of order one.
SMOOTH = (
    "-{}", "{} * 0.75", "lax.tanh({})", "lax.sin({})", "lax.cos({})", "lax.exp({}) * 0.25", "lax.log({} + 2.0) * 0.5",
    "lax.log1p({} * 0.5)", "lax.expm1({}) * 0.5", "lax.sqrt({} + 2.0) * 0.5", "lax.rsqrt({} + 2.0)",
    "lax.cbrt({} + 2.0) * 0.5", "lax.logistic({})", "lax.erf({})", "lax.erfc({}) * 0.5", "lax.atan({})",
    "lax.asin({} * 0.5)", "lax.acos({} * 0.5) * 0.25", "lax.sinh({}) * 0.5", "lax.cosh({}) * 0.5", "lax.asinh({})",
    "lax.acosh({} + 3.0) * 0.25", "lax.atanh({} * 0.5)", "lax.tan({} * 0.5)", "lax.integer_pow({}, 3)",
    "lax.square({})", "lax.exp2({}) * 0.5", "1.0 / ({} + 2.5)", "lax.erf_inv({} * 0.5)", "lax.stop_gradient({})",
    "fnp.logaddexp({}, 0.5) * 0.5", "({} + 2.0) ** 1.5 * 0.125", "fnp.hypot({}, 2.0) * 0.25",
)  # fmt: skip
SMOOTH_OF_TWO = (
    "lax.tanh({} + {})", "{} * {}", "lax.sin({} - {})", "{} / ({} + 2.5)", "lax.pow({} + 2.0, {}) * 0.25",
    "lax.atan2({}, {} + 2.0)", "lax.logistic({}) * {}", "fnp.logaddexp({}, {}) * 0.5",
)  # fmt: skip
KINKED = ("lax.abs({})", "fnp.maximum({}, 0.0)", "fnp.clip({}, -0.5, 0.5)", "fnp.minimum({}, 0.25)")
KINKED_OF_TWO = ("lax.max({}, {})", "lax.min({}, {})")
OF_COMPLEX = ("-{}", "{} * 0.75", "{} + 0.0")
OF_TWO_COMPLEX = ("({} + {}) * 0.25", "({} - {}) * 0.25", "({} * {}) * 0.25")
OF_INTEGERS = (
    "{} + 3", "{} * 5", "~{}", "-{}", "{} % 7", "{} // 3", "{} >> 1", "{} << 2", "lax.sign({})", "fnp.clip({}, 2, 9)",
    "lax.population_count({})", "lax.clz({})", "lax.integer_pow({}, 2)",
)  # fmt: skip
OF_TWO_INTEGERS = (
    "{} + {}", "{} - {}", "{} * {}", "{} & {}", "{} | {}", "{} ^ {}", "lax.max({}, {})", "lax.min({}, {})",
    "lax.div({}, {} | 1)", "lax.rem({}, {} | 1)", "{} // ({} | 1)", "{} % ({} | 1)", "lax.shift_left({}, {} & 3)",
    "lax.shift_right_arithmetic({}, {} & 3)", "lax.shift_right_logical({}, {} & 3)", "lax.clamp({0} & 3, {1}, {0} | 8)",
)  # fmt: skip
OF_TWO_BOOLS = ("{} & {}", "{} | {}", "{} ^ {}", "lax.ne({}, {})")
COMPARISONS = ("lax.lt", "lax.le", "lax.gt", "lax.ge", "lax.eq", "lax.ne")


def simple_step(w: Writer) -> None:
    """Appends a step that some rule allows."""
    x = w.any()
    rules = [r.write for r in RULES if r.takes(x.type) for _ in range(r.weight)]
    if w.options.calls:
        rules += [_call] * 4
    w.rnd.choice(rules)(w, x)


def _call(w: Writer, x: Value) -> None:
    """One of the caller's functions, and a number by which it knows the step."""
    w.add(f"{w.rnd.choice(w.options.calls)}({x}, {w.rnd.randint(0, 999)})", t=x.type)


# --- element by element ----------------------------------------------------------------------------------------------
def _is_integer(t: Type) -> bool:
    """Signed or unsigned."""
    return t.dtype.startswith(("int", "uint"))


def _unary(w: Writer, x: Value) -> None:
    if is_float(x.type):
        if w.often(1, 5):
            form = w.rnd.choice(KINKED)
            w.add(f"lax.sin({form.format(w.apart(x))})" if w.options.differentiable else form.format(x))
        else:
            w.add(w.rnd.choice(SMOOTH).format(x))
    elif _is_integer(x.type):
        w.add(w.rnd.choice(OF_INTEGERS).format(x))
    else:
        w.add(f"~{x}" if x.type.dtype == "bool" else w.rnd.choice(OF_COMPLEX).format(x))


def _binary(w: Writer, x: Value) -> None:
    y = w.of_type(x.type)
    if is_float(x.type):
        if w.often(1, 5):
            form = w.rnd.choice(KINKED_OF_TWO)
            w.add(f"lax.sin({form.format(w.apart(x), y)})" if w.options.differentiable else form.format(x, y))
        else:
            w.add(w.rnd.choice(SMOOTH_OF_TWO).format(x, y))
    else:
        forms = OF_TWO_INTEGERS if _is_integer(x.type) else OF_TWO_BOOLS if x.type.dtype == "bool" else OF_TWO_COMPLEX
        w.add(w.rnd.choice(forms).format(x, y))


def _promoted(w: Writer, x: Value) -> None:
    """Two dtypes, and shapes that broadcast."""
    y = w.pick(lambda t: is_float(t) and _broadcasts(t.shape, x.type.shape))
    if y is not None:
        w.offer(w.rnd.choice(("lax.tanh({} + {})", "lax.sin({} * {})")).format(f"({x} * 1.0)", y))


def _broadcasts(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return all(m == n or 1 in (m, n) for m, n in zip(reversed(a), reversed(b)))


def _compare(w: Writer, x: Value) -> None:
    """Of integers, or of floats far from each other."""
    op = w.rnd.choice(COMPARISONS)
    if is_float(x.type):
        w.add(f"{op}({w.apart(x)}, {w.of_type(x.type)})")
    else:
        w.add(f"{op}({x}, {w.of_type(x.type)})")


def _select(w: Writer, x: Value) -> None:
    predicate = w.of_type(Type("bool", x.type.shape))
    if w.often(1, 2):
        w.add(f"lax.select({predicate}, {x}, {w.of_type(x.type)})")
    else:
        w.add(f"fnp.where({predicate}, {x}, {w.of_type(Type(x.type.dtype, ()))})")


def _cast(w: Writer, x: Value) -> None:
    w.convert(x, Type(w.rnd.choice(w.options.dtypes), x.type.shape))


# --- views and copies ------------------------------------------------------------------------------------------------
def _broadcast(w: Writer, x: Value) -> None:
    shape = x.type.shape
    if not shape:
        w.add(f"fnp.broadcast_to({x}, {w.rnd.choice(SHAPES)})")
        return
    at = w.rnd.randint(0, len(shape))
    new = (*shape[:at], w.rnd.randint(1, 3), *shape[at:])
    w.offer(f"lax.broadcast_in_dim({x}, {new}, {tuple(a for a in range(len(new)) if a != at)})")


def _reshape(w: Writer, x: Value) -> None:
    shape, n = x.type.shape, math.prod(x.type.shape)
    options = [(n,), (1, *shape), (*shape, 1), shape[::-1], *((k, n // k) for k in (2, 3, 4) if n and n % k == 0)]
    w.add(f"lax.reshape({x}, {w.rnd.choice(options)})")


def _transpose(w: Writer, x: Value) -> None:
    order = list(range(len(x.type.shape)))
    for a in order[:]:
        order.insert(w.rnd.randint(0, len(order) - 1), order.pop(a))
    w.add(f"lax.transpose({x}, {tuple(order)})")


def _rev(w: Writer, x: Value) -> None:
    w.add(f"lax.rev({x}, {w.axes(x)})")


def _slice(w: Writer, x: Value) -> None:
    starts = tuple(w.rnd.randint(0, n) if w.often(1, 2) else 0 for n in x.type.shape)
    limits = tuple(n - w.rnd.randint(0, n - a) if w.often(1, 3) else n for a, n in zip(starts, x.type.shape))
    w.add(f"lax.slice({x}, {starts}, {limits}, {tuple(w.rnd.randint(1, 3) for _ in starts)})")


def _pad(w: Writer, x: Value) -> None:
    """Also negative and between the elements."""
    low = [-1 if n > 1 else 0 for n in x.type.shape]
    config = tuple((w.rnd.choice((0, 1, 2, a)), w.rnd.choice((0, 1, a)), w.rnd.choice((0, 0, 1, 2))) for a in low)
    value = w.of_type(Type(x.type.dtype, ())) if w.often(1, 2) else f"fnp.zeros((), {w.dtype(x)})"
    w.offer(f"lax.pad({x}, {value}, {config})")


def _dilate(w: Writer, x: Value) -> None:
    name = "undilate" if w.often(1, 3) else "dilate"
    factors = tuple(w.rnd.randint(1, 3) for _ in x.type.shape)
    if name == "undilate":  # the inverse
        x = w.add(f"lax.dilate({x}, {factors})")
    w.offer(f"lax.{name}({x}, {factors})")


def _concatenate(w: Writer, x: Value) -> None:
    axis, y = w.axis(x), w.of_type(x.type)
    forms = ("lax.concatenate([{}, {}], {})", "fnp.stack([{}, {}], {})", "fnp.concatenate([{0}, {0}[::-1], {1}], {2})")
    w.offer(w.rnd.choice(forms).format(x, y, axis))


def _shift(w: Writer, x: Value) -> None:
    form = w.rnd.choice(("fnp.roll({}, {}, {})", "fnp.repeat({}, {}, {})", "fnp.moveaxis({0}, -1, {2})"))
    w.offer(form.format(x, w.rnd.randint(0, 2), w.axis(x)))


# --- along axes ------------------------------------------------------------------------------------------------------
def _fold(w: Writer, x: Value) -> None:
    axes = w.axes(x)
    empty = any(x.type.shape[a] == 0 for a in axes)
    if x.type.dtype == "bool":
        w.add(f"fnp.{w.rnd.choice(('any', 'all'))}({x}, axis={axes})")
    elif is_float(x.type):
        names = ("sum",) if empty else ("sum", "sum", "mean", "prod", "max", "min", "var")
        name = w.rnd.choice(names)
        if name in ("max", "min"):
            w.add(f"lax.sin(fnp.{name}({w.apart(x) if w.options.differentiable else x}, axis={axes}))")
        else:
            w.add(w.squash(f"fnp.{name}({x}, axis={axes})", x.type))
    elif _is_integer(x.type) and not empty and w.often(1, 2):
        w.add(f"fnp.{w.rnd.choice(('max', 'min'))}({x}, axis={axes})")
    else:
        w.add(w.squash(f"fnp.sum({x}, axis={axes}, dtype={w.dtype(x)})", x.type))


def _cumulate(w: Writer, x: Value) -> None:
    axis, reverse = w.axis(x), w.often(1, 2)
    if is_float(x.type):
        name = w.rnd.choice(("sum", "prod", "max", "min", "logsumexp"))
        text = w.apart(x) if name in ("max", "min") and w.options.differentiable else x
        scale = " * 0.125" if name == "logsumexp" else ""
        w.add(f"lax.sin(lax.cum{name}({text}, {axis}, {reverse}){scale})")
    else:
        w.add(f"lax.cum{w.rnd.choice(('sum', 'prod', 'max', 'min'))}({x}, {axis}, {reverse})")


def _associative(w: Writer, x: Value) -> None:
    w.add(f"lax.associative_scan(lax.mul, {x}, reverse={w.often(1, 2)}, axis={w.axis(x)})")


def _sort(w: Writer, x: Value) -> None:
    if is_float(x.type):
        w.add(f"lax.sin(lax.sort({w.apart(x) if w.options.differentiable else x}, dimension={w.axis(x)}))")
    else:
        w.add(f"lax.sort({x}, dimension={w.axis(x)})")


def _order(w: Writer, x: Value) -> None:
    """Indices: of floats that are apart, of integers with ties."""
    axis, y = w.axis(x), w.apart(x) if is_float(x.type) else x
    forms = ["fnp.argsort({}, axis={}, stable=True).astype(fnp.int32)"]
    forms += ["lax.argmax({}, {}, np.int32)", "lax.argmin({}, {}, np.int32)"] if x.type.shape[axis] else []
    w.add(w.rnd.choice(forms).format(y, axis))


def _key_val(w: Writer, x: Value) -> None:
    """x in the order of integers."""
    keys = w.of_type(Type("int32", x.type.shape))
    w.add(f"lax.sort_key_val({keys}, {x}, dimension={w.axis(x)})[1]")


# --- products and windows --------------------------------------------------------------------------------------------
def _dot(w: Writer, x: Value) -> None:
    shape = x.type.shape
    if len(shape) == 2 and w.often(1, 2):
        y = w.pick(lambda t: t.dtype == x.type.dtype and len(t.shape) == 2 and t.shape[1] == shape[1])
        w.offer(w.squash(f"{x} @ {y}.T", x.type))
        return
    y, a = w.of_type(x.type), w.axis(x)
    batch = tuple(b for b in range(len(shape)) if b != a and w.often(1, 2))
    w.offer(w.squash(f"lax.dot_general({x}, {y}, ((({a},), ({a},)), ({batch}, {batch})))", x.type))


def _convolve(w: Writer, x: Value) -> None:
    """One or two spatial dimensions; every option."""
    rnd, dtype = w.rnd, x.type.dtype
    if len(x.type.shape) not in (3, 4) or 0 in x.type.shape:
        x = w.of_type(Type(dtype, rnd.choice(((1, 2, 5), (2, 2, 5), (1, 2, 4, 3)))))
    n, features, *spatial = x.type.shape
    groups = rnd.choice([g for g in range(1, features + 1) if features % g == 0])
    batches = n if groups == 1 and n in (2, 3) and w.often(1, 4) else 1
    window = [rnd.randint(1, min(3, k + 1)) for k in spatial]
    kernel = w.of_type(Type(dtype, (groups * batches * rnd.randint(1, 2), features // groups, *window)))
    strides = tuple(rnd.randint(1, 2) for _ in spatial)
    lhs, rhs = (tuple(rnd.choice((1, 1, 2)) for _ in spatial) for _ in range(2))
    sizes = [(k - 1) * a + 1 for k, a in zip(spatial, lhs)]
    reach = [(k - 1) * b + 1 for k, b in zip(window, rhs)]
    fits = all(r <= k for r, k in zip(reach, sizes))
    low = [rnd.choice((0, 1, 2) if r <= k else (0,)) for r, k in zip(reach, sizes)]
    padding: object = [
        (a, rnd.choice((0, 1, -1 if k + a > r else 0)) + max(r - k, 0)) for a, k, r in zip(low, sizes, reach)
    ]
    if all(k == 1 for k in lhs) and w.often(1, 2):
        padding = repr(rnd.choice(("SAME", "VALID") if fits else ("SAME",)))
    options = f"lhs_dilation={lhs}, rhs_dilation={rhs}, feature_group_count={groups}, batch_group_count={batches}"
    w.offer(f"lax.tanh(lax.conv_general_dilated({x}, {kernel}, {strides}, {padding}, {options}))")


def _window(w: Writer, x: Value) -> None:
    rnd, shape = w.rnd, x.type.shape
    sizes = tuple(rnd.randint(1, min(3, n)) for n in shape)
    strides = tuple(rnd.randint(1, 2) for _ in shape)
    padding: object = repr(rnd.choice(("VALID", "SAME")))
    if w.often(1, 2):
        padding = tuple((rnd.randint(0, k - 1), rnd.randint(0, k - 1)) for k in sizes)
    if w.often(1, 2):
        text = f"lax.reduce_window({x}, 0.0, lax.add, {sizes}, {strides}, {padding})"
    else:
        y = w.apart(x) if w.options.differentiable else x
        text = f"lax.reduce_window({y}, -np.inf, lax.max, {sizes}, {strides}, {padding})"
    w.offer(f"lax.sin({text})")


# --- indexing --------------------------------------------------------------------------------------------------------
def _index(w: Writer, x: Value) -> None:
    a, n = w.axis(x), x.type.shape[0]
    if not all(x.type.shape):
        return
    match w.rnd.randint(0, 4):
        case 0:
            size = x.type.shape[a]
            w.add(f"lax.dynamic_index_in_dim({x}, {w.count(size)}, {a}, keepdims={w.often(1, 2)})")
        case 1:
            k = w.rnd.randint(1, x.type.shape[a])
            w.add(f"lax.dynamic_slice_in_dim({x}, {w.count(n + 2)}, {k}, {a})")  # some starts are clamped
        case 2:
            # Integers of any size, from the end or clamped: only with this mode does JAX differentiate what it clamps.
            w.offer(f'{x}.at[{_indices(w)}].get(mode="clip")' if w.options.differentiable else f"{x}[{_indices(w)}]")
        case 3:
            w.offer(f"fnp.take({x}, {_indices(w)} % {x.type.shape[a]}, axis={a})")
        case 4:
            i = w.of_type(Type("int32", x.type.shape))
            w.add(f"fnp.take_along_axis({x}, {i} % {x.type.shape[a]}, axis={a})")


def _indices(w: Writer) -> Value:
    """Integers of some shape of few elements; no scalar, which fgrad refuses out of range where it knows its value."""
    i = w.pick(lambda t: t.dtype == "int32" and len(t.shape) in (1, 2) and math.prod(t.shape) <= 8)
    return w.of_type(Type("int32", (3,))) if i is None or w.often(1, 2) else i


def _update(w: Writer, x: Value) -> None:
    shape = x.type.shape
    if not all(shape):
        return
    kind = w.rnd.choice(("set", "slice") if x.type.dtype == "bool" else ("set", "add", "slice", "add many"))
    if kind == "add many":
        i = _indices(w)
        row = w.of_type(x.type._replace(shape=(*i.type.shape, *shape[1:])))
        w.add(w.squash(f"{x}.at[{i}].add({row})", x.type))
        return
    k, row = w.count(shape[0]), w.of_type(x.type._replace(shape=shape[1:]))
    if kind == "set":
        w.add(f"{x}.at[{k}].set({row})")
    elif kind == "add":
        w.add(w.squash(f"{x}.at[{k}].add({row})", x.type))
    else:
        w.add(f"lax.dynamic_update_index_in_dim({x}, {row}, {k}, 0)")


# --- which rules take a value ----------------------------------------------------------------------------------------
class Rule(NamedTuple):
    """Writes a step whose first operand has a type that it ``takes``."""

    write: Callable[[Writer, Value], None]
    takes: Callable[[Type], bool]
    weight: int


def _any_type(t: Type) -> bool:
    return True


def _has_axes(t: Type) -> bool:
    return bool(t.shape)


def _is_real(t: Type) -> bool:
    return is_float(t) or _is_integer(t)


RULES = (
    Rule(_unary, _any_type, 6),
    Rule(_binary, _any_type, 6),
    Rule(_promoted, _is_real, 1),
    Rule(_compare, _is_real, 1),
    Rule(_select, _any_type, 1),
    Rule(_cast, _any_type, 1),
    Rule(_broadcast, _any_type, 1),
    Rule(_reshape, _any_type, 1),
    Rule(_transpose, _has_axes, 1),
    Rule(_rev, _has_axes, 1),
    Rule(_slice, _has_axes, 1),
    Rule(_pad, _has_axes, 1),
    Rule(_dilate, _has_axes, 1),
    Rule(_concatenate, _has_axes, 1),
    Rule(_shift, lambda t: all(t.shape) and _has_axes(t), 1),
    Rule(_fold, _has_axes, 3),
    Rule(_cumulate, lambda t: _has_axes(t) and (is_float(t) or _is_integer(t)), 1),
    Rule(_associative, lambda t: _has_axes(t) and is_float(t), 1),
    Rule(_sort, lambda t: _has_axes(t) and _is_real(t), 1),
    Rule(_order, lambda t: _has_axes(t) and _is_real(t), 1),
    Rule(_key_val, _has_axes, 1),
    Rule(_dot, lambda t: _has_axes(t) and t.dtype in ("float32", "float64", "int32"), 2),
    Rule(_convolve, lambda t: t.dtype in ("float32", "float64"), 2),
    Rule(_window, lambda t: _has_axes(t) and all(t.shape) and t.dtype in ("float32", "float64"), 1),
    Rule(_index, _has_axes, 2),
    Rule(_update, _has_axes, 2),
)
