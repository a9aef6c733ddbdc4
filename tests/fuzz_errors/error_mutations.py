"""How a call is made wrong: parts of its arguments are replaced, dropped, added, or traced."""

import collections
import fractions
import inspect
import random
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import error_functions
import numpy as np
from error_calls import TRACES, Call, Fresh, part, paths, with_part

import fgrad
import fgrad.numpy as fnp
from fgrad import lax

HUGE = [2**31, -(2**31), 2**63, -(2**63), 2**63 - 1, 2**64, 10**30, 2**31 - 1, 10**11]
INTEGERS = [0, 1, -1, 2, 3, -2, 7, 100, *HUGE]
FLOATS = [0.0, -0.0, 0.5, -1.5, 1.0, 2.0, 1e-30, 1e300, -1e300, float("nan"), float("inf"), -float("inf")]
TEXTS = ["", "x", "SAME", "VALID", "SAME_LOWER", "NCHW", "HWIO", "ij,jk->ik", "clip", "fill", "drop", "wrap", "float32",
         "float7", "i", "loop", "linear", "edge", "low", "none", "{} {", "{0.x}", "{:d}", "\x00", "é", "(n),(n)->()",
         "->", "...", "fro", "nuc"]  # fmt: skip
DTYPES = [
    np.float32, "float64", np.dtype("int8"), "uint8", bool, int, float, complex, "bfloat16", np.float16, "complex64",
    np.int64, np.uint64, object, "U3", "S2", "M8[s]", "m8", np.dtype([("a", np.int32), ("b", np.float32)]), "V4",
    np.longdouble, np.dtype(">f4"), np.dtype("(2,)f4"), np.floating, np.number, str, type(None), fgrad.float0,
]  # fmt: skip


class Odd:
    """An object that is none of the things an argument may be."""


class OddArray:
    """Something with ``__array__`` that gives no array of numbers."""

    def __init__(self, value: Any):
        self.value = value

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.asarray(self.value)


class Index:
    def __index__(self) -> int:
        return 1


class BrokenIndex:
    def __index__(self) -> int:
        raise error_functions.UsersOwn("no index")


class Subclass(np.ndarray):
    pass


class Integer(int):
    pass


def generator() -> Fresh:
    return Fresh(lambda: (i for i in (1, 2)), "(i for i in (1, 2))")


def donated() -> fgrad.Array:
    x = fnp.ones(3)
    fgrad.jit(lambda y: y + 1, donate_argnums=0)(x)
    return x


def escaped() -> Any:
    kept: list[Any] = []
    fgrad.make_jaxpr(lambda x: kept.append(x) or x)(np.ones(3, np.float32))
    return kept[0]


ODD = [
    None, True, False, np.bool_(True), "text", b"bytes", (), [], {}, set(), frozenset({1}), object, ..., slice(None),
    slice(1, "x"), Odd(), Odd, range(2), range(0), 1j, complex("nan"), np.float32(1.5), np.float64(2), np.int8(1),
    np.uint64(2**64 - 1), np.int64(-1), np.complex64(1j), np.float16("inf"), np.datetime64("2020"), np.str_("s"),
    np.bytes_(b"s"), np.void(b"ab"), fractions.Fraction(1, 2), Index(), BrokenIndex(), Integer(2), generator(),
    Fresh(lambda: iter([1, 2]), "iter([1, 2])"), collections.deque([1]), collections.OrderedDict(a=1), [None], [[]],
    [1, "a"], (1, 2), (0,), (-1,), (0, 0), (1, None), ((0, 1),), [[1, 2], [3]], {"a": 1}, {1: 2, "b": 3}, ("i",),
    bytearray(b"ab"), memoryview(b"ab"), fgrad.ShapeDtypeStruct((2,), "float32"), donated(), escaped(),
    OddArray(["a"]), OddArray([1.0, 2.0]),
    OddArray(None), fnp.ones(3), fnp.arange(2), lax, Path("nowhere"), ValueError("x"),
    fgrad.tree.structure((0, 0)), fnp.asarray(2), fnp.asarray(1.5), fnp.zeros((0, 2)), np.random.default_rng(0),
]  # fmt: skip


def base_array(r: random.Random) -> np.ndarray:
    shape = r.choice(
        [(), (0,), (1,), (2,), (3,), (5,), (2, 3), (3, 2), (1, 1), (0, 3), (2, 0), (2, 3, 4), (1, 2, 5, 5), (1,) * 9]
    )
    return (np.arange(np.prod(shape), dtype=np.int64) % 7 + 1).reshape(shape).astype(np.float32)


