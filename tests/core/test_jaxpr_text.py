"""How avals and jaxprs read."""

import numpy as np
import pytest

import fgrad
import fgrad.numpy as fnp
from fgrad import lax
from fgrad.core import dtypes
from fgrad.core.aval import ShapedArray, scalar_aval
from fgrad.core.jaxpr import walk_eqns
from fgrad.core.pretty import _letters, format_jaxpr


@pytest.mark.parametrize(
    ("aval", "text"),
    [
        (ShapedArray((), dtypes.float32), "f32[]"),
        (ShapedArray((2, 3), dtypes.bfloat16), "bf16[2,3]"),
        (ShapedArray((0,), dtypes.bool_), "bool[0]"),
        (ShapedArray((), dtypes.int64, True), "i64[]~"),
        (ShapedArray((4,), dtypes.float0), "float0[4]"),
    ],
)
def test_aval_text(aval, text):
    assert repr(aval) == text


def test_avals_compare_by_shape_dtype_and_weakness():
    a = ShapedArray((2,), dtypes.float32)
    weak = a.update(weak_type=True)
    assert a == ShapedArray((2,), dtypes.float32) and hash(a) == hash(ShapedArray((2,), dtypes.float32))
    assert a != weak and a.same_type(weak) and weak.strong() == a
    assert a != "f32[2]"
    assert ShapedArray((2,), dtypes.int32).tangent() == ShapedArray((2,), dtypes.float0)


def test_scalar_avals():
    assert scalar_aval(True) == ShapedArray((), dtypes.bool_)
    assert scalar_aval(2**31) == ShapedArray((), dtypes.int64, True)
    with pytest.raises(OverflowError) as e:
        scalar_aval(2**63)
    assert str(e.value) == f"array: a Python int must fit into 64 bits, got {2**63}. Use a float."


def text(f, *args):
    return str(fgrad.make_jaxpr(f)(*args))


def test_jaxpr_of_elementwise_operations():
    assert text(lambda x, y: lax.sin(x) * y, np.ones(3, np.float32), np.ones(3, np.float32)) == (
        "{ lambda ; a:f32[3] b:f32[3]. let\n"
        "    c:f32[3] = sin a\n"
        "    d:f32[3] = mul c b\n"
        "  in (d,) }"
    )  # fmt: skip


def test_jaxpr_with_parameters_and_literals():
    assert text(lambda x: lax.transpose(x, (1, 0)) + 2.0, np.ones((2, 3), np.float64)) == (
        "{ lambda ; a:f64[2,3]. let\n"
        "    b:f64[3,2] = transpose[permutation=(1,0)] a\n"
        "    c:f64[3,2] = broadcast_in_dim[shape=(3,2) broadcast_dimensions=()] 2.0:f64[]\n"
        "    d:f64[3,2] = add b c\n"
        "  in (d,) }"
    )


def test_jaxpr_with_constants_and_several_results():
    c = fnp.asarray(np.ones(2, np.float32))
    assert text(lambda x: (x, lax.add(x, c), 3), np.ones(2, np.float32)) == (
        "{ lambda a:f32[2] ; b:f32[2]. let\n"
        "    c:f32[2] = add b a\n"
        "  in (b, c, 3:i32[]~) }"
    )  # fmt: skip


def test_jaxpr_without_equations():
    assert text(lambda: (), *()) == "{ lambda ; . let\n  in () }"


def test_jaxpr_of_a_nested_call():
    @fgrad.jit
    def square(x):
        return lax.mul(x, x)

    assert text(lambda x: square(lax.neg(x)), np.ones(2, np.float32)) == (
        "{ lambda ; a:f32[2]. let\n"
        "    b:f32[2] = neg a\n"
        "    c:f32[2] = jit[name=square\n"
        "      jaxpr={ lambda ; a:f32[2]. let\n"
        "          b:f32[2] = mul a a\n"
        "        in (b,) }\n"
        "    ] b\n"
        "  in (c,) }"
    )


def test_bfloat16_literals_print_as_numbers():
    x = fnp.asarray(np.ones((), dtypes.bfloat16))
    assert text(lambda a: lax.add(a, fnp.asarray(1.5, dtypes.bfloat16)), x).splitlines()[1] == (
        "    b:bf16[] = add a 1.5:bf16[]"
    )


def test_source_shows_the_user_s_line():
    closed = fgrad.make_jaxpr(lambda x: lax.sin(x))(1.0)
    line = format_jaxpr(closed.jaxpr, source=True).splitlines()[1]
    assert "# " in line and "test_jaxpr_text.py:" in line and line.endswith("(<lambda>)")


def test_names_do_not_repeat():
    letters = _letters()
    names = [next(letters) for _ in range(5000)]
    assert names[:3] == ["a", "b", "c"] and names[25:29] == ["z", "aa", "ab", "ac"]
    assert len(set(names)) == len(names)


def test_walk_visits_inner_equations():
    inner = fgrad.jit(lambda x: lax.cos(x))
    closed = fgrad.make_jaxpr(lambda x: lax.sin(inner(x)))(1.0)
    seen = []
    walk_eqns(closed.jaxpr, lambda eqn: seen.append(eqn.primitive.name))
    assert seen == ["jit", "cos", "sin"]
