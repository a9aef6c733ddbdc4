"""What fgrad.extend says of definitions and calls that are wrong: whole messages."""

import numba
import numpy as np
import pytest
from error_checks import cases, check

import fgrad
import fgrad.numpy as fnp
from fgrad import extend
from fgrad.errors import MissingBackendError

X = np.ones(3, np.float32)
BATCH = np.ones((2, 3), np.float32)
Like = fgrad.ShapeDtypeStruct


def elementwise(numpy=np.abs, **slots):
    return extend.elementwise("tests.e", numpy=numpy, **slots)


def primitive(**slots):
    return extend.primitive("tests.p", **{"numpy": lambda x: x, "abstract": lambda x: x, **slots})


def product(**slots):
    return primitive(numpy=lambda x, y: x * y, abstract=lambda x, y: x, **slots)


def raising(out, x):
    if x.size == 0:
        raise ValueError("empty")


def keyword_only(out, x, *, k):
    out[0] = k


def serial(out, x):
    out[0] = x[0]


def mistyped(out, x):
    out[0] = x.nothing


def unnamed(out, x):
    out[0] = undefined_name  # noqa: F821


def returning(out, x):
    return 2 * x


def rebinding(total, largest, x):
    total[()] = x.sum()
    largest = x.max()  # noqa: F841


def writing(out, x):
    x[0] = 7
    out[:] = x


def slots(**given):
    empty = extend.Unfilled("it is a test")
    rest = dict(reference=empty, cpu=extend.Host("it is a test"), jvp=empty, transpose=empty, batch=empty)
    return extend.Primitive("tests.s", **{"abstract": lambda x: x, **rest, **given})


def writes(x):
    x[0] = 1
    return x


def gradient(prim, *xs):
    return fgrad.grad(lambda *xs: fnp.sum(prim(*xs)))(*xs)