ARRAY_DTYPES = ["?", "b", "B", "h", "H", "i", "I", "l", "L", "e", "f", "d", "F", "D", "O", "U3", "S2", "M8[s]", "m8[s]",
                ">f4", ">i8", "g", "V3", [("a", "i4"), ("b", "f4")], fgrad.bfloat16, fgrad.float0]  # fmt: skip


def changed_array(x: np.ndarray, r: random.Random) -> Any:
    """The array with another dtype, shape, memory layout, class or values."""
    x = np.asarray(x)  # no matrix: NumPy crashes on one that was given a third axis
    kind = r.randrange(13)
    if kind <= 2:
        dtype = np.dtype(r.choice(ARRAY_DTYPES))
        return x.astype(dtype) if r.random() < 0.7 else np.zeros(x.shape, dtype)
    if kind == 3 and x.ndim:
        return x.take(range(max(0, x.shape[0] - 1)), r.randrange(x.ndim), mode="clip")
    if kind == 4:
        return x[None] if r.random() < 0.5 else x[..., None]
    if kind == 5 and x.ndim:
        return x[0] if x.shape[0] else x.reshape(-1)
    if kind == 6:
        return np.zeros(x.shape[:-1] + (0,) if x.ndim else (0,), x.dtype)
    if kind == 7:
        wide = np.repeat(x, 2, axis=-1) if x.ndim else x
        return r.choice([x.T, wide[..., ::2], x[..., ::-1] if x.ndim else x])
    if kind == 8:
        out = x.copy()
        out.flags.writeable = False
        return out
    if kind == 9:
        return r.choice([lambda: np.ma.masked_array(x, x == 0), lambda: x.view(Subclass),
                         lambda: np.asmatrix(x) if x.ndim == 2 else x, lambda: np.asarray(x).tolist(),
                         lambda: fnp.asarray(x) if x.dtype.kind in "fiub" else x])()  # fmt: skip
    if kind == 10 and x.size and x.dtype.kind in "fcd":
        out = x.copy()
        out.flat[r.randrange(x.size)] = r.choice([np.nan, np.inf, -np.inf, -1.0, 0.0, 3e38])
        return out
    if kind == 11 and x.size and x.dtype.kind in "iu":
        out = x.copy()
        out.flat[r.randrange(x.size)] = r.choice([np.iinfo(x.dtype).max, np.iinfo(x.dtype).min, 0, 100])
        return out
    return base_array(r)


def changed_integer(x: int, r: random.Random) -> Any:
    akin: list[Any] = [-x, x + 1, x - 1, bool(x), str(x), (x,), [x, x], None, 0, *HUGE]
    if abs(x) < 2**31:
        akin += [
            float(x),
            x + 0.5,
            np.int64(x),
            np.float32(x),
            np.array(x),
            fnp.asarray(x),
            np.array([x]),
            np.int8(x % 100),
        ]
    return r.choice(akin)


def changed(value: Any, r: random.Random, others: Callable[[], Any]) -> Any:
    """Another value in its place: sometimes akin to it, sometimes anything, sometimes from another call."""
    if r.random() < 0.6:
        if isinstance(value, np.ndarray):
            return changed_array(value, r)
        if type(value) is int:
            return changed_integer(value, r)
        if type(value) is float:
            return r.choice([-value, value + 1, str(value), np.float64(value), np.full(2, value), *FLOATS])
        if type(value) is str:
            return r.choice([value.upper(), value[::-1], value + "x", value[:-1], *TEXTS])
        if type(value) in (tuple, list):
            return changed_sequence(value, r, others)
        if type(value) is dict and value:
            key = r.choice(sorted(value, key=str))
            return r.choice([{k: v for k, v in value.items() if k != key}, {**value, "extra": 1}, list(value.values())])
        if callable(value) and not isinstance(value, type):
            return r.choice(error_functions.FAULTY if r.random() < 0.7 else error_functions.SOUND)
        if isinstance(value, (np.dtype, type)):
            return r.choice(DTYPES)
    pool = r.randrange(10)
    if pool < 3:
        return others()
    if pool < 6:
        return r.choice(ODD)
    if pool == 6:
        return r.choice(INTEGERS)
    if pool == 7:
        return r.choice(FLOATS)
    if pool == 8:
        return r.choice([*TEXTS, *DTYPES])
    return changed_array(base_array(r), r)


def resized(x: tuple[Any, ...], r: random.Random, others: Callable[[], Any]) -> tuple[Any, ...]:
    """With one item less, one more, or in another order."""
    items = list(x)
    kind = r.randrange(3)
    if kind == 0 and items:
        items.pop(r.randrange(len(items)))
    elif kind == 1:
        items.insert(r.randint(0, len(items)), r.choice([*items, others()]))
    else:
        r.shuffle(items)
    return tuple(items)


