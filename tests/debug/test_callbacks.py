"""debug.print, debug.callback and pure_callback: when they run, in which order, with which values."""

import os
import traceback

import numpy as np
import pytest
from error_checks import cases, check

import fgrad
import fgrad.numpy as fnp
from fgrad import debug, errors, lax
from fgrad.higher_order.callbacks import pure_callback

X = np.arange(1, 4, dtype=np.float32)


def watched(seen):
    """x -> sin(x) x, telling ``seen`` of x, of sin(x) and of a line without values."""

    def f(x):
        debug.callback(lambda v: seen.append(("x", v.tolist())), x)
        y = fnp.sin(x)
        debug.callback(lambda v: seen.append(("y", round(float(v), 4))), y)
        debug.callback(lambda: seen.append("once"))
        return y * x

    return f


def two_grads(f):
    return fgrad.grad(fgrad.grad(f))


COMPOSITIONS = {
    "eager": lambda f: f,
    "jit": fgrad.jit,
    "grad": fgrad.grad,
    "value_and_grad": fgrad.value_and_grad,
    "grad of jit": lambda f: fgrad.grad(fgrad.jit(f)),
    "jit of grad": lambda f: fgrad.jit(fgrad.grad(f)),
    "jit of grad of jit": lambda f: fgrad.jit(fgrad.grad(fgrad.jit(f))),
    "second derivative": two_grads,
    "second derivative of jit": lambda f: two_grads(fgrad.jit(f)),
    "jvp": lambda f: lambda x: fgrad.jvp(f, (x,), (x,)),
    "linearize": lambda f: lambda x: fgrad.linearize(f, x)[1](x),
    "vjp": lambda f: lambda x: fgrad.vjp(f, x)[1](x),
}


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_once_in_the_forward_pass(name):
    seen = []
    run = COMPOSITIONS[name](watched(seen))
    for _ in range(2):
        seen.clear()
        run(np.float32(1))
        assert seen == [("x", 1.0), ("y", 0.8415), "once"]


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_once_for_each_example_under_vmap(name):
    seen = []
    fgrad.vmap(COMPOSITIONS[name](watched(seen)))(X)
    assert seen == [
        ("x", 1.0), ("x", 2.0), ("x", 3.0), ("y", 0.8415), ("y", 0.9093), ("y", 0.1411), "once"
    ]  # fmt: skip


def test_nested_vmaps_go_row_by_row():
    seen = []

    def f(x, y):
        debug.callback(lambda a, b: seen.append((int(a), int(b))), x, y)
        return x

    fgrad.jit(fgrad.vmap(fgrad.vmap(f, in_axes=(None, 0)), in_axes=(0, None)))(np.arange(2), np.arange(3))
    assert seen == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    seen.clear()
    fgrad.vmap(lambda x: f(1, 2) + x)(X)  # nothing mapped reaches the callback
    assert seen == [(1, 2)]


def loop(seen):
    def step(carry, t):
        debug.callback(lambda c, t: seen.append((float(c), float(t))), carry, t)
        return carry * t, carry

    return lambda x: lax.scan(step, x, X)[0]


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_every_iteration_of_a_loop(name):
    seen = []
    COMPOSITIONS[name](loop(seen))(np.float32(1))
    assert seen == [(1.0, 1.0), (1.0, 2.0), (2.0, 3.0)]


def test_every_iteration_of_a_while_loop_and_the_branch_taken():
    seen = []

    def body(x):
        debug.callback(lambda v: seen.append(float(v)), x)
        return x + 1

    def f(x):
        return lax.cond(x > 0, lambda x: lax.while_loop(lambda x: x < 3, body, x), body, x)

    for run in (f, fgrad.jit(f)):
        run(1.0), run(-7.0)
        assert seen == [1.0, 2.0, -7.0]
        seen.clear()


def test_an_effect_is_neither_dropped_nor_merged():
    seen = []

    @fgrad.jit
    def f(x):
        debug.callback(seen.append, x)
        debug.callback(seen.append, x)
        return 0

    f(1.0)
    assert [float(s) for s in seen] == [1.0, 1.0]


