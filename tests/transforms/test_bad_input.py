"""What users pass by mistake to vmap, jvp, vjp, linear_transpose and grad, and to loops and branches: whole messages.

Those of structures, shapes and dtypes that every program meets are in tests/test_errors.py; those of loops and
branches in tests/higher_order/test_control_flow_errors.py; those of collectives in test_collectives_errors.py.
"""

import numpy as np
from error_checks import cases, check

import fgrad
import fgrad.numpy as fnp
from fgrad import errors, lax

X = np.ones(3, np.float32)
XS = np.ones((4, 3), np.float32)


def double(x):
    return x * 2


def parts(x):
    return {"a": x * 2, "b": [x.sum(), x]}


def affine(params, x):
    return params["w"] @ x + params["b"]


def pull_of(f):
    return fgrad.vjp(f, X)[1]


# --- vmap ------------------------------------------------------------------------------------------------------------
@cases(
    ("too many in_axes", errors.TreeMismatchError,
     "vmap: in_axes must be an int, None or a prefix of the positional arguments' structure, got (0, 0) for double "
     "called with 1 argument. Give one entry for each argument.",
     lambda: fgrad.vmap(double, in_axes=(0, 0))(X)),
    ("in_axes by name", errors.TreeMismatchError,
     "vmap: in_axes must be an int, None or a prefix of the positional arguments' structure, got {'params': 0, 'x': "
     "0} for affine called with 2 arguments. Give one entry for each argument.",
     lambda: fgrad.vmap(affine, in_axes={"params": 0, "x": 0})({"w": XS, "b": X}, X)),
    ("in_axes of other keys", errors.TreeMismatchError,
     "vmap: in_axes must be an int, None or a prefix of its argument's structure, got {'weight': 0} for argument "
     "'params' of affine of structure {'b': *, 'w': *}. Use one axis for all of it, or the same containers and keys.",
     lambda: fgrad.vmap(affine, in_axes=({"weight": 0}, 0))({"w": XS, "b": X}, X)),
    ("in_axes of another container", errors.TreeMismatchError,
     "vmap: in_axes must be an int, None or a prefix of its argument's structure, got [0, 0] for argument 'x' of "
     "double of structure (*, *). Use one axis for all of it, or the same containers and keys.",
     lambda: fgrad.vmap(double, in_axes=([0, 0],))((X, X))),
    ("in_axes for an array's axes", errors.TreeMismatchError,
     "vmap: in_axes must be an int, None or a prefix of its argument's structure, got (0, 1) for argument 'x' of "
     "double of structure *. Use one axis for all of it, or the same containers and keys.",
     lambda: fgrad.vmap(double, in_axes=((0, 1),))(XS)),
    ("a bool as an axis", TypeError,
     "vmap: in_axes must hold ints or None, got True in (True,). Use axis numbers.",
     lambda: fgrad.vmap(double, in_axes=(True,))(X)),
    ("a float as an axis", TypeError,
     "vmap: in_axes must hold ints or None, got 0.0 in 0.0. Use axis numbers.",
     lambda: fgrad.vmap(double, in_axes=0.0)(X)),
    ("a list of numbers", ValueError,
     "vmap: in_axes must be an axis of its argument, got 0 for argument 'x'[0] of double of shape () (0 axes). Use "
     "None for a scalar.",
     lambda: fgrad.vmap(double)([1.0, 2.0])),
    ("a keyword argument's size", ValueError,
     "vmap: mapped axes must have one size, got 4 for 'x' of <lambda> (shape (4, 3), axis 0); 3 for 'scale' of "
     "<lambda> (shape (3,), axis 0). Change the arguments or in_axes.",
     lambda: fgrad.vmap(lambda x, scale: x * scale)(XS, scale=X)),
    ("axis_size", ValueError,
     "vmap: mapped axes must have one size, got 3 for 'x' of double (shape (3,), axis 0); 5 for axis_size. Change the "
     "arguments or in_axes.",
     lambda: fgrad.vmap(double, axis_size=5)(X)),
    ("axis_size of another kind", TypeError,
     "vmap: axis_size must be an int of at least 0 or None, got 3.0. Pass the number of examples.",
     lambda: fgrad.vmap(double, axis_size=3.0)),
    ("no argument", ValueError,
     "vmap: at least one argument must be mapped, got in_axes that are all None for <lambda>. Map an argument, or "
     "give axis_size.",
     lambda: fgrad.vmap(lambda: 1)()),
    ("out_axes of other keys", errors.TreeMismatchError,
     "vmap: out_axes must be a prefix of the result's structure, got {'c': 0} for {'a': *, 'b': [*, *]} from parts. "
     "Use an int, None, or a matching tuple or dict.",
     lambda: fgrad.vmap(parts, out_axes={"c": 0})(XS)),
    ("out_axes of another kind", TypeError,
     "vmap: out_axes must hold ints or None, got '0'. Use axis numbers.",
     lambda: fgrad.vmap(double, out_axes="0")(X)),
    ("out_axes out of range", ValueError,
     "vmap: out_axes must be an axis of the mapped result, got 2 for a result of double with 2 axes. Use an axis in "
     "[-2, 2).",
     lambda: fgrad.vmap(double, out_axes=2)(XS)),
    ("a result that is no array", TypeError,
     "vmap: <lambda> must return arrays or pytrees of them, got 'a' of type str for its output. Return arrays, or "
     "leave the value out.",
     lambda: fgrad.vmap(lambda x: "a")(X)),
)  # fmt: skip
def test_vmap(error, text, f):
    check(error, text, f)


