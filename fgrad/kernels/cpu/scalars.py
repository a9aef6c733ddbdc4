"""What kernels do with two scalars: add, multiply, take the larger or the smaller, or overwrite.

NaN decides max and min, and which zero they return is settled by the order of the operands, so nothing here is
compiled with flags that assume more than contraction.
"""

from __future__ import annotations

from numba import njit
from numba.extending import intrinsic

#: Kinds, as the integer constants that kernels are specialised on.
KINDS = ("set", "add", "mul", "max", "min")
SET, ADD, MUL, MAX, MIN = range(5)

#: njit options of every function inlined into a kernel.  LLVM inlines it once it is optimised (not so if it is forced
#: to), and constant arguments specialise it.
INLINED = {
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
    "error_model": "numpy",
    "fastmath": {"contract"},
}


@intrinsic
def cast_to(typingctx, value, proto):
    """``(T)value`` with T the type of ``proto``: Numba computes int32 + int32 in int64, kernels wrap it back."""
    target = proto

    def codegen(context, builder, signature, args):
        return context.cast(builder, args[0], signature.args[0], target)

    return target(value, proto), codegen


@njit(**INLINED)
def beats(kind, new, old):
    """Whether ``new`` must replace ``old`` as the maximum or minimum: a tie does not, a NaN does, unless old is one."""
    better = new > old if kind == MAX else new < old
    return better | ((new != new) & (old == old))


@njit(**INLINED)
def combine(kind, old, new):
    """``old op new`` in their common type; integers wrap."""
    if kind == ADD:
        return cast_to(old + new, old)
    if kind == MUL:
        return cast_to(old * new, old)
    if kind == SET:
        return new
    better = new > old if kind == MAX else new < old
    return new if better | (new != new) else old