def test_what_a_callback_gets():
    got = []

    def keep(*args, **kwargs):
        got.append((args, kwargs))
        return "not used"

    tree = {"a": X, "b": ("text", None, 2)}
    fgrad.jit(lambda t, y: debug.callback(keep, t, "word", scale=y, unit="m"))(tree["a"], 3.0)
    debug.callback(keep, tree)
    (args, kwargs), ((eager,), _) = got
    assert isinstance(args[0], fgrad.Array) and args[0].tolist() == X.tolist() and args[1] == "word"
    assert float(kwargs["scale"]) == 3.0 and kwargs["unit"] == "m"
    assert eager["b"][:2] == ("text", None) and isinstance(eager["b"][2], fgrad.Array)


def test_kept_values_do_not_change():
    kept = []

    @fgrad.jit
    def f(x):
        for _ in range(3):
            x = fnp.sin(x) + 1
            debug.callback(kept.append, x)
        return x

    f(X)
    want = X
    for k in kept:
        want = np.sin(want) + 1
        np.testing.assert_allclose(np.asarray(k), want, rtol=1e-6)


def test_a_callback_may_use_fgrad():
    seen = []
    g = fgrad.jit(fgrad.grad(lambda x: fnp.sum(x * x)))

    def f(x):
        debug.callback(lambda v: seen.append(g(v).tolist()), x)
        return fnp.sum(x)

    fgrad.make_jaxpr(fgrad.jit(f))(X)
    fgrad.jit(fgrad.grad(f))(X), fgrad.vmap(f)(X[None]), fgrad.grad(f)(X)
    assert seen == [[2.0, 4.0, 6.0]] * 3


def fail(v):
    raise KeyError("mine")


RAISING = {
    "eager": lambda f: f(1.0),
    "jit": lambda f: fgrad.jit(f)(1.0),
    "grad": lambda f: fgrad.grad(f)(1.0),
    "vmap": lambda f: fgrad.vmap(f)(X),
    "jit of vmap of grad": lambda f: fgrad.jit(fgrad.vmap(fgrad.grad(f)))(X),
    "scan": lambda f: fgrad.jit(lambda x: lax.scan(lambda c, t: (f(c) * t, c), x, X))(1.0),
}


@pytest.mark.parametrize("name", RAISING)
def test_errors_keep_their_class_and_traceback_and_name_the_line(name):
    def f(x):
        debug.callback(fail, x)
        return x

    with pytest.raises(KeyError, match="mine") as caught:
        RAISING[name](f)
    assert "fail" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    line = f"{os.path.abspath(__file__)}:{f.__code__.co_firstlineno + 1} (f)"
    assert caught.value.__notes__ == [f"debug.callback: raised while calling fail, for {line}"]
    assert fgrad.jit(lambda x: x + 1)(1.0) == 2.0  # the driver is as it was


def test_a_wrong_value_names_the_line():
    def f(x):
        return pure_callback(host_add, fgrad.ShapeDtypeStruct((), "int32"), x, x, vmap_method="sequential")

    with pytest.raises(TypeError, match="must return the declared dtypes") as caught:
        fgrad.jit(fgrad.vmap(f))(X)
    line = f"{os.path.abspath(__file__)}:{f.__code__.co_firstlineno + 1} (f)"
    assert caught.value.__notes__ == [f"pure_callback: raised while calling host_add, for {line}"]


def test_where_a_condition_is_mapped_both_branches_run_for_all():
    seen = []

    def tell(what, x):
        debug.callback(lambda v: seen.append((what, float(v))), x)
        return x

    def f(x):
        return lax.cond(x > 1, lambda x: tell("yes", x), lambda x: tell("no", x), x)

    for run in (fgrad.vmap(f), fgrad.jit(fgrad.vmap(f))):
        run(X[:2])
        assert seen == [("no", 1.0), ("no", 2.0), ("yes", 1.0), ("yes", 2.0)]
        seen.clear()


def test_checkpoint_does_not_repeat_an_effect():
    seen = []

    def f(x):
        debug.callback(lambda v: seen.append(float(v)), x)
        return fnp.sin(fnp.sin(x))

    for transform in (fgrad.grad, lambda f: fgrad.jit(fgrad.grad(f)), fgrad.hessian):
        transform(fgrad.checkpoint(f))(1.0)
        assert seen == [1.0]
        seen.clear()