# --- cotangents ------------------------------------------------------------------------------------------------------
@cases(
    ("shape", ValueError,
     "vjp: each cotangent must have the shape and dtype of its result, got f32[4] for the result of type f32[3]. "
     "Reshape or convert the cotangent.",
     lambda: pull_of(double)(np.ones(4, np.float32))),
    ("integer", ValueError,
     "vjp: each cotangent must have the shape and dtype of its result, got i32[3] for the result of type f32[3]. "
     "Reshape or convert the cotangent.",
     lambda: pull_of(double)(np.ones(3, np.int32))),
    ("complex", ValueError,
     "vjp: each cotangent must have the shape and dtype of its result, got c64[3] for the result of type f32[3]. "
     "Reshape or convert the cotangent.",
     lambda: pull_of(double)(X + 1j)),
    ("one leaf's shape", ValueError,
     "vjp: each cotangent must have the shape and dtype of its result, got f32[2] for result['b'][1] of type f32[3]. "
     "Reshape or convert the cotangent.",
     lambda: pull_of(parts)({"a": X, "b": [np.float32(1), np.ones(2, np.float32)]})),
    ("keys", errors.TreeMismatchError,
     "vjp: the cotangent must have the structure of the result, got {'a': *, 'c': [*, *]} for {'a': *, 'b': [*, *]} "
     "(first difference: ['c'][0] against ['b'][0]). Pass one array for each result.",
     lambda: pull_of(parts)({"a": X, "c": [1.0, X]})),
    ("containers", errors.TreeMismatchError,
     "vjp: the cotangent must have the structure of the result, got [*, *] for (*, *) (the same leaves in different "
     "containers). Pass one array for each result.",
     lambda: pull_of(lambda x: (x, x))([X, X])),
    ("None", errors.TreeMismatchError,
     "vjp: the cotangent must have the structure of the result, got None for * (first difference: only the second "
     "tree has a leaf). Pass one array for each result.",
     lambda: pull_of(double)(None)),
    ("no array", TypeError,
     "vjp: each cotangent must be an array, got 'a' of type str for the result of type f32[3]. Pass an array of that "
     "type.",
     lambda: pull_of(double)("a")),
    ("two cotangents", TypeError,
     "vjp: the transposed function takes one cotangent, of the structure of the result, got 2 arguments for (*, *). "
     "Pass one pytree.",
     lambda: pull_of(lambda x: (x, x))(X, X)),
    ("an integer result's", TypeError,
     "vjp: the cotangent of an integer or boolean result must be a float0 array of its shape, got 1.0 for result[1] "
     "of type i32[]~. Pass numpy.zeros((), fgrad.float0).",
     lambda: pull_of(lambda x: (x, 3))((X, 1.0))),
    ("linear_transpose, shape", ValueError,
     "linear_transpose: each cotangent must have the shape and dtype of its result, got f64[3] for the result of type "
     "f32[3]. Reshape or convert the cotangent.",
     lambda: fgrad.linear_transpose(double, X)(np.ones(3))),
    ("linear_transpose, structure", errors.TreeMismatchError,
     "linear_transpose: the cotangent must have the structure of the result, got (*,) for * (first difference: [0] "
     "against a leaf). Pass one array for each result.",
     lambda: fgrad.linear_transpose(double, X)((X,))),
    ("linear_transpose, count", TypeError,
     "linear_transpose: the transposed function takes one cotangent, of the structure of the result, got 0 arguments "
     "for *. Pass one pytree.",
     lambda: fgrad.linear_transpose(double, X)()),
    ("linear_transpose of integers", TypeError,
     "linear_transpose: arguments must be floating-point or complex, got i64[3] for 'x' of double. Convert it with "
     ".astype, or close over the value.",
     lambda: fgrad.linear_transpose(double, np.arange(3))),
)  # fmt: skip
def test_cotangents(error, text, f):
    check(error, text, f)