@cases(
    ("no namespace", ValueError,
     "extend: a primitive's name must have a namespace, got 'softsign' (names without one are fgrad's own). Write it "
     "as 'mylibrary.name'.",
     lambda: extend.elementwise("softsign", numpy=np.abs)),
    ("no numpy function", TypeError,
     "tests.e: numpy must be a function, got None of type NoneType. Pass a callable.",
     lambda: elementwise(None)),
    ("operand with a default", TypeError,
     "tests.e: operands have no defaults, got k=2 in numpy. Put static parameters behind a '*'.",
     lambda: elementwise(lambda x, k=2: x)),
    ("no operands", TypeError,
     "tests.e: numpy must name its operands, got (*operands). Write them out, as in lambda x, y: ...",
     lambda: elementwise(lambda *xs: xs[0])),
    ("scalar without the operand", TypeError,
     "tests.e: scalar must accept (s, x), got (s) (too many positional arguments). Change its parameters.",
     lambda: elementwise(scalar=lambda s: s)),
    ("scalar without the parameter", TypeError,
     "tests.e: scalar must accept (s, x, *, k), got (s, x) (got an unexpected keyword argument 'k'). Change its "
     "parameters.",
     lambda: elementwise(lambda x, *, k: x, scalar=lambda s, x: x)),
    ("derivatives missing", TypeError,
     "tests.e: derivatives must have one entry for each of the 2 operands x1, x2, got 1. Give None where there is "
     "nothing to give.",
     lambda: elementwise(np.hypot, derivatives=lambda t, ans, x, y: x)),
    ("derivative without operands", TypeError,
     "tests.e: derivatives[0] must accept (t, ans, x1, x2), got (t, ans, x) (too many positional arguments). Change "
     "its parameters.",
     lambda: elementwise(np.hypot, derivatives=(lambda t, ans, x: x, None))),
    ("domain", ValueError,
     "tests.e: domain must be one of ['any', 'float', 'inexact', 'integer', 'integer or bool', 'number', 'real', "
     "'real or bool'], got 'complex'. Choose one.",
     lambda: elementwise(domain="complex")),
    ("result dtype", TypeError,
     "dtype: not a dtype, got 'float33'. Use one of bool, uint8, uint16, uint32, uint64, int8, int16, int32, int64, "
     "bfloat16, float16, float32, float64, complex64, complex128.",
     lambda: elementwise(result="float33")),
    ("no abstract rule", TypeError,
     "tests.p: abstract must be a function, got None of type NoneType. Pass a callable.",
     lambda: primitive(abstract=None)),
    ("abstract without operands", TypeError,
     "tests.p: abstract must accept (x), got () (too many positional arguments). Change its parameters.",
     lambda: primitive(abstract=lambda: None)),
    ("kernel without out", TypeError,
     "tests.p: kernel must accept (out, x), got (x) (too many positional arguments). Change its parameters.",
     lambda: primitive(kernel=lambda x: None)),
    ("kernel is no function", TypeError,
     "tests.p: kernel must be a Python function, with or without numba.njit, got <ufunc 'absolute'> of type ufunc. "
     "Wrap it in one.",
     lambda: primitive(kernel=np.abs)),
    ("kernel that raises", ValueError,
     "tests.p: kernel must not raise, got a raise or assert in raising (compiled code has nobody to raise to). Check "
     "operands in abstract, and mark bad values with NaN.",
     lambda: primitive(kernel=raising)),
    ("kernel with keywords", TypeError,
     "tests.p: kernel must take static parameters as ordinary arguments behind the operands (Numba knows no "
     "keyword-only ones), got keyword_only with a '*'. Drop the '*'.",
     lambda: primitive(numpy=lambda x, *, k: x, abstract=lambda x, *, k: x, kernel=keyword_only)),
    ("parallel kernel", ValueError,
     "tests.p: kernel must be serial, got parallel=True (examples of a batch already run in parallel, and threads "
     "would start threads). Drop the option.",
     lambda: primitive(kernel=numba.njit(parallel=True)(serial))),
    ("kernel that returns its result", ValueError,
     "tests.p: kernel must fill the memory of its results, got returning, which returns a value. Write out[...] = "
     "value.",
     lambda: primitive(kernel=returning)),
    ("kernel that binds a result anew", ValueError,
     "tests.p: kernel must fill the memory of its results, got rebinding, which makes a new largest. Write "
     "largest[...] = value.",
     lambda: primitive(kernel=rebinding, abstract=lambda x: (x, x), multiple_results=True)),
    ("a function as cpu slot", TypeError,
     "tests.s: cpu must be a ScalarMap, IndexMap, Fold, Kernel, Host or Unfilled, got <ufunc 'absolute'> of type "
     "ufunc. Wrap the function in the kind it is.",
     lambda: slots(cpu=np.abs)),
    ("a class as jvp slot", TypeError,
     "tests.s: jvp must be a function or Linear or Bilinear or Unfilled, got <class 'fgrad.core.primitive.Linear'> of "
     "type type. Kinds are instances, as in Linear() or Unfilled(reason).",
     lambda: slots(jvp=extend.Linear)),
    ("two forward modes", ValueError,
     "tests.p: one of derivatives, jvp and linear=True gives forward mode, got jvp and linear=True. Keep one.",
     lambda: primitive(linear=True, jvp=lambda primals, tangents: None)),
    ("linear is a number", TypeError,
     "tests.p: linear must be True or a tuple of numbers of operands, got 0. Write linear=(0,) for the first operand.",
     lambda: primitive(linear=0)),
    ("linear in no operand", ValueError,
     "tests.p: linear must name operands 0 to 0, got (1,) for operands x. Count them from 0.",
     lambda: primitive(linear=(1,))),
    ("derivative of a linear operand", ValueError,
     "tests.p: derivatives[0] follows from linear=(0,), got a rule for it, too. Give None.",
     lambda: primitive(linear=(0,), derivatives=lambda t, ans, x: t)),
    ("transpose of what is not linear", ValueError,
     "tests.p: transpose serves operands the primitive is linear in, got linear=False. Say which: linear=True, or "
     "linear=(0,) for the first operand.",
     lambda: primitive(transpose=lambda ct, x: (ct,))),
    ("transpose without operands", TypeError,
     "tests.p: transpose must accept (ct, x), got (ct) (too many positional arguments). Change its parameters.",
     lambda: primitive(linear=True, transpose=lambda ct: (ct,))),
    ("batch is no way of batching", ValueError,
     "tests.p: batch must be 'loop', 'broadcast' or a function, got 'sequential'. Choose one.",
     lambda: primitive(batch="sequential")),
    ("batch without dims", TypeError,
     "tests.p: batch must accept (args, dims), got (x) (too many positional arguments). Change its parameters.",
     lambda: primitive(batch=lambda x: x)),
    ("loop over a planner", ValueError,
     "tests.p: batch='loop' repeats a kernel function, got a Kernel with a planner of its own. Give a batch rule, or "
     "batch='broadcast' if the planner accepts one more axis.",
     lambda: primitive(kernel=extend.Kernel(lambda ins, outs: None))),
)  # fmt: skip
def test_wrong_definitions(error, text, f):
    check(error, text, f)


