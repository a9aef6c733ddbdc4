"""Whole messages of what collectives, and a vmap whose axis is named, refuse."""

import numpy as np
import pytest
from error_checks import cases, check

import fgrad
from fgrad import lax
from fgrad.core.jaxpr import eval_jaxpr
from fgrad.errors import MissingBackendError, UnboundAxisError

X = np.ones((3, 3, 6, 2))


def over_i(f):
    return lambda: fgrad.vmap(f, axis_name="i")(X)


@cases(
    (
        "no vmap",
        UnboundAxisError,
        "psum: axis_name must be the name of an enclosing vmap's axis, got 'i' (names here: none). "
        "Call it inside vmap(..., axis_name='i').",
        lambda: lax.psum(X, "i"),
    ),
    (
        "another name",
        UnboundAxisError,
        "axis_index: axis_name must be the name of an enclosing vmap's axis, got 'k' (names here: 'j', 'i'). "
        "Call it inside vmap(..., axis_name='k').",
        over_i(fgrad.vmap(lambda x: lax.axis_index("k"), axis_name="j")),
    ),
    (
        "one of two",
        UnboundAxisError,
        "axis_size: axis_name must be the name of an enclosing vmap's axis, got 'k' (names here: 'i'). "
        "Call it inside vmap(..., axis_name='k').",
        over_i(lambda x: x * lax.axis_size(("i", "k"))),
    ),
    (
        "twice",
        ValueError,
        "psum: axis names must be distinct, got ('i', 'i'). Name each axis once.",
        over_i(lambda x: lax.psum(x, ("i", "i"))),
    ),
    (
        "one name only",
        ValueError,
        "all_gather: takes one axis name, got ('i', 'j'). Call it for one axis after the other.",
        over_i(fgrad.vmap(lambda x: lax.all_gather(x, ("i", "j")), axis_name="j")),
    ),
    (
        "groups",
        ValueError,
        "psum: axis_index_groups must be None inside vmap, got [[0], [1, 2]]. Reshape the mapped axis into (groups, "
        "members) and use two nested vmaps.",
        over_i(lambda x: lax.psum(x, "i", axis_index_groups=[[0], [1, 2]])),
    ),
    (
        "gather axis",
        ValueError,
        "all_gather: axis must be in [-4, 4) for an operand of 4 dimensions, got 4. Change the axis.",
        over_i(lambda x: lax.all_gather(x, "i", axis=4)),
    ),
    (
        "scatter size",
        ValueError,
        "psum_scatter: the axis that is split must have the size of the mapped axis 'i', got 6 for axis 1 of shape "
        "(3, 6, 2) and 3 examples. Reshape the operand, or use tiled=True.",
        over_i(lambda x: lax.psum_scatter(x, "i", scatter_dimension=1)),
    ),
    (
        "scatter tiles",
        ValueError,
        "psum_scatter: with tiled=True the axis that is split must have a multiple of the mapped axis' size, got 2 for "
        "axis 2 of shape (3, 6, 2) and 3 examples of 'i'. Pad or reshape the operand.",
        over_i(lambda x: lax.psum_scatter(x, "i", scatter_dimension=2, tiled=True)),
    ),
    (
        "all_to_all size",
        ValueError,
        "all_to_all: the axis that is split must have the size of the mapped axis 'i', got 2 for axis 2 of shape "
        "(3, 6, 2) and 3 examples. Reshape the operand, or use tiled=True.",
        over_i(lambda x: lax.all_to_all(x, "i", 2, 0)),
    ),
    (
        "a destination twice",
        ValueError,
        "ppermute: destinations must be distinct and in [0, 3), got [1, 1] for 3 examples of 'i'. Correct the pairs.",
        over_i(lambda x: lax.ppermute(x, "i", [(0, 1), (2, 1)])),
    ),
    (
        "a source out of range",
        ValueError,
        "ppermute: sources must be distinct and in [0, 3), got [0, 3] for 3 examples of 'i'. Correct the pairs.",
        over_i(lambda x: lax.ppermute(x, "i", [(0, 1), (3, 2)])),
    ),
    (
        "no pairs",
        TypeError,
        "ppermute: perm must be a sequence of pairs (source, destination) of ints, got [1, 2, 0]. "
        "Write [(0, 1), (1, 0)].",
        over_i(lambda x: lax.ppermute(x, "i", [1, 2, 0])),
    ),
    (
        "no permutation",
        ValueError,
        "pshuffle: perm must be a permutation of the 3 examples of 'i', got [0, 0, 1]. "
        "Name each index once, or use ppermute.",
        over_i(lambda x: lax.pshuffle(x, "i", [0, 0, 1])),
    ),
    (
        "complex extremum",
        TypeError,
        "pmax: operands must be real number or bool, got complex128. Convert them with .astype.",
        over_i(lambda x: lax.pmax(x.astype("complex128"), "i")),
    ),
    (
        "no array",
        TypeError,
        "psum: operands must be arrays or scalars, got 'x' of type str. Convert lists and tuples with "
        "fgrad.numpy.asarray.",
        over_i(lambda x: lax.psum("x", "i")),
    ),
    (
        "a list as a name",
        TypeError,
        "vmap: axis_name must be one hashable name, got ['i'] of type list (collectives take a tuple as several "
        "names). Use a string.",
        lambda: fgrad.vmap(lambda x: x, axis_name=["i"]),
    ),
    (
        "a dict as a name",
        TypeError,
        "vmap: axis_name must be one hashable name, got {} of type dict (collectives take a tuple as several names). "
        "Use a string.",
        lambda: fgrad.vmap(lambda x: x, axis_name={}),
    ),
    (
        "a size that is none",
        TypeError,
        "vmap: axis_size must be an int of at least 0 or None, got -1. Pass the number of examples.",
        lambda: fgrad.vmap(lambda x: x, axis_size=-1),
    ),
)
def test_errors(error, text, f):
    check(error, text, f)


def test_an_unbound_name_is_a_name_error():
    with pytest.raises(NameError):
        lax.psum(1.0, "i")


def test_a_collective_taken_out_of_its_map_has_no_value():
    kept = []

    def f(x):
        kept.append(fgrad.make_jaxpr(lambda y: lax.psum(y, "i"))(x))
        return x

    fgrad.vmap(f, axis_name="i")(X)
    check(
        MissingBackendError,
        "psum: has no cpu rule, a collective has a value only inside the vmap that names its axis.",
        lambda: eval_jaxpr(kept[0].jaxpr, kept[0].consts, X[0]),
    )