NOT_LINEAR = (
    "has no transpose in an integer or boolean operand, got {} that depends on the arguments (the result is not linear "
    "in them). Use vjp for functions that are not linear."
)


@cases(
    ("a condition", errors.MissingBackendError,
     "select_n: " + NOT_LINEAR.format("bool[3]"),
     lambda: fgrad.linear_transpose(lambda x: fnp.where(x > 0, x, 0.0), X)),
    ("a predicate", errors.MissingBackendError,
     "cond: " + NOT_LINEAR.format("i32[]"),
     lambda: fgrad.linear_transpose(lambda x: lax.cond(x[0] > 0, double, lambda x: x, x), X)),
    ("an index", errors.MissingBackendError,
     "gather: " + NOT_LINEAR.format("i32[3,1]"),
     lambda: fgrad.linear_transpose(lambda x: fnp.arange(3.0)[x.astype("int32")], X)),
    ("rounding", errors.MissingBackendError,
     "convert_element_type: " + NOT_LINEAR.format("i32[3]"),
     lambda: fgrad.linear_transpose(lambda x: x.astype("int32").astype("float32"), X)),
    ("a function", errors.MissingBackendError,
     "sin: has no transpose rule, it is not linear in any operand. Use vjp for functions that are not linear.",
     lambda: fgrad.linear_transpose(fnp.sin, X)(X)),
    ("a square", errors.MissingBackendError,
     "mul: has no transpose in both operands at once, got two values that depend on the arguments (it is linear only "
     "in each). Use vjp for functions that are not linear.",
     lambda: fgrad.linear_transpose(lambda x: x * x, X)(X)),
)  # fmt: skip
def test_functions_that_are_not_linear(error, text, f):
    check(error, text, f)


def test_a_counter_beside_a_linear_value_is_no_error():
    def powers(x):
        return lax.scan(lambda c, _: ((c[0] + 1, c[1] * c[0]), None), (1, x), None, length=3)[0][1]

    (ct,) = fgrad.linear_transpose(powers, X)(X)
    assert ct.tolist() == [6.0, 6.0, 6.0]


