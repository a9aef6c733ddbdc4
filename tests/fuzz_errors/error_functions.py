"""Users' functions for calls under test: sound ones for the seeds and faulty ones for the mutations.

An exception raised in this file is the user's own and may pass through fgrad as it is.
"""

import functools

import numpy as np

import fgrad
import fgrad.numpy as fnp
from fgrad import lax


class UsersOwn(Exception):
    """What a user's function raises; it must reach the caller unchanged."""


# --- sound -----------------------------------------------------------------------------------------------------------
def same(x):
    return x


def sine(x):
    return fnp.sin(x)


def total(x):
    return fnp.sum(x * x)


def total_of_two(x, y):
    return fnp.sum(x * y)


def total_and_aux(x):
    return fnp.sum(x * x), x


def plus(x, y):
    return x + y


def product(x, y):
    return lax.mul(x, y)


def double(x):
    return x * 2


def pair(x, y):
    return {"a": x, "b": (y, x)}


def scaled(n, x):
    return x * n


def step(carry, x):
    return carry + x, carry * x


def counted(i, carry):
    return carry + i


def below_ten(x):
    return fnp.max(x) < 10 if x.size and x.dtype != bool else fnp.zeros((), bool)


def grow(x):
    """So far that a while loop ends after one step, whatever it starts from."""
    return fnp.full_like(x, 20)


def positive(x):
    return fnp.sum(x) > 0


def rule_of_sine(primals, tangents):
    (x,), (t,) = primals, tangents
    return fnp.sin(x), fnp.cos(x) * t


def share_of_sine(t, ans, x):
    return t * fnp.cos(x)


def forward_of_sine(x):
    return fnp.sin(x), x


def backward_of_sine(x, ct):
    return (ct * fnp.cos(x),)


def on_host(x):
    return np.sin(np.asarray(x))


def leaf_is_tuple(x):
    return isinstance(x, tuple)


def numpy_cube(x):
    return x * x * x


def scalar_cube(s, x):
    return s.mul(s.mul(x, x), x)


def share_of_cube(t, ans, x):
    return t * 3 * x**2


def aval_of_cube(x):
    return x


def schedule(count):
    return 0.1 / (1 + count)


def everything(params):
    return fgrad.tree_util.tree_map(lambda _: True, params)


def convolved(x):
    return lax.conv_general_dilated(x, x[:, :, :2, :2], (1, 1), "SAME")


def sound_tree_flatten(x):
    return (1, 2), None


def sound_tree_unflatten(aux, children):
    return object()


# --- faulty ----------------------------------------------------------------------------------------------------------
def without_parameters():
    return fnp.ones(2)


def one_parameter(x):
    return x


def three_parameters(x, y, z):
    return x + y + z


def keyword_only(*, x):
    return x


def gives_none(*args, **kwargs):
    return None


def gives_text(*args, **kwargs):
    return "text"


def gives_object(*args, **kwargs):
    return object()


def gives_all(*args, **kwargs):
    return args


def gives_first(*args, **kwargs):
    return args[0] if args else 0.0


def gives_dict(*args, **kwargs):
    return {"x": args}


def gives_matrix(*args, **kwargs):
    return fnp.ones((2, 2))


def gives_numpy(*args, **kwargs):
    return np.ones(3)


def gives_empty(*args, **kwargs):
    return fnp.zeros((0, 3))


def gives_integer(*args, **kwargs):
    return fnp.arange(3)


def gives_float(*args, **kwargs):
    return 1.5


def gives_complex(*args, **kwargs):
    return 1j * fnp.ones(3)


def gives_true(*args, **kwargs):
    return True


def gives_ragged(*args, **kwargs):
    return [1.0, (2.0, [fnp.ones(2)])]


def gives_function(*args, **kwargs):
    return gives_first


def gives_generator(*args, **kwargs):
    return (a for a in args)


def raises(*args, **kwargs):
    raise UsersOwn("raised by the user's function")


def asks_for_value(*args, **kwargs):
    return float(args[0]) if args else 0.0


def uses_numpy(*args, **kwargs):
    return np.sin(args[0]) if args else np.float32(0)


def reduces(*args, **kwargs):
    return fnp.sum(args[-1]) if args else fnp.ones(())


def stacks(*args, **kwargs):
    return fnp.stack([a for a in args])


class Callable:
    def __call__(self, *args):
        return args[-1] if args else 0.0


SOUND = [
    same, sine, total, plus, product, double, pair, scaled, step, counted, below_ten, grow, positive, rule_of_sine,
    forward_of_sine, backward_of_sine, on_host, total_and_aux, lax.add, lax.max, fnp.sum,
]  # fmt: skip
FAULTY = [
    without_parameters, one_parameter, three_parameters, keyword_only, gives_none, gives_text, gives_object, gives_all,
    gives_first, gives_dict, gives_matrix, gives_numpy, gives_empty, gives_integer, gives_float, gives_complex,
    gives_true, gives_ragged, gives_function, gives_generator, raises, asks_for_value, uses_numpy, reduces, stacks,
    Callable(), Callable, functools.partial(plus, 1.0), fgrad.grad, fgrad.jit(sine),
]  # fmt: skip
# Those that no loop can run for ever with.
ENDING = [
    without_parameters, three_parameters, keyword_only, gives_none, gives_text, gives_object, gives_ragged, raises,
    gives_function, gives_generator, uses_numpy,
]  # fmt: skip