def changed_sequence(x: Any, r: random.Random, others: Callable[[], Any]) -> Any:
    kind = r.randrange(7)
    items = list(x)
    if kind <= 2:
        items = list(resized(tuple(x), r, others))
    elif kind == 3:
        return items if type(x) is tuple else tuple(items)
    elif kind == 4 and all(type(i) is int and abs(i) < 2**31 for i in items):
        return r.choice(
            [
                np.array(items),
                fnp.asarray(np.array(items)),
                np.array(items, float),
                Fresh(lambda: set(items), f"set({items})"),
            ]
        )
    else:
        return r.choice([dict(enumerate(items)), items[0] if items else None, (items,), iter_of(tuple(items))])
    return tuple(items) if type(x) is tuple else items


def iter_of(items: tuple[Any, ...]) -> Fresh:
    return Fresh(lambda: iter(items), f"iter({len(items)} items)")


def too_much_work(c: Call) -> bool:
    """A huge number for an argument that says how often to do something, or a function that never ends it."""
    items = c.items()
    if c.trace == "vjp" and any(_is_huge(part(items, p)) for p in paths(items)):
        return True  # a broadcast to billions of elements costs nothing, its transpose sums them
    for key in c.work:
        if key in c.kwargs or (type(key) is int and key < len(c.args)):
            value = c.kwargs[key] if key in c.kwargs else c.args[key]
            if any(_is_much(part(value, p), ENDING.get((c.target, key))) for p in paths(value)):
                return True
    return False


def _is_huge(x: Any) -> bool:
    return type(x) is int and abs(x) > 10**6


ENDING = {("lax.while_loop", 0): error_functions.below_ten, ("lax.while_loop", 1): error_functions.grow}


def _is_much(x: Any, sound: Any) -> bool:
    if isinstance(x, (bool, int, float, np.ndarray, np.generic)):
        x = np.asarray(x, dtype=object if isinstance(x, int) else None)
        return x.dtype.kind in "Oiuf" and any(
            isinstance(v, (int, float)) and not abs(v) < 1000 for v in np.asarray(x).ravel().tolist()
        )
    return callable(x) and x is not sound and x not in error_functions.ENDING


def mutated(c: Call, r: random.Random, others: Callable[[], Any], signature: inspect.Signature | None) -> Call:
    """The call with one change or a few."""
    out = c
    for _ in range(r.choice([1, 1, 1, 2, 2, 3])):
        out = mutated_once(out, r, others, signature)
    return c if too_much_work(out) else out


def mutated_once(c: Call, r: random.Random, others: Callable[[], Any], signature: inspect.Signature | None) -> Call:
    items = c.items()
    kind = r.random()
    if kind < 0.1:  # another trace
        leaves = [
            p for p in paths(items) if len(p) > 1 and isinstance(part(items, p), (np.ndarray, np.generic, int, float))
        ]
        if not leaves or r.random() < 0.15:
            return replace(c, trace=None, traced=())
        traced = tuple(r.sample(leaves, min(len(leaves), r.choice([1, 1, 2]))))
        trace = r.choices(list(TRACES), [1, 4, 4, 2, 2, 1])[0]
        return replace(c, trace=trace, traced=traced)
    if kind < 0.17:  # wrong keywords
        names = [n for n in (signature.parameters if signature else {}) if n not in c.kwargs] + ["unknown"]
        return unless_traced(c, c.with_items({**items, "kwargs": {**c.kwargs, r.choice(names): others()}}))
    if kind < 0.23:  # too few or too many arguments
        group = r.choice(["args", "args", "then"]) if "then" in items else "args"
        return unless_traced(c, c.with_items({**items, group: resized(tuple(items[group]), r, others)}))
    if kind < 0.25 and c.kwargs:
        gone = r.choice(sorted(c.kwargs))
        return unless_traced(c, c.with_items({**items, "kwargs": {k: v for k, v in c.kwargs.items() if k != gone}}))
    where = [p for p in paths(items) if len(p) > 1]
    if not where:
        return c.with_items({**items, "args": (*c.args, others())})
    path = r.choice(where)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = changed(part(items, path), r, others)
    except (
        TypeError,
        ValueError,
        OverflowError,
        IndexError,
        RuntimeError,
    ):  # NumPy cannot make such an array: no such argument
        return c
    if callable(part(items, path)) and isinstance(value, type) and value.__module__ in ("builtins", "numpy"):
        return c  # called as a user's function, a type of C's says what it likes
    return unless_traced(c, c.with_items(with_part(items, path, value)))


def unless_traced(before: Call, after: Call) -> Call:
    """The changed call; parts that are no longer there are no longer traced."""
    if not before.traced:
        return after
    there = set(paths(after.items()))
    return replace(after, traced=tuple(p for p in before.traced if p in there))
