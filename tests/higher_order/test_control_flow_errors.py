"""Errors of loops and branches: whole messages, raised while tracing."""

import numpy as np
from error_checks import cases, check

import fgrad
import fgrad.numpy as fnp
from fgrad import errors, lax

X = np.ones(3, np.float32)
XS = np.ones((4, 3), np.float32)


def grow(c, x):
    return fnp.concatenate([c, c]), x


def widen(c, x):
    return {"h": [c["h"][0], c["h"][1].astype(np.float64)], "n": c["n"] * 0.5}, x


def lose(c, x):
    return {"h": c["h"]}, None


def keep(c, x):
    return c, x


def alone(c, x):
    return c


def step(c):
    return c + 1


# --- scan and map ----------------------------------------------------------------------------------------------------
@cases(
    ("no function", TypeError,
     "scan: needs a function, got 3 of type int. Pass a callable.",
     lambda: lax.scan(3, 0.0, XS)),
    ("no pair", TypeError,
     "scan: the body must return a pair (carry, y), got f32[3] from alone. Return two values; y may be None.",
     lambda: lax.scan(alone, X, XS)),
    ("nothing", TypeError,
     "scan: the body must return a pair (carry, y), got NoneType from <lambda>. Return two values; y may be None.",
     lambda: lax.scan(lambda c, x: None, X, XS)),
    ("shape", TypeError,
     "scan: the carry must have the same type after a step as before it, got from grow f32[6] for init of type f32[3] "
     "(shapes (6,) and (3,)). Convert what grow returns, or init.",
     lambda: lax.scan(grow, X, XS)),
    ("dtypes of two leaves", TypeError,
     "scan: the carry must have the same type after a step as before it, got from widen f64[3] for init['h'][1] of "
     "type f32[3] (dtypes float64 and float32); f32[]~ for init['n'] of type i32[] (dtypes float32 and int32). Convert "
     "what widen returns, or init.",
     lambda: lax.scan(widen, {"h": [X, X], "n": np.int32(0)}, XS)),
    ("structure", errors.TreeMismatchError,
     "scan: the carry that lose returns must have the structure of init, got {'h': *} for {'h': *, 'n': *} (first "
     "difference: only the second tree has ['n']). Return a carry of the structure it came in.",
     lambda: lax.scan(lose, {"h": X, "n": 0}, XS)),
    ("result is no array", TypeError,
     "scan: <lambda> must return arrays or pytrees of them, got 'y' of type str for the output at [1]. Return arrays, "
     "or leave the value out.",
     lambda: lax.scan(lambda c, x: (c, "y"), X, XS)),
    ("init is no array", TypeError,
     "scan: arguments must be arrays, scalars or pytrees of them, got 'a' of type str in argument init['h']. Pass "
     "arrays, or close over the value.",
     lambda: lax.scan(keep, {"h": "a"}, XS)),
    ("lengths of xs", ValueError,
     "scan: all arrays of xs must have one leading size, got 4 for xs['a'] (shape (4, 3)) and 3 for xs['b'] (shape "
     "(3,)). Slice them to one length.",
     lambda: lax.scan(keep, 0.0, {"a": XS, "b": X})),
    ("scalar xs", ValueError,
     "scan: every array of xs needs a leading axis to run over, got a scalar f32[]~ for xs[1]. Close over a value that "
     "is the same in each step.",
     lambda: lax.scan(keep, 0.0, (XS, 2.0))),
    ("length of xs", ValueError,
     "scan: length must be the leading size of xs, got length=5 and 4 for xs['a'] (shape (4, 3)). Leave length out, or "
     "slice xs.",
     lambda: lax.scan(keep, 0.0, {"a": XS}, length=5)),
    ("no length", ValueError,
     "scan: the number of steps must be given, got neither xs nor length. Pass length=....",
     lambda: lax.scan(keep, 0.0)),
    ("empty xs", ValueError,
     "scan: the number of steps must be given, got neither xs nor length. Pass length=....",
     lambda: lax.scan(keep, 0.0, {})),
    ("negative length", ValueError,
     "scan: length must not be negative, got -1. Pass at least 0.",
     lambda: lax.scan(keep, 0.0, length=-1)),
    ("length of another kind", TypeError,
     "scan: length must be an integer, got 3.0 of type float. Use int(...).",
     lambda: lax.scan(keep, 0.0, length=3.0)),
    ("traced length", errors.ConcretizationError,
     "index: argument 'n' of <lambda> has no value while jit of <lambda> traces it, got i32[]~ at HERE. Shapes and "
     "Python indices must be static: make the argument static.",
     lambda: fgrad.jit(lambda n: lax.scan(keep, 0.0, length=n))(3)),
    ("unroll", ValueError,
     "scan: unroll must be at least 1, got 0. Use 1 for a plain loop, or True.",
     lambda: lax.scan(keep, 0.0, XS, unroll=0)),
    ("unroll of another kind", TypeError,
     "scan: unroll must be an integer, got 'all' of type str. Use int(...).",
     lambda: lax.scan(keep, 0.0, XS, unroll="all")),
    ("value of a body's argument", errors.ConcretizationError,
     "bool: a value computed from arguments 'c' of <lambda>, 'x' of <lambda> has no value while scan of <lambda> "
     "traces it, got bool[] at HERE. Use fgrad.numpy.where or lax.select instead of 'if', or make the argument static.",
     lambda: lax.scan(lambda c, x: (c, x) if c > x else (x, c), 0.0, X)),
    ("map of nothing", ValueError,
     "map: xs must hold an array to map over, got none. Use scan with length=... instead.",
     lambda: lax.map(step, ())),
    ("map of a scalar", ValueError,
     "map: every array of xs needs a leading axis to run over, got a scalar f32[]~ for xs. Close over a value that is "
     "the same in each step.",
     lambda: lax.map(step, 1.0)),
    ("batch size of map", ValueError,
     "map: batch_size must be at least 1, got 0. Leave it out for one element at a time.",
     lambda: lax.map(step, X, batch_size=0)),
)  # fmt: skip
def test_scan_and_map(error, text, f):
    check(error, text, f)