# --- tangents --------------------------------------------------------------------------------------------------------
@cases(
    ("jvp, count", errors.TreeMismatchError,
     "jvp: tangents must have the structure of the primals, got (*, *) for (*,) (first difference: only the first "
     "tree has [1]). Pass one tangent for each primal.",
     lambda: fgrad.jvp(double, (X,), (X, X))),
    ("jvp, one leaf's shape", ValueError,
     "jvp: each tangent must have the shape and dtype of its primal, got f32[2] for 'params'['b'] of affine of type "
     "f32[4]. Reshape or convert the tangent.",
     lambda: fgrad.jvp(affine, ({"w": XS, "b": XS[:, 0]}, X), ({"w": XS, "b": X[:2]}, X))),
    ("jvp, dtype", ValueError,
     "jvp: each tangent must have the shape and dtype of its primal, got f64[3] for 'x' of double of type f32[3]. "
     "Reshape or convert the tangent.",
     lambda: fgrad.jvp(double, (X,), (np.ones(3),))),
    ("jvp, None", errors.TreeMismatchError,
     "jvp: tangents must have the structure of the primals, got (None,) for (*,) (first difference: only the second "
     "tree has [0]). Pass one tangent for each primal.",
     lambda: fgrad.jvp(double, (X,), (None,))),
    ("jvp, no array", TypeError,
     "jvp: each tangent must be an array, got 'a' of type str for 'x' of double of type f32[3]. Pass an array of that "
     "type.",
     lambda: fgrad.jvp(double, (X,), ("a",))),
    ("jvp, a dict of primals", TypeError,
     "jvp: primals must be a tuple or list, got dict. Write (primal,).",
     lambda: fgrad.jvp(double, {"x": X}, {"x": X})),
    ("linearize, shape", ValueError,
     "linearize: each tangent must have the shape and dtype of its primal, got f32[4] for 'x' of double of type "
     "f32[3]. Reshape or convert the tangent.",
     lambda: fgrad.linearize(double, X)[1](np.ones(4, np.float32))),
    ("linearize, no array", TypeError,
     "linearize: each tangent must be an array, got 'a' of type str for 'x' of double of type f32[3]. Pass an array "
     "of that type.",
     lambda: fgrad.linearize(double, X)[1]("a")),
    ("argnums of another kind", TypeError,
     "grad: argnums must be an int or a sequence of ints, got 0.0. Count the positional arguments from 0.",
     lambda: fgrad.grad(double, argnums=0.0)(1.0)),
    ("argnums twice", ValueError,
     "grad: argnums must be distinct, got (0, -1) ((0, 0) counted from 0). Name each argument once.",
     lambda: fgrad.grad(double, argnums=(0, -1))(1.0)),
    ("argnums of a Jacobian twice", ValueError,
     "jacrev: argnums must be distinct, got (0, 0) ((0, 0) counted from 0). Name each argument once.",
     lambda: fgrad.jacrev(double, argnums=(0, 0))(X)),
)  # fmt: skip
def test_tangents_and_argnums(error, text, f):
    check(error, text, f)


