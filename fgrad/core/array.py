"""Array: what users hold.  ``ConcreteArray`` has a value; tracers (transforms) stand for one.

Operators and NumPy-like methods are attached by ``fgrad.numpy`` (a higher layer), so that ``a + b`` and
``fgrad.numpy.add(a, b)`` are one function.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from fgrad.core import dtypes
from fgrad.core.aval import ShapedArray, scalar_aval
from fgrad.errors import DonatedArrayError
from fgrad.kernels.quiet import quietly

LARGEST_FLOAT16 = 65504.0


class Array:
    """An immutable n-dimensional array, or a tracer standing for one.

    Every function takes NumPy arrays and Python numbers and returns Arrays.  The operators and methods are those of
    NumPy's arrays; ``x.at[index].set(v)`` returns a changed copy; ``np.asarray(x)`` is a read-only view.

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.Array.html.

    >>> import fgrad.numpy as fnp
    >>> x = fnp.arange(6.0).reshape(2, 3)
    >>> x, x.shape, x.dtype
    (Array([[0., 1., 2.],
           [3., 4., 5.]], dtype=float32), (2, 3), dtype('float32'))
    """

    __slots__ = ()
    __array_priority__ = 1000  # numpy_array + Array calls Array.__radd__

    aval: Any

    @property
    def shape(self) -> tuple[int, ...]:
        return self.aval.shape

    @property
    def dtype(self) -> np.dtype:
        return self.aval.dtype

    @property
    def ndim(self) -> int:
        return len(self.aval.shape)

    @property
    def size(self) -> int:
        return self.aval.size

    @property
    def weak_type(self) -> bool:
        return self.aval.weak_type

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def __hash__(self):
        raise TypeError(
            f"hash: an Array is not hashable, got {self.aval}: arrays compare element by element. "
            "Use a tuple of its values, id(x), or pass it as an ordinary (not static) argument."
        )

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        return self

    if TYPE_CHECKING:  # attached by fgrad.numpy, or defined by the subclasses

        def __neg__(self) -> Array: ...
        def __add__(self, other: Any) -> Array: ...
        def __getitem__(self, index: Any) -> Array: ...
        def __len__(self) -> int: ...
        def __iter__(self) -> Iterator[Array]: ...
        def __bool__(self) -> bool: ...
        def __int__(self) -> int: ...
        def __index__(self) -> int: ...
        def __float__(self) -> float: ...
        def __complex__(self) -> complex: ...

        __pos__ = __abs__ = __invert__ = __neg__
        __sub__ = __mul__ = __truediv__ = __floordiv__ = __mod__ = __pow__ = __matmul__ = __add__
        __radd__ = __rsub__ = __rmul__ = __rtruediv__ = __rfloordiv__ = __rmod__ = __rpow__ = __rmatmul__ = __add__
        __and__ = __or__ = __xor__ = __lshift__ = __rshift__ = __add__
        __rand__ = __ror__ = __rxor__ = __rlshift__ = __rrshift__ = __add__
        __lt__ = __le__ = __gt__ = __ge__ = __add__
        __eq__ = __ne__ = __add__  # type: ignore[assignment]


class Form:
    """A shape, dtype and weakness: one object for all arrays that have them, so that it is compared by identity."""

    __slots__ = ("__weakref__", "key")

    def __init__(self, key: tuple[tuple[int, ...], np.dtype, bool]):
        self.key = key


_forms: weakref.WeakValueDictionary[Any, Form] = weakref.WeakValueDictionary()


def form(shape: tuple[int, ...], dtype: np.dtype, weak: bool) -> Form:
    """The one Form of these."""
    key = (shape, dtype, weak)
    known = _forms.get(key)
    return _forms.setdefault(key, Form(key)) if known is None else known


class ConcreteArray(Array):
    """An array with a value.  It owns its buffer (or shares it with other Arrays) and never changes it.

    ``_form`` is known (not None) only where the value is C-contiguous: what a program can read as it is.
    """

    __slots__ = ("_aval", "_form", "_value", "_weak")

    _value: np.ndarray
    _weak: bool
    _form: Form | None
    _aval: ShapedArray | None  # made when it is first asked for

    def __init__(self, value: np.ndarray, weak: bool = False, form: Form | None = None):
        self._value = value
        self._weak = weak
        self._form = form
        self._aval = None

    def find_form(self) -> Form | None:
        """``_form``, found out now; None if the value is not contiguous."""
        value = self._value
        if value.flags.c_contiguous:
            self._form = form(value.shape, value.dtype, self._weak)
        return self._form

    @property
    def aval(self) -> ShapedArray:
        known = self._aval
        if known is None:
            value = self._value
            self._aval = known = ShapedArray(value.shape, value.dtype, self._weak)
        return known

    @property
    def shape(self):
        return self._value.shape

    @property
    def dtype(self):
        return self._value.dtype

    @property
    def ndim(self):
        return self._value.ndim

    @property
    def size(self):
        return self._value.size

    @property
    def weak_type(self):
        return self._weak

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        if copy or (dtype is not None and np.dtype(dtype) != self._value.dtype):
            if copy is False:
                raise ValueError(f"asarray: {self.dtype} to {np.dtype(dtype)} needs a copy, got copy=False. Drop it.")
            return np.array(self._value, dtype=dtype)
        view = self._value.view()
        view.flags.writeable = False
        return view

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ValueError(
                f"bool: the truth value of an Array of shape {self.shape} is ambiguous "
                f"({self.size} elements). Use .any() or .all()."
            )
        return bool(self._value)

    def __int__(self) -> int:
        return int(self._real_item("int"))

    def __float__(self) -> float:
        return float(self._real_item("float"))

    def _real_item(self, what: str) -> Any:
        if self.dtype.kind in "cV" and self.dtype != dtypes.bfloat16:
            raise TypeError(f"{what}: only a real number becomes one, got {self.aval}. Take x.item().real.")
        value = self.item()
        if what == "int" and not math.isfinite(value):
            raise OverflowError(f"int: only a finite number is an integer, got {value}. Replace it with where first.")
        return value

    def __complex__(self) -> complex:
        if self.dtype == dtypes.float0:
            raise TypeError(f"complex: only a number becomes one, got {self.aval}. Leave it out.")
        return complex(self.item())

    def __index__(self) -> int:
        if self.ndim != 0 or not dtypes.is_integer(self.dtype):
            raise TypeError(f"index: only an integer scalar is an index, got {self.aval}. Use int(x) or .item().")
        return int(self._value)

    def item(self, *index: int) -> Any:
        """The one element as a Python scalar (or the element at an index)."""
        if not index and self.size != 1:
            raise ValueError(f"item: needs exactly one element, got shape {self.shape}. Index it first.")
        try:
            out = self._value.item(*index)
        except (IndexError, ValueError, TypeError, OverflowError):
            raise IndexError(
                f"item: needs an index for each axis, or one for the elements in row-major order, got {index} for "
                f"shape {self.shape}. Change the index."
            ) from None
        return float(out) if self.dtype == dtypes.bfloat16 else out

    def tolist(self) -> Any:
        value = self._value.astype(np.float32) if self.dtype == dtypes.bfloat16 else self._value
        return value.tolist()

    def block_until_ready(self) -> ConcreteArray:
        """Itself: values are ready when a call returns (kept for programs written for JAX)."""
        return self

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        # Consumers write through the capsule (PyTorch does even where it is flagged read-only), so they get memory of
        # their own, but for one that insists on sharing.
        if copy is not False:
            return np.array(self._value, order="C").__dlpack__(max_version=max_version, dl_device=dl_device)
        value = self._value.view()
        value.flags.writeable = False
        return value.__dlpack__(max_version=max_version, dl_device=dl_device)

    def __dlpack_device__(self):
        return self._value.__dlpack_device__()

    def __reduce__(self):
        return _rebuild, (np.asarray(self._value, order="C"), self._weak)

    def __repr__(self) -> str:
        body = np.array2string(self._value, separator=", ", prefix="Array(")
        weak = ", weak_type=True" if self._weak else ""
        return f"Array({body}, dtype={self.dtype}{weak})"

    def __str__(self) -> str:
        return str(self._value)

    def __format__(self, spec: str) -> str:
        return format(self.item() if self.ndim == 0 else str(self), spec)


class DonatedArray(ConcreteArray):
    """What a ConcreteArray becomes when its memory was donated: every use is an error."""

    __slots__ = ()

    def __getattribute__(self, name: str):
        if name in ("__class__", "__repr__", "aval", "shape", "dtype", "ndim", "_aval"):
            return object.__getattribute__(self, name)
        raise donated_error(self, "Array" if name.startswith("_") else name)

    shape = property(lambda self: self._aval.shape)
    dtype = property(lambda self: self._aval.dtype)
    ndim = property(lambda self: len(self._aval.shape))

    def __repr__(self) -> str:
        return f"Array(<donated>, {self.aval})"


def donate(array: ConcreteArray) -> None:
    """Gives the array's memory away: from now on it holds none, and every use is an error."""
    array._aval = array.aval
    del array._value
    array.__class__ = DonatedArray