# --- while_loop and fori_loop ----------------------------------------------------------------------------------------
def below(c):
    return c < 3


@cases(
    ("condition of another shape", TypeError,
     "while_loop: cond_fun must return a bool scalar, got bool[3] from below. Compare the value with something, and "
     "reduce an array with .any() or .all().",
     lambda: lax.while_loop(below, step, X)),
    ("condition of another dtype", TypeError,
     "while_loop: cond_fun must return a bool scalar, got f32[]~ from step. Compare the value with something, and "
     "reduce an array with .any() or .all().",
     lambda: lax.while_loop(step, step, 0.0)),
    ("two conditions", TypeError,
     "while_loop: cond_fun must return a bool scalar, got (*, *) from <lambda>. Return one comparison.",
     lambda: lax.while_loop(lambda c: (c < 3, c > 1), step, 0.0)),
    ("no condition", TypeError,
     "while_loop: cond_fun must return a bool scalar, got None from <lambda>. Return one comparison.",
     lambda: lax.while_loop(lambda c: None, step, 0.0)),
    ("shape", TypeError,
     "while_loop: the carry must have the same type after a step as before it, got from <lambda> f32[1,3] for "
     "init_val[1] of type f32[3] (shapes (1, 3) and (3,)). Convert what <lambda> returns, or init_val.",
     lambda: lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1][None]), (0, X))),
    ("structure", errors.TreeMismatchError,
     "while_loop: the carry that <lambda> returns must have the structure of init_val, got (*, *, *) for (*, *) (first "
     "difference: only the first tree has [2]). Return a carry of the structure it came in.",
     lambda: lax.while_loop(lambda c: c[0] < 3, lambda c: (*c, 1), (0, X))),
    ("reverse mode", errors.ReverseModeError,
     "while_loop: reverse mode needs the number of steps before the loop runs, got a loop that ends by a condition on "
     "its values (it would have to store every step). Use scan or fori_loop with bounds that are Python ints, give the "
     "loop a derivative of its own with custom_vjp, or use forward mode (jvp, jacfwd).",
     lambda: fgrad.grad(lambda x: lax.while_loop(below, lambda c: c * 2.0, x))(1.0)),
    ("reverse mode of a jitted loop", errors.ReverseModeError,
     "while_loop: reverse mode needs the number of steps before the loop runs, got a loop that ends by a condition on "
     "its values (it would have to store every step). Use scan or fori_loop with bounds that are Python ints, give the "
     "loop a derivative of its own with custom_vjp, or use forward mode (jvp, jacfwd).",
     lambda: fgrad.grad(fgrad.jit(lambda x: lax.while_loop(below, lambda c: c * 2.0, x)))(1.0)),
    ("reverse mode with traced bounds", errors.ReverseModeError,
     "while_loop: reverse mode needs the number of steps before the loop runs, got a loop that ends by a condition on "
     "its values (it would have to store every step). Use scan or fori_loop with bounds that are Python ints, give the "
     "loop a derivative of its own with custom_vjp, or use forward mode (jvp, jacfwd).",
     lambda: fgrad.jit(fgrad.grad(lambda x, n: lax.fori_loop(0, n, lambda i, c: c * 2.0, x)))(1.0, 3)),
    ("float bound", TypeError,
     "fori_loop: upper must be an integer scalar, got f32[]~. Convert it with int or .astype.",
     lambda: lax.fori_loop(0, 3.5, lambda i, c: c, 0)),
    ("vector bound", TypeError,
     "fori_loop: lower must be an integer scalar, got i32[2]. Convert it with int or .astype.",
     lambda: lax.fori_loop(np.zeros(2, np.int32), 3, lambda i, c: c, 0)),
    ("bound that is no array", TypeError,
     "fori_loop: upper must be an integer scalar, got 'n' of type str. Convert it with int or .astype.",
     lambda: lax.fori_loop(0, "n", lambda i, c: c, 0)),
    ("dtypes of bounds", TypeError,
     "fori_loop: lower and upper must have one dtype, got int8 and int32. Convert one with .astype(int32).",
     lambda: lax.fori_loop(np.int8(0), np.int32(3), lambda i, c: c, 0)),
    ("unroll with traced bounds", ValueError,
     "fori_loop: unroll needs bounds whose values are known, got unroll=2 for bounds i32[]~ and i32[]~ that are "
     "traced. Leave unroll out, or make the bounds static.",
     lambda: fgrad.jit(lambda n: lax.fori_loop(0, n, lambda i, c: c, 0, unroll=2))(3)),
    ("carry of fori_loop", TypeError,
     "fori_loop: the carry must have the same type after a step as before it, got from <lambda> f64[] for init_val of "
     "type f32[] (dtypes float64 and float32). Convert what <lambda> returns, or init_val.",
     lambda: lax.fori_loop(0, 3, lambda i, c: c * np.float64(2), np.float32(1))),
)  # fmt: skip
def test_while_loop_and_fori_loop(error, text, f):
    check(error, text, f)