def test_rules_of_custom_derivatives():
    seen = []

    def tell(what, x):
        debug.callback(lambda v: seen.append((what, float(v))), x)

    @fgrad.custom_vjp
    def f(x):
        tell("f", x)
        return x * 2

    def fwd(x):
        tell("fwd", x)
        return x * 2, x

    def bwd(x, ct):
        tell("bwd", ct + x)
        return (ct * 2,)

    f.defvjp(fwd, bwd)
    f(3.0), fgrad.jit(f)(4.0)
    assert seen == [("f", 3.0), ("f", 4.0)]
    seen.clear()
    for transform in (fgrad.grad, lambda f: fgrad.jit(fgrad.grad(f)), lambda f: fgrad.grad(fgrad.jit(f))):
        transform(f)(3.0)
        assert seen == [("fwd", 3.0), ("bwd", 4.0)]
        seen.clear()
    fgrad.jit(fgrad.vmap(fgrad.grad(f)))(X[:2])
    assert seen == [("fwd", 1.0), ("fwd", 2.0), ("bwd", 2.0), ("bwd", 3.0)]


# --- print -----------------------------------------------------------------------------------------------------------
def test_print(capsys):
    @fgrad.jit
    def f(x):
        debug.print("x = {:.2f}, {name} {{}} {y[a]}", x, name="word", y={"a": x * 2})
        debug.print("no values", ordered=True)
        return x

    fgrad.grad(f)(2.0)
    debug.print("{0} {0.shape}", fnp.arange(3))
    assert capsys.readouterr().out == "x = 2.00, word {} 4.0\nno values\n[0 1 2] (3,)\n"


@pytest.mark.parametrize("wrap", [lambda f: f, fgrad.jit])
def test_places_of_arrays(wrap, capsys):
    def f(x, y):
        debug.print("{:.2f} {:>5} {.shape} {[1]} {!r}", x, x, x, x, x)
        debug.print("{0:.{n}f} {1:d}", y, y.astype(int), n=3)
        debug.print("{:.1f}|{:.1f}", x.astype("bfloat16"), x[:0])
        debug.print("{}", {"x": x, "y": (y, None)})

    wrap(f)(fnp.asarray(X), fnp.float32(2.5))
    assert capsys.readouterr().out == (
        "[1.00 2.00 3.00] [  1.0   2.0   3.0] (3,) 2.0 Array([1., 2., 3.], dtype=float32)\n"
        "2.500 2\n"
        "[1.0 2.0 3.0]|[]\n"
        "{'x': Array([1., 2., 3.], dtype=float32), 'y': (Array(2.5, dtype=float32), None)}\n"
    )


def test_options_first(capsys):
    seen = []
    debug.print(ordered=True)("x = {x}", x=1)
    debug.print("{}", 2, partitioned=True)
    debug.print(skip_format_check=True)("no place", 3)
    debug.callback(ordered=True)(lambda x, *, y: seen.append((int(x), y)), 4, y="five")
    assert capsys.readouterr().out == "x = 1\n2\nno place\n" and seen == [(4, "five")]


def test_a_jaxpr_shows_what_is_printed():
    text = str(fgrad.make_jaxpr(lambda x: debug.print("x = {}", x))(X))
    assert "\n    debug_callback[callback=print 'x = {}' sizes=() mapped=((),)] a\n" in text


