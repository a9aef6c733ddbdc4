"""The emitter ``s`` that scalar rules are written with, as LLVM IR for one element.

A rule calls ``s.add(a, b)``, ``s.select(c, a, b)`` ...; every method writes instructions and returns a `Value`.
How a dtype is held:

    dtype               in a register            in memory
    bool                i1                       i8, 0 or 1
    int8 .. uint64      i8 .. i64                the same
    float16, bfloat16   float, already rounded   half, i16
    float32, float64    float, double            the same

So an operation on a 16-bit float is the float32 operation followed by one rounding (`_fit`), and loads and stores of
such values are exact.
"""

from __future__ import annotations

import numpy as np

from fgrad.kernels.cpu import half
from fgrad.kernels.cpu.irtext import AROUND, Code
from fgrad.kernels.cpu.value import (
    BFLOAT16,
    BOOL,
    DOUBLE,
    FLOAT,
    HALF,
    NARROW,
    Value,
    dtype_of,
    is_float,
    is_signed,
    literal,
    memory_type,
    register_type,
)
from fgrad.kernels.cpu.vecmath import VECTOR_FUNCTIONS, vectorised

# functions of the C library by number of arguments; the float32 ones have an "f" appended
UNARY = (
    "exp", "exp2", "expm1", "log", "log1p", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh",
    "asinh", "acosh", "atanh", "cbrt", "erf", "erfc", "lgamma",
)  # fmt: skip
LIBM = dict.fromkeys(UNARY, 1) | {"atan2": 2, "pow": 2}

_COMPARISONS = {"eq": "oeq", "ne": "une", "lt": "olt", "le": "ole", "gt": "ogt", "ge": "oge"}