def donated_error(array: Array, who: str) -> DonatedArrayError:
    return DonatedArrayError(
        f"{who}: an Array that was donated to a jitted call must not be used again, got {array.aval} (donate_argnums: "
        "its memory was given away). Use the call's result, or do not donate the argument."
    )


def _rebuild(value: np.ndarray, weak: bool) -> ConcreteArray:
    return ConcreteArray(value, weak)


def from_numpy(x: Any, dtype: np.dtype | None = None) -> ConcreteArray:
    """An Array holding its own copy of ``x`` (the owner may change ``x`` afterwards), in native byte order."""
    x = np.asarray(x)
    return ConcreteArray(np.array(x, dtype=dtypes.canonical(x.dtype if dtype is None else dtype), order="C"))


def from_scalar(x: Any) -> ConcreteArray:
    """A weakly typed 0-d Array of a Python scalar."""
    aval = scalar_aval(x)
    return ConcreteArray(scalar_value(x, aval.dtype), type(x) is not bool)


def scalar_value(x: Any, dtype: np.dtype) -> np.ndarray:
    """A Python number in a dtype: infinite where a float's range is too small for it, without a warning."""
    if type(x) is complex or not -LARGEST_FLOAT16 <= x <= LARGEST_FLOAT16:
        return quietly(np.asarray, x, dtype)
    return np.asarray(x, dtype)