# --- loops and branches ----------------------------------------------------------------------------------------------
@cases(
    ("three results of a body", TypeError,
     "scan: the body must return a pair (carry, y), got tuple of 3 values from <lambda>. Return two values; y may be "
     "None.",
     lambda: lax.scan(lambda c, x: (c, x, x), X, XS)),
    ("a carry that was None", errors.TreeMismatchError,
     "scan: the carry that <lambda> returns must have the structure of init, got * for None (first difference: only "
     "the first tree has a leaf). Return a carry of the structure it came in.",
     lambda: lax.scan(lambda c, x: (x, x), None, XS)),
    ("another container", errors.TreeMismatchError,
     "scan: the carry that <lambda> returns must have the structure of init, got [*, *] for (*, *) (the same leaves in "
     "different containers). Return a carry of the structure it came in.",
     lambda: lax.scan(lambda c, x: (list(c), x), (X, X), XS)),
    ("a sum that grows", TypeError,
     "scan: the carry must have the same type after a step as before it, got from <lambda> f32[3] for init of type "
     "f32[] (shapes (3,) and ()). Convert what <lambda> returns, or init.",
     lambda: lax.scan(lambda c, x: (c + x, None), np.float32(0), XS)),
    ("three lengths", ValueError,
     "scan: all arrays of xs must have one leading size, got 4 for xs[0] (shape (4, 3)) and 3 for xs[1] (shape (3,)) "
     "and 2 for xs[2] (shape (2,)). Slice them to one length.",
     lambda: lax.scan(lambda c, x: (c, x), 0.0, (XS, X, X[:2]))),
    ("a range", TypeError,
     "scan: arguments must be arrays, scalars or pytrees of them, got range(0, 3) of type range in argument xs. Pass "
     "arrays, or close over the value.",
     lambda: lax.scan(lambda c, x: (c, x), 0.0, range(3))),
    ("a bool bound", TypeError,
     "fori_loop: lower must be an integer scalar, got bool[]. Convert it with int or .astype.",
     lambda: lax.fori_loop(True, 3, lambda i, c: c, 0)),
    ("no bound", TypeError,
     "fori_loop: upper must be an integer scalar, got None of type NoneType. Convert it with int or .astype.",
     lambda: lax.fori_loop(0, None, lambda i, c: c, 0)),
    ("an assignment", TypeError,
     "setitem: an Array never changes, got an assignment to x[0] of f32[3]. Use x = x.at[index].set(value).",
     lambda: lax.fori_loop(0, 3, lambda i, c: c.__setitem__(0, 1.0), X)),
    ("a condition of a list", TypeError,
     "while_loop: cond_fun must return a bool scalar, got [*] from <lambda>. Return one comparison.",
     lambda: lax.while_loop(lambda c: [c < 3], lambda c: c + 1, 0)),
    ("a condition of one element", TypeError,
     "while_loop: cond_fun must return a bool scalar, got bool[1] from <lambda>. Compare the value with something, and "
     "reduce an array with .any() or .all().",
     lambda: lax.while_loop(lambda c: c < 3, lambda c: c + 1, np.zeros(1, np.int32))),
    ("no condition's function", TypeError,
     "while_loop: needs a function, got 0.0 of type float. Pass a callable.",
     lambda: lax.while_loop(0.0, double, lambda c: c < 3)),
    ("no predicate", TypeError,
     "cond: pred must be a bool scalar, got None of type NoneType. Reduce an array with .any() or .all(), or use "
     "fgrad.numpy.where to choose element by element.",
     lambda: lax.cond(None, double, double, X)),
    ("values for functions", TypeError,
     "cond: needs a function, got 1.0 of type float. Pass a callable.",
     lambda: lax.cond(True, 1.0, 2.0)),
    ("one branch returns nothing", errors.TreeMismatchError,
     "cond: all branches must return the same structure, got * from true_fun and None from false_fun (first "
     "difference: only the first tree has a leaf). Return the same parts from each.",
     lambda: lax.cond(True, double, lambda x: None, X)),
    ("a switch of one function", TypeError,
     "switch: branches must be a sequence of functions, got <function double> of type function. Pass a list or tuple "
     "of them.",
     lambda: lax.switch(0, double, X)),
    ("a switch of a dict", TypeError,
     "switch: branches must be a sequence of functions, got {0: None} of type dict. Pass a list or tuple of them.",
     lambda: lax.switch(0, {0: None}, X)),
    ("structures of three branches", errors.TreeMismatchError,
     "switch: all branches must return the same structure, got * from branches[0] and (*,) from branches[1] (first "
     "difference: a leaf against [0]). Return the same parts from each.",
     lambda: lax.switch(0, [double, lambda x: (x,), double], X)),
    ("select's shapes", ValueError,
     "select: pred must be a scalar or have the one shape of the arrays, got (), (3,) and (4, 3). Broadcast them, or "
     "use fgrad.numpy.where.",
     lambda: lax.select(True, X, XS)),
    ("select's dtypes", TypeError,
     "select: the arrays must have equal dtypes, got float32 and float64. Convert one with .astype, or use "
     "fgrad.numpy.where.",
     lambda: lax.select(True, X, np.ones(3))),
)  # fmt: skip
def test_loops_and_branches(error, text, f):
    check(error, text, f)


WHILE = (
    "while_loop: reverse mode needs the number of steps before the loop runs, got a loop that ends by a condition on "
    "its values (it would have to store every step). Use scan or fori_loop with bounds that are Python ints, give the "
    "loop a derivative of its own with custom_vjp, or use forward mode (jvp, jacfwd)."
)


def grown(x):
    return lax.while_loop(lambda c: c < 3, double, x)