# --- cond and switch -------------------------------------------------------------------------------------------------
@cases(
    ("predicate of another shape", TypeError,
     "cond: pred must be a bool scalar, got bool[3]. Reduce an array with .any() or .all(), or use fgrad.numpy.where "
     "to choose element by element.",
     lambda: lax.cond(X > 0, step, step, X)),
    ("predicate that is no array", TypeError,
     "cond: pred must be a bool scalar, got 'yes' of type str. Reduce an array with .any() or .all(), or use "
     "fgrad.numpy.where to choose element by element.",
     lambda: lax.cond("yes", step, step, X)),
    ("complex predicate", TypeError,
     "cond: pred must be a bool scalar, got c64[]~. Reduce an array with .any() or .all(), or use fgrad.numpy.where to "
     "choose element by element.",
     lambda: lax.cond(1j, step, step, X)),
    ("no function", TypeError,
     "cond: needs a function, got 2 of type int. Pass a callable.",
     lambda: lax.cond(True, step, 2, X)),
    ("structures", errors.TreeMismatchError,
     "cond: all branches must return the same structure, got {'a': *} from true_fun and {'a': *, 'b': *} from "
     "false_fun (first difference: only the second tree has ['b']). Return the same parts from each.",
     lambda: lax.cond(True, lambda x: {"a": x}, lambda x: {"a": x, "b": x}, X)),
    ("types", TypeError,
     "cond: all branches must return the same types, got f32[3] from true_fun and f64[3] from false_fun at [0] (dtypes "
     "float32 and float64); f32[] from true_fun and f32[3] from false_fun at [1] (shapes () and (3,)). Convert or "
     "reshape one of them.",
     lambda: lax.cond(True, lambda x: (x, x.sum()), lambda x: (x.astype(np.float64), x), X)),
    ("Python scalars", TypeError,
     "cond: all branches must return the same types, got i32[]~ from true_fun and f32[]~ from false_fun (dtypes int32 "
     "and float32). Convert or reshape one of them.",
     lambda: lax.cond(True, lambda: 1, lambda: 0.5)),
    ("index of another dtype", TypeError,
     "switch: index must be an integer scalar, got f32[]~. Convert it with .astype(int).",
     lambda: lax.switch(1.0, [step, step], X)),
    ("index that is a bool", TypeError,
     "switch: index must be an integer scalar, got bool[]. Convert it with .astype(int).",
     lambda: lax.switch(True, [step, step], X)),
    ("index of another shape", TypeError,
     "switch: index must be an integer scalar, got i32[2]. Convert it with .astype(int).",
     lambda: lax.switch(np.zeros(2, np.int32), [step, step], X)),
    ("no branches", ValueError,
     "switch: at least one branch is needed, got none. Give the functions to choose from.",
     lambda: lax.switch(0, [], X)),
    ("types of branches", TypeError,
     "switch: all branches must return the same types, got f32[3] from branches[0] and f32[1,3] from branches[2] "
     "(shapes (3,) and (1, 3)). Convert or reshape one of them.",
     lambda: lax.switch(0, [step, step, lambda x: x[None]], X)),
    ("operand that is no array", TypeError,
     "cond: arguments must be arrays, scalars or pytrees of them, got 'a' of type str in argument operands[1]['k']. "
     "Pass arrays, or close over the value.",
     lambda: lax.cond(True, keep, keep, X, {"k": "a"})),
)  # fmt: skip
def test_cond_and_switch(error, text, f):
    check(error, text, f)