def lift(x: Any, who: str = "fgrad") -> Array:
    """An Array (possibly a tracer) from what users pass: Array, NumPy array or scalar, Python scalar."""
    if type(x) is ConcreteArray:
        return x
    if isinstance(x, Array):
        if type(x) is DonatedArray:
            raise donated_error(x, who)
        return x
    if type(x) in (bool, int, float, complex):
        return from_scalar(x)
    if isinstance(x, (np.ndarray, np.generic)):
        return from_numpy(x)
    if isinstance(x, (bool, int, float, complex)):
        kinds: tuple[Any, ...] = (bool, int, float, complex)
        return from_scalar(next(kind(x) for kind in kinds if isinstance(x, kind)))  # a subclass, an IntEnum say
    if hasattr(x, "__array__"):
        return from_numpy(np.asarray(x))
    raise TypeError(
        f"{who}: operands must be arrays or scalars, got {x!r} of type {type(x).__name__}. "
        "Convert lists and tuples with fgrad.numpy.asarray."
    )


def aval_of(x: Any) -> ShapedArray:
    """The aval of anything ``lift`` accepts, without copying it."""
    if isinstance(x, Array):
        return x.aval
    if type(x) in (bool, int, float, complex):
        return scalar_aval(x)
    if isinstance(x, (np.ndarray, np.generic)):
        return ShapedArray(x.shape, dtypes.canonical(x.dtype))
    return lift(x).aval
