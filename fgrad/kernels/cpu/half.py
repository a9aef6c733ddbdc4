"""Conversions of float16 and bfloat16 to and from float32 as integer arithmetic on the bits.

bfloat16 always goes this way: it is the upper half of a float32.  float16 does only on hosts without instructions for
it, where LLVM would call functions of a compiler's runtime library that need not be there.  Every function is free of
branches, so loops around it vectorise.
"""

from __future__ import annotations

from fgrad.kernels.cpu.irtext import Code


def _bits(code: Code, x: str) -> str:
    return code.op(f"bitcast float {x} to i32")


def _float(code: Code, bits: str) -> str:
    return code.op(f"bitcast i32 {bits} to float")


def _round_bits(code: Code, bits: str, drop: int) -> str:
    """Rounds away the lowest ``drop`` bits to nearest, ties to even: add just under a half, plus the bit kept last.

    A carry out of the fraction steps up the exponent, which is what rounding up to a power of two (or to inf) means.
    """
    last = code.op(f"lshr i32 {bits}, {drop}")
    last = code.op(f"and i32 {last}, 1")
    up = code.op(f"add i32 {bits}, {(1 << (drop - 1)) - 1}")
    up = code.op(f"add i32 {up}, {last}")
    return code.op(f"and i32 {up}, {-(1 << drop)}")


def bfloat_to_float(code: Code, bits: str) -> str:
    wide = code.op(f"zext i16 {bits} to i32")
    return _float(code, code.op(f"shl i32 {wide}, 16"))


def float_to_bfloat(code: Code, x: str) -> str:
    """Of a float32 that is a bfloat16 already."""
    high = code.op(f"lshr i32 {_bits(code, x)}, 16")
    return code.op(f"trunc i32 {high} to i16")


def round_to_bfloat(code: Code, x: str) -> str:
    """The float32 nearest to x that is a bfloat16; NaNs become quiet so that no payload rounds to inf."""
    bits = _bits(code, x)
    rounded = _round_bits(code, bits, 16)
    quiet = code.op(f"or i32 {bits}, {1 << 22}")
    quiet = code.op(f"and i32 {quiet}, {-(1 << 16)}")
    nan = code.op(f"fcmp uno float {x}, {x}")
    return _float(code, code.op(f"select i1 {nan}, i32 {quiet}, i32 {rounded}"))


_HALF_LIMIT = 0x47800000  # 65536.0: what rounds up to here is beyond the largest float16
_HALF_NORMAL = 0x38800000  # 2**-14, the smallest normal float16
_INFINITY = 0x7F800000


def _magnitude(code: Code, x: str) -> tuple[str, str]:
    """|x| and the sign bit of x, as i32."""
    bits = _bits(code, x)
    return code.op(f"and i32 {bits}, {0x7FFFFFFF}"), code.op(f"and i32 {bits}, {-(1 << 31)}")


def round_to_half(code: Code, x: str) -> str:
    """The float32 nearest to x that is a float16.

    Below 2**-14 float16 has steps of 2**-24, as float32 has at 0.5: (|x| + 0.5) - 0.5 rounds to such a step.
    """
    magnitude, sign = _magnitude(code, x)
    normal = _round_bits(code, magnitude, 13)
    overflow = code.op(f"icmp uge i32 {normal}, {_HALF_LIMIT}")
    normal = code.op(f"select i1 {overflow}, i32 {_INFINITY}, i32 {normal}")
    small = code.op(f"fadd float {_float(code, magnitude)}, 5.000000e-01")
    small = _bits(code, code.op(f"fsub float {small}, 5.000000e-01"))
    is_small = code.op(f"icmp ult i32 {magnitude}, {_HALF_NORMAL}")
    rounded = code.op(f"select i1 {is_small}, i32 {small}, i32 {normal}")
    signed = _float(code, code.op(f"or i32 {rounded}, {sign}"))
    nan = code.op(f"fcmp uno float {x}, {x}")
    return code.op(f"select i1 {nan}, float {x}, float {signed}")


def float_to_half(code: Code, x: str) -> str:
    """The i16 of a float32 that is a float16 already: 8 exponent bits become 5 (bias 127 -> 15), 23 fraction 10."""
    magnitude, sign = _magnitude(code, x)
    normal = code.op(f"lshr i32 {magnitude}, 13")
    normal = code.op(f"sub i32 {normal}, {112 << 10}")
    scaled = code.op(f"fmul float {_float(code, magnitude)}, 0x4170000000000000")  # 2**24
    subnormal = code.call("i32", "llvm.fptoui.sat.i32.f32", ("float", scaled))
    is_small = code.op(f"icmp ult i32 {magnitude}, {_HALF_NORMAL}")
    finite = code.op(f"select i1 {is_small}, i32 {subnormal}, i32 {normal}")
    nan = code.op(f"icmp ugt i32 {magnitude}, {_INFINITY}")
    special = code.op(f"select i1 {nan}, i32 {0x7E00}, i32 {0x7C00}")
    is_special = code.op(f"icmp uge i32 {magnitude}, {_INFINITY}")
    held = code.op(f"select i1 {is_special}, i32 {special}, i32 {finite}")
    top = code.op(f"lshr i32 {sign}, 16")
    return code.op(f"trunc i32 {code.op(f'or i32 {held}, {top}')} to i16")


def half_to_float(code: Code, bits: str) -> str:
    wide = code.op(f"zext i16 {bits} to i32")
    magnitude = code.op(f"and i32 {wide}, {0x7FFF}")
    shifted = code.op(f"shl i32 {magnitude}, 13")
    normal = code.op(f"add i32 {shifted}, {112 << 23}")
    subnormal = code.op(f"uitofp i32 {magnitude} to float")
    subnormal = _bits(code, code.op(f"fmul float {subnormal}, 0x3E70000000000000"))  # 2**-24
    is_small = code.op(f"icmp ult i32 {magnitude}, {1 << 10}")
    finite = code.op(f"select i1 {is_small}, i32 {subnormal}, i32 {normal}")
    special = code.op(f"or i32 {shifted}, {_INFINITY}")
    is_special = code.op(f"icmp uge i32 {magnitude}, {31 << 10}")
    value = code.op(f"select i1 {is_special}, i32 {special}, i32 {finite}")
    sign = code.op(f"and i32 {wide}, {1 << 15}")
    sign = code.op(f"shl i32 {sign}, 16")
    return _float(code, code.op(f"or i32 {value}, {sign}"))


def double_to_odd_float(code: Code, x: str) -> str:
    """float32 of a double, rounded to odd: towards zero, and the last bit set if anything was lost.

    With at least two spare bits below the target's, a second rounding (to 16 bits) then equals a direct one.
    """
    near = code.op(f"fptrunc double {x} to float")
    back = code.op(f"fpext float {near} to double")
    lost = code.op(f"fcmp one double {back}, {x}")
    beyond = code.op(
        f"fcmp ogt double {code.call('double', 'llvm.fabs.f64', ('double', back))}, "
        f"{code.call('double', 'llvm.fabs.f64', ('double', x))}"
    )
    bits = code.op(f"sub i32 {_bits(code, near)}, {code.op(f'zext i1 {beyond} to i32')}")
    return _float(code, code.op(f"or i32 {bits}, {code.op(f'zext i1 {lost} to i32')}"))
