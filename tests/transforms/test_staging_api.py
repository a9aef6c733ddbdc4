"""make_jaxpr and eval_shape."""

import numpy as np

import fgrad
import fgrad.numpy as fnp
from fgrad import ShapeDtypeStruct


def test_make_jaxpr_takes_arrays_scalars_and_shapes():
    for x in (np.ones(3, np.float32), fnp.ones(3), ShapeDtypeStruct((3,), "float32")):
        closed = fgrad.make_jaxpr(fnp.sin)(x)
        assert str(closed) == "{ lambda ; a:f32[3]. let\n    b:f32[3] = sin a\n  in (b,) }"
    assert str(fgrad.make_jaxpr(fnp.sin)(1.0)).startswith("{ lambda ; a:f32[]~. let")


def test_make_jaxpr_of_pytrees_static_arguments_and_keywords():
    def f(p, n, *, scale):
        return {"y": p["w"] * scale, "z": (n,)}

    closed, shape = fgrad.make_jaxpr(f, static_argnums=1, return_shape=True)({"w": np.ones(2)}, 3, scale=np.float64(2))
    assert [str(a) for a in closed.in_avals] == ["f64[2]", "f64[]"]
    assert shape == {"y": ShapeDtypeStruct((2,), "float64"), "z": (ShapeDtypeStruct((), "int32"),)}


def test_dead_code_is_dropped():
    closed = fgrad.make_jaxpr(lambda x: (fnp.cos(x), fnp.sin(x))[1])(1.0)
    assert [e.primitive.name for e in closed.eqns] == ["sin"]


def test_array_constants_are_kept_once():
    c = fnp.asarray(np.ones(3))
    closed = fgrad.make_jaxpr(lambda x: x * c + c)(np.ones(3))
    assert len(closed.consts) == 1 and closed.consts[0] is c


def test_eval_shape_computes_nothing():
    huge = ShapeDtypeStruct((10**6, 10**6), "float32")
    out = fgrad.eval_shape(lambda x: (fnp.sin(x) @ x, fnp.sum(x, axis=0)), huge)
    assert out == (huge, ShapeDtypeStruct((10**6,), "float32"))


def test_eval_shape_of_grad():
    out = fgrad.eval_shape(fgrad.grad(lambda p: fnp.sum(p["w"] ** 2)), {"w": ShapeDtypeStruct((4, 5), "float64")})
    assert out == {"w": ShapeDtypeStruct((4, 5), "float64")}


def test_shape_dtype_struct():
    s = ShapeDtypeStruct([2, 3], "bfloat16")
    assert (s.shape, s.ndim) == ((2, 3), 2) and s.dtype == fgrad.bfloat16
    assert s == ShapeDtypeStruct((2, 3), fgrad.bfloat16) and hash(s) == hash(ShapeDtypeStruct((2, 3), "bfloat16"))
    assert s != ShapeDtypeStruct((2, 3), "float32")
    assert repr(s) == "ShapeDtypeStruct(shape=(2, 3), dtype=bfloat16)"