# --- associative_scan ------------------------------------------------------------------------------------------------
@cases(
    ("sizes", ValueError,
     "associative_scan: all arrays must have one size along axis 0, got 4 for elems['a'] (shape (4, 3)) and 3 for "
     "elems['b'] (shape (3,)). Slice them.",
     lambda: lax.associative_scan(lambda a, b: a, {"a": XS, "b": X})),
    ("axis", ValueError,
     "associative_scan: axis must be in [-2, 2) for an operand of 2 dimensions, got 2. Change the axis.",
     lambda: lax.associative_scan(fnp.add, XS, axis=2)),
    ("nothing", ValueError,
     "associative_scan: elems must hold an array, got none. Give the sequence to combine.",
     lambda: lax.associative_scan(fnp.add, [])),
    ("structure", errors.TreeMismatchError,
     "associative_scan: <lambda> must return the structure of elems, got (*,) for (*, *) (first difference: only the "
     "second tree has [1]). Return every part.",
     lambda: lax.associative_scan(lambda a, b: (a[0],), (X, X))),
    ("types", TypeError,
     "associative_scan: <lambda> must return the types it is given, got f64[1] for elems of type f32[1] (dtypes "
     "float64 and float32). Work element by element along the axis, and convert the result.",
     lambda: lax.associative_scan(lambda a, b: (a + b).astype(np.float64), X)),
)  # fmt: skip
def test_associative_scan(error, text, f):
    check(error, text, f)