class Scalar:
    """The emitter ``s``, with which a scalar rule writes the computation of one element.

    Each method takes values and returns a value; operands of one operation have one dtype, ``x.dtype``, and nothing is
    converted in silence.  Constants come from ``s.const(value, x.dtype)``.  Comparisons give bools, and ``select``
    stands for ``if``: both of its branches are computed.  Integers wrap around.  Operations on float16 and bfloat16
    are done in float32 and rounded, each of them; ``in_float32`` rounds once, at the end of a rule.

    >>> def softsign(s, x):  # x / (1 + |x|)
    ...     return s.div(x, s.add(s.const(1, x.dtype), s.abs(x)))

    For the compiler: ``native_half`` says that the host converts float16 in hardware (else conversions are spelt out).
    With ``lanes``, `add`, `mul`, `min`, `max`, `cmp`, `select`, `and_` and `or_` work on vectors of so many elements
    (without literals among them), and so do loads and stores of anything but 16-bit floats.
    """

    def __init__(self, code: Code, native_half: bool, lanes: int = 1) -> None:
        self.code = code
        self.native_half = native_half
        self._lanes = lanes

    def _wide(self, kind: str) -> str:
        return kind if self._lanes == 1 else f"<{self._lanes} x {kind}>"

    # ---- constants, memory, conversions

    def const(self, value, dtype) -> Value:
        """A Python number as a value of the dtype: integers wrap, floats round."""
        return literal(dtype_of(dtype), value)

    def load(self, dtype: np.dtype, address: str, group: bool) -> Value:
        kind, tag = self._wide(memory_type(dtype)), ", !llvm.access.group !0" if group else ""
        raw = self.code.op(f"load {kind}, ptr {address}, align {dtype.itemsize}{tag}")
        if dtype == BOOL:
            raw = self.code.op(f"icmp ne {kind} {raw}, zeroinitializer")
        return self._from_bits(dtype, raw) if dtype in NARROW else Value(dtype, raw)

    def store(self, x: Value, address: str, group: bool) -> None:
        raw, tag = x.ref, ", !llvm.access.group !0" if group else ""
        if x.dtype == BOOL:
            raw = self.code.op(f"zext {self._wide('i1')} {raw} to {self._wide('i8')}")
        elif x.dtype in NARROW:
            raw = self._to_bits(x)
        self.code.line(f"store {self._wide(memory_type(x.dtype))} {raw}, ptr {address}, align {x.dtype.itemsize}{tag}")

    def store_around(self, x: Value, address: str) -> None:
        """Of a vector, aligned to its size: not by way of the cache, if the host has such stores."""
        kind, size = self._wide(memory_type(x.dtype)), self._lanes * x.dtype.itemsize
        self.code.line(f"store {kind} {x.ref}, ptr {address}, align {size}, {AROUND}")

    def _from_bits(self, dtype: np.dtype, bits: str) -> Value:
        """The value of a 16-bit float held as i16; exact."""
        if dtype == BFLOAT16:
            return Value(dtype, half.bfloat_to_float(self.code, bits))
        if self.native_half:
            held = self.code.op(f"bitcast i16 {bits} to half")
            return Value(dtype, self.code.op(f"fpext half {held} to float"))
        return Value(dtype, half.half_to_float(self.code, bits))

    def _to_bits(self, x: Value) -> str:
        """The i16 of a value that is a 16-bit float already; exact."""
        if x.dtype == BFLOAT16:
            return half.float_to_bfloat(self.code, x.ref)
        if self.native_half:
            held = self.code.op(f"fptrunc float {x.ref} to half")
            return self.code.op(f"bitcast half {held} to i16")
        return half.float_to_half(self.code, x.ref)

    def _fit(self, dtype: np.dtype, ref: str) -> Value:
        """Rounds the float32 result of an operation to ``dtype`` if that is narrower (nearest, ties to even)."""
        if dtype == BFLOAT16:
            ref = half.round_to_bfloat(self.code, ref)
        elif dtype == HALF and self.native_half:
            ref = self.code.op(f"fptrunc float {ref} to half")
            ref = self.code.op(f"fpext half {ref} to float")
        elif dtype == HALF:
            ref = half.round_to_half(self.code, ref)
        return Value(dtype, ref)

    def cast(self, x: Value, dtype) -> Value:
        """Converts the value: floats to integers truncate and saturate, NaN to 0; anything to bool is ``x != 0``."""
        dtype = dtype_of(dtype)
        if dtype == self._same(x):
            return x
        if x.known is not None and (is_float(dtype) or not is_float(x.dtype)):
            return literal(dtype, x.known)
        if dtype == BOOL:
            return self.cmp("ne", x, literal(x.dtype, 0))
        have, want = register_type(x.dtype), register_type(dtype)
        if is_float(x.dtype) and is_float(dtype):
            return self._cast_float(x, dtype)
        if is_float(x.dtype):
            name = f"llvm.fpto{'si' if is_signed(dtype) else 'ui'}.sat.{want}.{_suffix(have)}"
            return Value(dtype, self.code.call(want, name, (have, x.ref)))
        if is_float(dtype):
            verb = "sitofp" if is_signed(x.dtype) else "uitofp"
            return self._fit(dtype, self.code.op(f"{verb} {have} {x.ref} to {want}"))
        bits, room = (8 * d.itemsize if d != BOOL else 1 for d in (x.dtype, dtype))
        if bits == room:
            return Value(dtype, x.ref)
        verb = "trunc" if bits > room else "sext" if is_signed(x.dtype) else "zext"
        return Value(dtype, self.code.op(f"{verb} {have} {x.ref} to {want}"))

    def _cast_float(self, x: Value, dtype: np.dtype) -> Value:
        if dtype == DOUBLE:
            return Value(dtype, self.code.op(f"fpext float {x.ref} to double"))
        if x.dtype != DOUBLE:
            return self._fit(dtype, x.ref)
        if dtype == FLOAT:
            return Value(dtype, self.code.op(f"fptrunc double {x.ref} to float"))
        return self._fit(dtype, half.double_to_odd_float(self.code, x.ref))

    def bitcast(self, x: Value, dtype) -> Value:
        """The same bits as another dtype of the same size."""
        dtype = dtype_of(dtype)
        if dtype.itemsize != self._same(x).itemsize:
            raise TypeError(f"bitcast: the sizes must be equal, got {x.dtype} and {dtype}. Choose another dtype.")
        if dtype == x.dtype:
            return x
        if x.dtype == BOOL:
            ref = self.code.op(f"zext i1 {x.ref} to i8")
        else:
            ref = self._to_bits(x) if x.dtype in NARROW else x.ref
        if dtype == BOOL:
            return Value(dtype, self.code.op(f"icmp ne i8 {ref}, 0"))
        if dtype in NARROW:
            return self._from_bits(dtype, ref)
        have, want = memory_type(x.dtype), register_type(dtype)
        return Value(dtype, ref if have == want else self.code.op(f"bitcast {have} {ref} to {want}"))

    # ---- arithmetic

    def _same(self, *xs: Value) -> np.dtype:
        strange = [x for x in xs if not isinstance(x, Value)]
        if strange:
            raise TypeError(
                f"emit: operands must be values of the emitter, got {strange[0]!r} of type "
                f"{type(strange[0]).__name__}. Make constants with s.const(value, dtype)."
            )
        if any(x.dtype != xs[0].dtype for x in xs):
            raise TypeError(f"emit: operands must have one dtype, got {[str(x.dtype) for x in xs]}. Cast them first.")
        return xs[0].dtype

    def _binary(self, a: Value, b: Value, of_floats: str, of_integers: str, of_bools: str) -> Value:
        dtype = self._same(a, b)
        kind = self._wide(register_type(dtype))
        if is_float(dtype):
            return self._fit(dtype, self.code.op(f"{of_floats} contract {kind} {a.ref}, {b.ref}"))
        return Value(dtype, self.code.op(f"{of_bools if dtype == BOOL else of_integers} {kind} {a.ref}, {b.ref}"))

    def add(self, a: Value, b: Value) -> Value:
        """a + b; of bools: or."""
        return self._binary(a, b, "fadd", "add", "or")

    def sub(self, a: Value, b: Value) -> Value:
        """a - b; of bools: a != b."""
        return self._binary(a, b, "fsub", "sub", "xor")

    def mul(self, a: Value, b: Value) -> Value:
        """a * b; of bools: and."""
        return self._binary(a, b, "fmul", "mul", "and")

    def div(self, a: Value, b: Value) -> Value:
        """a / b; of integers: truncated towards zero, x/0 = -1 (all ones), INT_MIN/-1 = INT_MIN."""
        if is_float(self._same(a, b)):
            return self._fit(a.dtype, self.code.op(f"fdiv {register_type(a.dtype)} {a.ref}, {b.ref}"))
        divisor, by_zero = self._safe_divisor(a, b)
        verb = "sdiv" if is_signed(a.dtype) else "udiv"
        quotient = Value(a.dtype, self.code.op(f"{verb} {register_type(a.dtype)} {a.ref}, {divisor.ref}"))
        return self.select(by_zero, literal(a.dtype, -1), quotient)

    def rem(self, a: Value, b: Value) -> Value:
        """a - trunc(a/b)*b, with the sign of a; of integers: x%0 = x, INT_MIN%-1 = 0."""
        kind = register_type(self._same(a, b))
        if is_float(a.dtype):
            name = "fmod" if kind == "double" else "fmodf"
            return self._fit(a.dtype, self.code.call(kind, name, (kind, a.ref), (kind, b.ref)))
        divisor, by_zero = self._safe_divisor(a, b)
        verb = "srem" if is_signed(a.dtype) else "urem"
        return self.select(by_zero, a, Value(a.dtype, self.code.op(f"{verb} {kind} {a.ref}, {divisor.ref}")))

    def _safe_divisor(self, a: Value, b: Value) -> tuple[Value, Value]:
        """``b`` with 1 wherever the machine's division would trap, and whether ``b`` is zero."""
        self._integers("div", a)
        by_zero = self.cmp("eq", b, literal(b.dtype, 0))
        traps = by_zero
        if is_signed(a.dtype):
            lowest = self.cmp("eq", a, literal(a.dtype, np.iinfo(a.dtype).min))
            traps = self.or_(traps, self.and_(lowest, self.cmp("eq", b, literal(b.dtype, -1))))
        return self.select(traps, literal(b.dtype, 1), b), by_zero

    def neg(self, x: Value) -> Value:
        """-x."""
        if is_float(self._same(x)):
            return Value(x.dtype, self.code.op(f"fneg {register_type(x.dtype)} {x.ref}"))
        self._integers("neg", x)
        return self.sub(literal(x.dtype, 0), x)

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """a*b + c with one rounding (float16, bfloat16: one in float32 and one to the dtype)."""
        if not is_float(self._same(a, b, c)):
            return self.add(self.mul(a, b), c)
        return self._intrinsic("fma", a, b, c)

    def _intrinsic(self, name: str, *xs: Value) -> Value:
        kind = register_type(xs[0].dtype)
        full = f"llvm.{name}.{_suffix(kind)}"
        return self._fit(xs[0].dtype, self.code.call(kind, full, *((kind, x.ref) for x in xs)))

    # ---- comparison and choice

    def cmp(self, op: str, a: Value, b: Value) -> Value:
        """The bool of a comparison: op is eq, ne, lt, le, gt or ge.  With NaN, ne is true and the others are false."""
        dtype = self._same(a, b)
        if op not in _COMPARISONS:
            raise ValueError(f"cmp: no such comparison, got {op!r}. Choose from {', '.join(_COMPARISONS)}.")
        kind = self._wide(register_type(dtype))
        if is_float(dtype):
            test = f"fcmp {_COMPARISONS[op]}"
        else:
            test = f"icmp {op}" if op in ("eq", "ne") else f"icmp {'s' if is_signed(dtype) else 'u'}{op}"
        return Value(BOOL, self.code.op(f"{test} {kind} {a.ref}, {b.ref}"))

    def select(self, c: Value, a: Value, b: Value) -> Value:
        """a if c else b; c is a bool, and both a and b are computed."""
        kind = self._wide(register_type(self._same(a, b)))
        if self._same(c) != BOOL:
            raise TypeError(f"select: the condition must be a bool, got {c.dtype}. Make one with s.cmp.")
        return Value(a.dtype, self.code.op(f"select {self._wide('i1')} {c.ref}, {kind} {a.ref}, {kind} {b.ref}"))

    def max(self, a: Value, b: Value) -> Value:
        """The larger one, or NaN if either is."""
        return self.or_(a, b) if a.dtype == BOOL else self._extremum("gt", a, b)

    def min(self, a: Value, b: Value) -> Value:
        """The smaller one, or NaN if either is."""
        return self.and_(a, b) if a.dtype == BOOL else self._extremum("lt", a, b)

    def _extremum(self, op: str, a: Value, b: Value) -> Value:
        """x86's maxps is ``a > b ? a : b``, which is b if that is NaN: so a constant goes first, and costs no test."""
        if not is_float(self._same(a, b)):
            return self.select(self.cmp(op, a, b), a, b)
        if b.known is not None:
            a, b = b, a
        better = self.select(self.cmp(op, a, b), a, b)
        if a.known is not None and a.known == a.known:
            return better
        return self.select(self.cmp("ne", a, a), a, better)

    # ---- bits

    def _integers(self, name: str, *xs: Value) -> None:
        if self._same(*xs).kind not in "iu":
            raise TypeError(f"{name}: integers are needed, got {[str(x.dtype) for x in xs]}. Cast them first.")

    def _bitwise(self, verb: str, a: Value, b: Value) -> Value:
        if self._same(a, b) != BOOL:
            self._integers(verb, a)
        return Value(a.dtype, self.code.op(f"{verb} {self._wide(register_type(a.dtype))} {a.ref}, {b.ref}"))

    def and_(self, a: Value, b: Value) -> Value:
        """a & b, of bools or the bits of integers."""
        return self._bitwise("and", a, b)

    def or_(self, a: Value, b: Value) -> Value:
        """a | b, of bools or the bits of integers."""
        return self._bitwise("or", a, b)

    def xor(self, a: Value, b: Value) -> Value:
        """a ^ b, of bools or the bits of integers."""
        return self._bitwise("xor", a, b)

    def not_(self, x: Value) -> Value:
        """~x, of a bool or the bits of an integer."""
        return self.xor(x, literal(self._same(x), True if x.dtype == BOOL else -1))

    def shl(self, x: Value, amount: Value) -> Value:
        """x << amount; 0 for amounts of the width or more (and negative ones)."""
        return self._shift("shl", x, amount)

    def lshr(self, x: Value, amount: Value) -> Value:
        """x >> amount with zeros shifted in; 0 for amounts of the width or more."""
        return self._shift("lshr", x, amount)

    def ashr(self, x: Value, amount: Value) -> Value:
        """x >> amount with the top bit shifted in; that bit everywhere for amounts of the width or more."""
        return self._shift("ashr", x, amount)

    def _shift(self, verb: str, x: Value, amount: Value) -> Value:
        self._integers(verb, x, amount)
        kind, width = register_type(self._same(x, amount)), 8 * x.dtype.itemsize
        inside = self.code.op(f"icmp ult {kind} {amount.ref}, {width}")
        at_most = self.code.op(f"select i1 {inside}, {kind} {amount.ref}, {kind} {width - 1}")
        shifted = self.code.op(f"{verb} {kind} {x.ref}, {at_most}")
        if verb == "ashr":
            return Value(x.dtype, shifted)
        return Value(x.dtype, self.code.op(f"select i1 {inside}, {kind} {shifted}, {kind} 0"))

    def popcount(self, x: Value) -> Value:
        """The number of bits that are 1."""
        self._integers("popcount", x)
        return self._intrinsic("ctpop", x)

    def clz(self, x: Value) -> Value:
        """The number of leading zero bits; the width for 0."""
        self._integers("clz", x)
        kind = register_type(x.dtype)
        return Value(x.dtype, self.code.call(kind, f"llvm.ctlz.{kind}", (kind, x.ref), ("i1", "false")))

    # ---- functions of one number

    def abs(self, x: Value) -> Value:
        """|x|; INT_MIN stays INT_MIN."""
        if is_float(self._same(x)):
            kind = register_type(x.dtype)
            return Value(x.dtype, self.code.call(kind, f"llvm.fabs.{_suffix(kind)}", (kind, x.ref)))
        if not is_signed(x.dtype):
            return x
        return self.select(self.cmp("lt", x, literal(x.dtype, 0)), self.neg(x), x)

    def sign(self, x: Value) -> Value:
        """-1, 0 or 1; of floats: NaN and both zeros are returned as they are."""
        dtype = self._same(x)
        zero, one = literal(dtype, 0), literal(dtype, 1)
        if is_float(dtype):
            nonzero = self.or_(self.cmp("lt", x, zero), self.cmp("gt", x, zero))
            return self.select(nonzero, self.copysign(one, x), x)
        positive = self.cast(self.cmp("gt", x, zero), x.dtype)
        return self.select(self.cmp("lt", x, zero), literal(x.dtype, -1), positive)

    def _floats(self, name: str, *xs: Value) -> np.dtype:
        if not is_float(dtype := self._same(*xs)):
            raise TypeError(f"{name}: a float is needed, got {dtype}. Cast it first.")
        return dtype

    def _rounding(self, name: str, x: Value) -> Value:
        return self._intrinsic(name, x) if is_float(self._same(x)) else x

    def floor(self, x: Value) -> Value:
        """The largest integer <= x, as a float; integers as they are, here and in the next three."""
        return self._rounding("floor", x)

    def ceil(self, x: Value) -> Value:
        """The smallest integer >= x."""
        return self._rounding("ceil", x)

    def trunc(self, x: Value) -> Value:
        """The integer part of x."""
        return self._rounding("trunc", x)

    def rint(self, x: Value) -> Value:
        """The nearest integer, ties to even."""
        return self._rounding("rint", x)

    def sqrt(self, x: Value) -> Value:
        """The square root of a float, correctly rounded; NaN below 0."""
        self._floats("sqrt", x)
        return self._intrinsic("sqrt", x)

    def copysign(self, x: Value, sign: Value) -> Value:
        """|x| with the sign of another float."""
        kind = register_type(self._same(x, sign))
        self._floats("copysign", x)
        name = f"llvm.copysign.{_suffix(kind)}"
        return Value(x.dtype, self.code.call(kind, name, (kind, x.ref), (kind, sign.ref)))

    def is_finite(self, x: Value) -> Value:
        """False for infinities and NaN."""
        if not is_float(self._same(x)):
            return literal(BOOL, True)
        return self.cmp("lt", self.abs(x), literal(x.dtype, np.inf))

    def call(self, name: str, *xs: Value) -> Value:
        """A function of floats by its name in C's library, without suffix.

        exp exp2 expm1 log log1p sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh cbrt erf erfc lgamma of
        one argument; atan2 pow nextafter of two.  Some have a version of our own that vectorises (see vecmath.py).
        """
        dtype = self._floats(name, *xs)
        if name == "nextafter" and len(xs) == 2:
            return self._nextafter(*xs)
        if LIBM.get(name) != len(xs):
            raise ValueError(
                f"call: no libm function of {len(xs)} arguments, got {name!r}. Choose from {sorted(LIBM)}."
            )
        kind = register_type(dtype)
        if name in VECTOR_FUNCTIONS:
            wide = DOUBLE if kind == "double" else FLOAT
            return self._fit(dtype, vectorised(self, name, Value(wide, xs[0].ref)).ref)
        symbol = name if kind == "double" else name + "f"
        return self._fit(dtype, self.code.call(kind, symbol, *((kind, x.ref) for x in xs)))

    def _nextafter(self, a: Value, b: Value) -> Value:
        """The neighbour of a towards b, found by counting bit patterns: they are ordered as the magnitudes are."""
        integer = np.dtype(f"i{a.dtype.itemsize}")
        zero = literal(a.dtype, 0)
        bits = self.bitcast(a, integer)
        grows = self.not_(self.xor(self.cmp("lt", a, b), self.cmp("gt", a, zero)))
        step = self.select(grows, literal(integer, 1), literal(integer, -1))
        smallest = self.bitcast(literal(integer, 1), a.dtype)
        moved = self.select(
            self.cmp("eq", a, zero), self.copysign(smallest, b), self.bitcast(self.add(bits, step), a.dtype)
        )
        moved = self.select(self.cmp("eq", a, b), b, moved)
        nan = self.or_(self.cmp("ne", a, a), self.cmp("ne", b, b))
        return self.select(nan, self.add(a, b), moved)


def _suffix(kind: str) -> str:
    return {"float": "f32", "double": "f64"}.get(kind, kind)