@cases(
    ("no format", TypeError, "debug.print: needs a format string, got 2 of type int. Write '{}'.",
     lambda: debug.print(2)),
    ("brace", ValueError,
     "debug.print: needs a format string, got '{' (Single '{' encountered in format string). Write {{ and }} for "
     "braces.", lambda: debug.print("{")),
    ("mixed", ValueError,
     "debug.print: places must be all numbered or none, got '{} {0}' (both '{}' and '{0}'). Choose one.",
     lambda: debug.print("{} {0}", 1)),
    ("missing", ValueError,
     "debug.print: every place in the format needs an argument, got none for 1, a, 2 in '{} {} {a:{}}' (1 positional "
     "and 0 named). Pass it, or write {{ and }} for braces.", lambda: debug.print("{} {} {a:{}}", 1)),
    ("unused", ValueError,
     "debug.print: every argument needs a place in the format, got none for 0, y in 'x = 1'. Write {} or {name} in a "
     "plain string (an f-string formats before there are values).", lambda: debug.print("x = 1", 1, y=2)),
    ("code", ValueError,
     "debug.print: every place in the format must fit its argument, got 'x = {:.2q}' for f32[3] (ValueError: Unknown "
     "format code 'q' for object of type 'float'). Correct the place, or compute what it shows beforehand.",
     lambda: fgrad.jit(lambda x: debug.print("x = {:.2q}", x))(X)),
    ("code of integers", ValueError,
     "debug.print: every place in the format must fit its argument, got '{:d}' for f32[] (ValueError: Unknown format "
     "code 'd' for object of type 'float'). Correct the place, or compute what it shows beforehand.",
     lambda: fgrad.vmap(lambda x: debug.print("{:d}", x))(X)),
    ("element", ValueError,
     "debug.print: every place in the format must fit its argument, got '{x[a]} {y[5]}' for dict, f32[3] (IndexError: "
     "index: must lie in [-3, 3) for axis 0, got 5 for shape (3,). Change the index.). Correct the place, or compute "
     "what it shows beforehand.", lambda: fgrad.jit(lambda x: debug.print("{x[a]} {y[5]}", x={"a": x}, y=x))(X)),
    ("attribute", ValueError,
     "debug.print: every place in the format must fit its argument, got '{.shap}' for str (AttributeError: 'str' "
     "object has no attribute 'shap'). Correct the place, or compute what it shows beforehand.",
     lambda: debug.print("{.shap}", "text")),
    ("no function", TypeError, "debug.callback: needs a function, got 3 of type int. Pass a callable.",
     lambda: debug.callback(3)),
    ("no function but arguments", TypeError,
     "debug.callback: needs a function, got None of type NoneType. Pass a callable.", lambda: debug.callback(None, 3)),
    ("no format but arguments", TypeError,
     "debug.print: needs a format string, got None of type NoneType. Write '{}'.", lambda: debug.print(None, 3)),
    ("tangent", errors.MissingBackendError,
     "debug_callback: <lambda> must be given values of the forward pass, got the tangent f32[3] (reverse mode computes "
     "cotangents, never tangents). Show the primal value, or use jvp.",
     lambda: fgrad.linear_transpose(lambda x: (debug.callback(lambda v: None, x), x)[1], X)(X)),
)  # fmt: skip
def test_messages(error, text, f):
    check(error, text, f)


# --- pure_callback ---------------------------------------------------------------------------------------------------
def host_add(x, y):
    return np.asarray(x) + np.asarray(y)


def added(x, y, shape=(), method="sequential", fun=host_add):
    return pure_callback(fun, fgrad.ShapeDtypeStruct(shape, "float32"), x, y, vmap_method=method)


def test_the_value_of_a_python_function():
    f = lambda x: added(x, 2 * x, (3,)) * 2  # noqa: E731
    for run in (f, fgrad.jit(f), fgrad.jit(fgrad.jit(f))):
        assert run(X).tolist() == [6.0, 12.0, 18.0]
    assert fgrad.eval_shape(f, X) == fgrad.ShapeDtypeStruct((3,), "float32")
    assert lax.scan(lambda c, x: (added(c, x), c), np.float32(0), X)[0] == 6.0


@pytest.mark.parametrize(
    ("method", "shapes"),
    [
        ("sequential", [((), ())] * 6),
        ("sequential_unrolled", [((), ())] * 6),
        ("expand_dims", [((1, 2), (3, 1))]),
        ("broadcast_all", [((3, 2), (3, 2))]),
    ],
)
def test_vmap_methods(method, shapes):
    seen = []

    def fun(x, y):
        seen.append((x.shape, y.shape))
        return host_add(x, y)

    f = fgrad.vmap(fgrad.vmap(lambda x, y: added(x, y, method=method, fun=fun), in_axes=(0, None)), in_axes=(None, 0))
    for run in (f, fgrad.jit(f)):
        assert run(X[:2], X).tolist() == [[2.0, 3.0], [3.0, 4.0], [4.0, 5.0]]
        assert seen == shapes
        seen.clear()


def test_legacy_vectorized_leaves_unmapped_operands_alone():
    seen = []

    def fun(x, y):
        seen.append((x.shape, y.shape))
        return host_add(x, y)

    got = fgrad.vmap(lambda x, y: added(x, y, method="legacy_vectorized", fun=fun), in_axes=(0, None))(X, 1.0)
    assert got.tolist() == [2.0, 3.0, 4.0] and seen == [((3,), ())]