def test_a_name_belongs_to_one_module():
    theirs = compile("extend.elementwise('tests.taken', numpy=abs)", "their_library.py", "exec")
    exec(theirs, {"__name__": "their_library", "extend": extend})
    exec(theirs, {"__name__": "their_library", "extend": extend})
    check(
        ValueError,
        f"extend: a name belongs to the module that defines it first, got 'tests.taken' from {__name__} after "
        "their_library. Choose another name.",
        lambda: extend.elementwise("tests.taken", numpy=np.abs),
    )


@cases(
    ("too many operands", TypeError,
     "tests.p: takes 1 operand, got 2. Call it as tests.p(x); static parameters are keywords.",
     lambda: primitive()(X, X)),
    ("unknown parameter", TypeError,
     "tests.p: has no static parameter 'j', got j=1. Call it as tests.p(x, *, k); arrays are positional.",
     lambda: primitive(numpy=lambda x, *, k=1: x, abstract=lambda x, k: x)(X, j=1)),
    ("missing parameter", TypeError,
     "tests.p: static parameter 'k' must be given, got none. Call it as tests.p(x, *, k).",
     lambda: primitive(numpy=lambda x, *, k: x, abstract=lambda x, k: x)(X)),
    ("list as parameter", TypeError,
     "tests.p: static parameters must be hashable, got k=[1] of type list. Use a tuple.",
     lambda: primitive(numpy=lambda x, *, k: x, abstract=lambda x, k: x)(X, k=[1])),
    ("array as parameter", TypeError,
     "tests.p: static parameters must be hashable, got k=array([1., 1., 1.], dtype=float32) of type ndarray. Make it "
     "an operand.",
     lambda: primitive(numpy=lambda x, *, k: x, abstract=lambda x, k: x)(X, k=X)),
    ("string as operand", TypeError,
     "tests.p: operands must be arrays or scalars, got 'a' of type str. Convert lists and tuples with "
     "fgrad.numpy.asarray.",
     lambda: primitive()("a")),
    ("shapes", ValueError,
     "tests.e: shapes must broadcast (aligned at the last axis, sizes equal or 1), got (3,) and (4,). Reshape one, or "
     "insert axes of size 1 with x[:, None].",
     lambda: elementwise(np.hypot)(np.ones(3), np.ones(4))),
    ("dtype", TypeError,
     "tests.e: operands must be integer, got float32. Convert them with .astype.",
     lambda: elementwise(domain="integer")(1.5)),
    ("numpy's dtype", TypeError,
     "tests.e: numpy must return what abstract promises, got float64[3] from numpy and float32[3] from abstract for "
     "f32[3]. Convert the result with .astype or .reshape, or correct the abstract rule.",
     lambda: elementwise(lambda x: x.astype(np.float64))(X)),
    ("numpy's shape", TypeError,
     "tests.p: numpy must return what abstract promises, got float32[2] from numpy and float32[3] from abstract for "
     "f32[3]. Convert the result with .astype or .reshape, or correct the abstract rule.",
     lambda: fgrad.jit(primitive(numpy=lambda x: x[:2]))(X)),
    ("scalar returns a number", TypeError,
     "tests.e: scalar must return a value of the emitter s, got 1.0 of type float for float32. Make constants with "
     "s.const(value, dtype).",
     lambda: fgrad.make_jaxpr(elementwise(scalar=lambda s, x: 1.0))(X)),
    ("scalar adds a number", TypeError,
     "emit: operands must be values of the emitter, got 1.0 of type float. Make constants with s.const(value, dtype).",
     lambda: fgrad.make_jaxpr(elementwise(scalar=lambda s, x: s.add(x, 1.0)))(X)),
    ("scalar's dtype", TypeError,
     "tests.e: scalar must return the dtype of the result, got bool and float32 for float32. Convert it with s.cast, "
     "or give the dtype as result.",
     lambda: fgrad.make_jaxpr(elementwise(scalar=lambda s, x: s.cmp("lt", x, x)))(X)),
    ("scalar with an operator", TypeError,
     "emit: a value of the emitter has no operators, comparisons or truth while code is written, got one of dtype "
     "float32. Use s.add, s.mul, s.cmp, s.select, ..., with s.const(number, dtype) for numbers.",
     lambda: fgrad.make_jaxpr(elementwise(scalar=lambda s, x: 2 * x))(X)),
    ("scalar with a branch", TypeError,
     "emit: a value of the emitter has no operators, comparisons or truth while code is written, got one of dtype "
     "bool. Use s.add, s.mul, s.cmp, s.select, ..., with s.const(number, dtype) for numbers.",
     lambda: fgrad.make_jaxpr(elementwise(scalar=lambda s, x: x if s.cmp("gt", x, x) else s.neg(x)))(X)),
    ("scalar compares in Python's words", ValueError,
     "cmp: no such comparison, got '<'. Choose from eq, ne, lt, le, gt, ge.",
     lambda: fgrad.make_jaxpr(elementwise(scalar=lambda s, x: s.cmp("<", x, x), result=bool))(X)),
    ("scalar selects by a float", TypeError,
     "select: the condition must be a bool, got float32. Make one with s.cmp.",
     lambda: fgrad.make_jaxpr(elementwise(scalar=lambda s, x: s.select(x, x, x)))(X)),
    ("scalar takes the root of an integer", TypeError,
     "sqrt: a float is needed, got int64. Cast it first.",
     lambda: fgrad.make_jaxpr(elementwise(scalar=lambda s, x: s.sqrt(x), domain="any"))(np.arange(3))),
    ("abstract returns a shape", TypeError,
     "tests.p: abstract must return a ShapeDtypeStruct for each result, got (3,) of type tuple. Return "
     "fgrad.ShapeDtypeStruct(shape, dtype).",
     lambda: primitive(abstract=lambda x: (3,))(X)),
    ("abstract returns a negative size", TypeError,
     "tests.p: abstract must return a shape of integers of at least 0, got (-3,). Correct the shape.",
     lambda: primitive(abstract=lambda x: Like((-3,), x.dtype))(X)),
    ("abstract returns one of several", TypeError,
     "tests.p: abstract must return a tuple (multiple_results=True), got f32[3] of type ShapedArray. Return one entry "
     "for each result.",
     lambda: primitive(multiple_results=True)(X)),
    ("numpy returns one of several", TypeError,
     "tests.p: numpy must return a tuple of 2 (multiple_results=True), got one array. Return one entry for each "
     "result.",
     lambda: primitive(abstract=lambda x: (x, x), multiple_results=True)(X)),
    ("kernel with a mistake", TypeError,
     "tests.p: Numba must be able to compile the kernel, got \"Unknown attribute 'nothing' of type readonly "
     "array(float32, 1d, C)\" for float32[:], float32[:]. Make mistyped run under numba.njit on such arrays.",
     lambda: primitive(kernel=mistyped)(X)),
    ("kernel that writes to an operand", TypeError,
     "tests.p: Numba must be able to compile the kernel, got 'No implementation of function Function(<built-in "
     "function setitem>) found for signature: >>> setitem(readonly array(float32, 1d, C), Literal[int](0), "
     "Literal[int](7))' for float32[:], float32[:]. Make writing run under numba.njit on such arrays.",
     lambda: primitive(kernel=writing)(X)),
    ("kernel with an undefined name", TypeError,
     "tests.p: Numba must be able to compile the kernel, got \"NameError: name 'undefined_name' is not defined\" for "
     "float32[:], float32[:]. Make unnamed run under numba.njit on such arrays.",
     lambda: fgrad.jit(primitive(kernel=unnamed))(X)),
    ("no derivative", MissingBackendError,
     "tests.e: has no jvp rule, its definition gives none. Give derivatives, or put stop_gradient around the operands.",
     lambda: gradient(elementwise(), X)),
    ("no derivative in one operand", MissingBackendError,
     "tests.p: has no derivative in operand 1, its definition gives none. Give it in derivatives, or put stop_gradient "
     "around the operand.",
     lambda: fgrad.grad(lambda y: fnp.sum(product(linear=(0,))(X, y)))(X)),
    ("derivative's shape", TypeError,
     "tests.e: derivatives[0] must return a tangent of the result's type, got f32[2] for a result of type f32[3]. Give "
     "it the result's shape and dtype.",
     lambda: gradient(elementwise(derivatives=lambda t, ans, x: t[:2]), X)),
    ("derivative is no array", TypeError,
     "tests.e: derivatives[0] must return arrays, got 'q' of type str. Use fgrad operations.",
     lambda: gradient(elementwise(derivatives=lambda t, ans, x: "q"), X)),
    ("jvp returns the result only", TypeError,
     "tests.p: jvp must return a pair (result, tangent), got one array. Return both.",
     lambda: gradient(primitive(jvp=lambda primals, tangents: primals[0]), X)),
    ("jvp's tangent", TypeError,
     "tests.p: jvp must return a tangent of the result's type, got f32[2] for a result of type f32[3]. Give it the "
     "result's shape and dtype.",
     lambda: gradient(primitive(jvp=lambda primals, tangents: (primals[0], tangents[0][:2])), X)),
    ("no transpose", MissingBackendError,
     "tests.p: has no transpose rule, its definition gives none. Give transpose. Use vjp for functions that are not "
     "linear.",
     lambda: gradient(primitive(linear=True), X)),
    ("transpose returns no tuple", TypeError,
     "tests.p: transpose must return a tuple with one entry for each of the 1 operands, got one array. Give None for "
     "operands that are held.",
     lambda: gradient(primitive(linear=True, transpose=lambda ct, x: ct), X)),
    ("transpose returns None", TypeError,
     "tests.p: transpose must return a cotangent for operand 0, which is linear here, got None. Return an array, or "
     "Zero(operand.aval).",
     lambda: gradient(primitive(linear=True, transpose=lambda ct, x: (None,)), X)),
    ("cotangent's shape", TypeError,
     "tests.p: transpose must return a cotangent of the operand's type, got f32[2] for operand 0 of type f32[3]. Give "
     "it the operand's shape and dtype.",
     lambda: gradient(primitive(linear=True, transpose=lambda ct, x: (ct[:2],)), X)),
    ("transpose of a product", MissingBackendError,
     "tests.p: has no transpose in operands (0, 1) together, it is linear in each of operands (0, 1) alone. Use vjp "
     "for functions that are not linear.",
     lambda: fgrad.linear_transpose(product(linear=(0, 1), transpose=lambda ct, x, y: (ct, ct)), X, X)(X)),
    ("batch returns the result only", TypeError,
     "tests.p: batch must return a pair (result, batch axis), got one array. Return both.",
     lambda: fgrad.vmap(primitive(batch=lambda args, dims: args[0]))(BATCH)),
    ("batch axis", TypeError,
     "tests.p: batch must name the axis of each result that has the batch's size 2, got 1 for a result of shape (2, "
     "3). Return an axis counted from 0, or None.",
     lambda: fgrad.vmap(primitive(batch=lambda args, dims: (args[0], 1)))(BATCH)),
    ("batched result", TypeError,
     "tests.p: batch must return examples of the type that abstract gives, got f32[2,3] and f32[3] (result f32[2,3], "
     "batch axis None). Check the axes.",
     lambda: fgrad.vmap(primitive(batch=lambda args, dims: (args[0], None)))(BATCH)),
)  # fmt: skip
def test_wrong_rules_and_calls(error, text, f):
    check(error, text, f)


@pytest.mark.parametrize(
    ("error", "note", "f"),
    [
        (ValueError, "tests.e: raised by its NumPy function for f32[3]. (Its operands are read-only.)",
         lambda: elementwise(writes)(X)),
        (ValueError, "tests.p: raised by its NumPy function for f32[3]. (Its operands are read-only.)",
         lambda: fgrad.jit(primitive(numpy=writes))(X)),
        (AttributeError, "tests.e: raised by its scalar rule for float32.",
         lambda: fgrad.make_jaxpr(elementwise(scalar=lambda s, x: s.nothing(x)))(X)),
        (ZeroDivisionError, "tests.e: raised by its scalar rule for float32.",
         lambda: fgrad.jit(elementwise(scalar=lambda s, x: s.const(1 / 0, x.dtype)))(X)),
    ],
    ids=["eager", "jit", "traced", "own exception"],
)  # fmt: skip
def test_a_users_own_exception_names_the_primitive(error, note, f):
    with pytest.raises(error) as caught:
        f()
    assert caught.value.__notes__ == [note]