@cases(
    *(
        (name, errors.ReverseModeError, WHILE, f)
        for name, f in {
            "vjp": lambda: fgrad.vjp(grown, 1.0)[1](1.0),
            "jacrev": lambda: fgrad.jacrev(grown)(1.0),
            "hessian": lambda: fgrad.hessian(grown)(1.0),
            "linear_transpose": lambda: fgrad.linear_transpose(
                lambda x: lax.while_loop(lambda c: c[1] < 3, lambda c: (c[0] * 2, c[1] + 1), (x, 0))[0], X
            )(X),
            "under vmap": lambda: fgrad.vmap(fgrad.grad(grown))(X),
            "of vmap": lambda: fgrad.grad(lambda x: fgrad.vmap(grown)(x).sum())(X),
            "under jit": lambda: fgrad.jit(fgrad.grad(grown))(1.0),
            "of a scan around it": lambda: fgrad.grad(lambda x: lax.scan(lambda c, _: (grown(c), c), x, None, 3)[0])(
                1.0
            ),
            "of a branch": lambda: fgrad.grad(lambda x: lax.cond(x > 0, grown, double, x))(1.0),
            "of a checkpoint": lambda: fgrad.grad(fgrad.checkpoint(grown))(1.0),
        }.items()
    )
)
def test_reverse_mode_through_a_while_loop(error, text, f):
    check(error, text, f)


# --- collectives -----------------------------------------------------------------------------------------------------
def over_i(f):
    return lambda: fgrad.vmap(f, axis_name="i")(XS)


@cases(
    ("no name", TypeError,
     "psum: axis_name must be a hashable name or a tuple of them, got None of type NoneType. Use the name given to "
     "vmap(..., axis_name=...).",
     over_i(lambda x: lax.psum(x, None))),
    ("a set of names", TypeError,
     "psum: axis_name must be a hashable name or a tuple of them, got {'i'} of type set. Use the name given to "
     "vmap(..., axis_name=...).",
     over_i(lambda x: lax.psum(x, {"i"}))),
    ("a name inside of jit", errors.UnboundAxisError,
     "psum: axis_name must be the name of an enclosing vmap's axis, got 'i' (names here: none). Call it inside "
     "vmap(..., axis_name='i').",
     lambda: fgrad.jit(lambda x: lax.psum(x, "i"))(X)),
    ("a name inside of scan", errors.UnboundAxisError,
     "psum: axis_name must be the name of an enclosing vmap's axis, got 'j' (names here: 'i'). Call it inside "
     "vmap(..., axis_name='j').",
     over_i(lambda x: lax.scan(lambda c, y: (c, lax.psum(y, "j")), 0.0, x))),
    ("no permutation", TypeError,
     "pshuffle: perm must be a sequence of ints, got None. Write [1, 2, 0].",
     over_i(lambda x: lax.pshuffle(x, "i", None))),
    ("a permutation of names", TypeError,
     "pshuffle: perm must be a sequence of ints, got [0, 'a', 1, 2]. Write [1, 2, 0].",
     over_i(lambda x: lax.pshuffle(x, "i", [0, "a", 1, 2]))),
    ("an axis that is no number", TypeError,
     "all_gather: axis must be integers, got 'i' of type str. Use int(...).",
     over_i(lambda x: lax.all_gather(x, "i", axis="i"))),
    ("a split axis out of range", ValueError,
     "all_to_all: axis must be in [-1, 1) for an operand of 1 dimension, got 3. Change the axis.",
     over_i(lambda x: lax.all_to_all(x, "i", 3, 0))),
)  # fmt: skip
def test_collectives(error, text, f):
    check(error, text, f)


def test_an_inner_axis_hides_an_outer_one_of_the_same_name():
    sums = fgrad.vmap(fgrad.vmap(lambda x: lax.psum(x, "i"), axis_name="i"), axis_name="i")(XS)
    assert sums.tolist() == [[3.0] * 3] * 4


def test_sizes_may_be_integers_of_numpy():
    assert fgrad.vmap(double, axis_size=np.int64(3))(X).shape == (3,)