def test_trees_scalars_and_unused_results():
    calls = []

    def fun(x, *, half):
        calls.append(half)
        return {"a": 1, "b": (x, True)}

    declared = {"a": fgrad.ShapeDtypeStruct((), "float64"), "b": (X, fgrad.ShapeDtypeStruct((), bool))}
    f = fgrad.jit(lambda x: pure_callback(fun, declared, x, half="word"))
    out = f(X)
    assert (out["a"].dtype, out["b"][0].tolist(), bool(out["b"][1])) == (np.float64, X.tolist(), True)
    assert not out["a"].weak_type and calls == ["word"]
    fgrad.jit(lambda x: pure_callback(fun, declared, x, half="word") and x)(X)
    assert calls == ["word"]  # nobody reads the result


def returning(value, shape=(3,), dtype="float32"):
    def made(x):
        return value

    return lambda: pure_callback(made, fgrad.ShapeDtypeStruct(shape, dtype), X)


@cases(
    ("shape", ValueError,
     "pure_callback: made must return the declared shapes, got (2,) for result 0, declared as (3,). Correct the "
     "function or result_shape_dtypes.", returning(X[:2])),
    ("dtype", TypeError,
     "pure_callback: made must return the declared dtypes, got float64 for result 0, declared as float32. Convert it "
     "with .astype('float32').", returning(np.ones(3))),
    ("kind of a scalar", TypeError,
     "pure_callback: made must return the declared dtypes, got float64 for result 0, declared as int32. Convert it "
     "with .astype('int32').", returning(1.5, (), "int32")),
    ("size of a scalar", TypeError,
     "pure_callback: made must return the declared dtypes, got int64 for result 0, declared as int32. Convert it "
     "with .astype('int32').", returning(2**40, (), "int32")),
    ("structure", errors.TreeMismatchError,
     "pure_callback: made must return the structure of result_shape_dtypes, got (*, *) for * "
     "(first difference: [0] against a leaf). Return what was declared.", returning((1, 2))),
    ("no array", TypeError,
     "pure_callback: made must return arrays, got 'text' of type str for result 0, declared as f32[3]. Return a NumPy "
     "array.", returning("text")),
    ("method", ValueError,
     "pure_callback: vmap_method must be None or one of sequential, sequential_unrolled, expand_dims, broadcast_all, "
     "legacy_vectorized, got 'loop'. Choose one of them.", lambda: added(1.0, 2.0, method="loop")),
    ("declaration", TypeError,
     "pure_callback: result_shape_dtypes must be a pytree of objects with shape and dtype, got 3 of type int. Use "
     "fgrad.ShapeDtypeStruct(shape, dtype).", lambda: pure_callback(host_add, 3)),
    ("no function", TypeError, "pure_callback: needs a function, got 3 of type int. Pass a callable.",
     lambda: pure_callback(3, X)),
    ("grad", errors.MissingBackendError,
     "pure_callback: has no jvp rule, the derivative of a Python function is not known: define it with custom_jvp or "
     "custom_vjp.", lambda: fgrad.grad(lambda x: added(x, x))(1.0)),
    ("vmap", errors.MissingBackendError,
     "pure_callback: vmap must be told how to call host_add on a batch, got vmap_method=None for a batch of 3. Give "
     "vmap_method='sequential' (one call for each example), 'expand_dims' or 'broadcast_all' (one call for all).",
     lambda: fgrad.vmap(lambda x: added(x, x, method=None))(X)),
)  # fmt: skip
def test_messages_of_pure_callback(error, text, f):
    check(error, text, f)


def test_an_operand_that_is_constant_needs_no_derivative():
    assert float(fgrad.grad(lambda x: x * added(1.0, 2.0))(2.0)) == 3.0


@pytest.mark.oracle
def test_vmap_calls_as_jax_does(jax):
    def run(lib, numpy, call, method):
        seen = []

        def fun(x, y):
            seen.append((tuple(x.shape), tuple(y.shape)))
            return np.asarray(x) + np.asarray(y)

        def f(x, y):
            return call(fun, lib.ShapeDtypeStruct((), np.float32), x, y, vmap_method=method)

        return np.asarray(lib.vmap(lib.vmap(f, (0, None)), (None, 0))(numpy.asarray(X[:2]), numpy.asarray(X))), seen

    for method in ("sequential", "expand_dims", "broadcast_all"):
        got, calls = run(fgrad, fnp, pure_callback, method)
        want, jax_calls = run(jax, jax.numpy, jax.pure_callback, method)
        np.testing.assert_array_equal(got, want)
        assert calls == jax_calls
