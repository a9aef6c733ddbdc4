"""Pytrees have JAX's meaning: None is empty, dicts are sorted, classes can be registered."""

import collections
import dataclasses

import numpy as np
import pytest

import fgrad
import fgrad.numpy as fnp
from fgrad import tree
from fgrad.errors import TreeMismatchError

Point = collections.namedtuple("Point", ["x", "y"])


@tree.register_pytree_node_class
class Pair:
    def __init__(self, a, b, name="pair"):
        self.a, self.b, self.name = a, b, name

    def tree_flatten(self):
        return (self.a, self.b), self.name

    @classmethod
    def tree_unflatten(cls, aux, children):
        return cls(*children, name=aux)


@dataclasses.dataclass
class Layer:
    w: object
    b: object
    size: int = 3


tree.register_dataclass(Layer, data_fields=["w", "b"], meta_fields=["size"])


@pytest.mark.parametrize(
    ("value", "leaves"),
    [
        (None, []),
        (1, [1]),
        ((1, [2, {"b": 4, "a": 3}], None), [1, 2, 3, 4]),
        ({"z": 1, "a": 2}, [2, 1]),
        (collections.OrderedDict([("z", 1), ("a", 2)]), [1, 2]),
        (collections.defaultdict(list, {"z": 1, "a": 2}), [2, 1]),
        (Point(1, (2,)), [1, 2]),
        (Pair(1, {"k": 2}), [1, 2]),
        (Layer(w=1, b=2), [1, 2]),
        ((), []),
    ],
)
def test_leaves_and_back(value, leaves):
    flat, structure = tree.tree_flatten(value)
    assert flat == leaves == tree.tree_leaves(value)
    assert structure == tree.tree_structure(value)
    rebuilt = tree.tree_unflatten(structure, flat)
    assert type(rebuilt) is type(value)
    assert tree.tree_leaves(rebuilt) == leaves


def test_structures_differ_by_container_and_by_aux_data():
    assert tree.tree_structure((1, 2)) != tree.tree_structure([1, 2])
    assert tree.tree_structure(Pair(1, 2)) != tree.tree_structure(Pair(1, 2, name="other"))
    assert tree.tree_structure(Layer(1, 2)) != tree.tree_structure(Layer(1, 2, size=4))
    assert tree.tree_structure(None) != tree.tree_structure(1)


def test_map_over_several_trees():
    out = tree.tree_map(lambda a, b: a * b, {"w": (1, 2), "b": None}, {"w": (3, 4), "b": None})
    assert out == {"w": (3, 8), "b": None}


def test_map_takes_the_first_tree_as_a_prefix():
    assert tree.tree_map(lambda a, b: (a, b), (1, 2), ([3], {"k": 4})) == ((1, [3]), (2, {"k": 4}))


def test_is_leaf_stops_the_descent():
    assert tree.tree_map(len, [(1, 2), (3,)], is_leaf=lambda x: isinstance(x, tuple)) == [2, 1]
    assert tree.tree_leaves([None, 1], is_leaf=lambda x: x is None) == [None, 1]


def test_reduce_all_transpose():
    assert tree.tree_reduce(lambda a, b: a + b, {"a": 1, "b": (2, 3)}) == 6
    assert tree.tree_reduce(lambda a, b: a + b, None, 10) == 10
    assert tree.tree_all((True, [True])) and not tree.tree_all((True, [False]))
    outer, inner = tree.tree_structure([0, 0]), tree.tree_structure({"a": 0, "b": 0})
    assert tree.tree_transpose(outer, inner, [{"a": 1, "b": 2}, {"a": 3, "b": 4}]) == {"a": [1, 3], "b": [2, 4]}


def test_paths():
    value = {"w": [1, Point(2, 3)], "b": Pair(4, 5)}
    assert tree.tree_paths(value)[2:] == ["['w'][0]", "['w'][1].x", "['w'][1].y"]
    assert tree.tree_paths(1) == [""]
    pairs, _ = tree.tree_flatten_with_path({"a": (1,)})
    assert pairs == [("['a'][0]", 1)]


def test_broadcast_prefix():
    assert tree.broadcast_prefix(0, ({"a": 1, "b": 2}, 3)) == [0, 0, 0]
    assert tree.broadcast_prefix((0, None), ({"a": 1, "b": 2}, 3)) == [0, 0, None]
    assert tree.broadcast_prefix((0, {"a": 1, "b": None}), (3, {"a": (1, 2), "b": 4})) == [0, 1, 1, None]


@pytest.mark.parametrize(
    ("first", "second", "difference"),
    [
        ({"a": 1, "b": 2}, {"a": 1, "c": 2}, "first difference: ['b'] against ['c']"),
        ((1, 2), (1,), "first difference: only the first tree has [1]"),
        ((1,), (1, 2), "first difference: only the second tree has [1]"),
        ((1, 2), [1, 2], "the same leaves in different containers"),
        (1, (1,), "first difference: a leaf against [0]"),
    ],
)
def test_first_difference(first, second, difference):
    assert tree.first_difference(first, second) == difference


def test_map_over_trees_that_differ():
    with pytest.raises(TreeMismatchError) as e:
        tree.tree_map(lambda a, b: a, {"w": 1, "b": 2}, {"w": 1, "c": 2})
    assert str(e.value) == (
        "tree_map: argument 2 must have the structure of the first tree, got {'c': *, 'w': *} for "
        "{'b': *, 'w': *} (first difference: ['b'] against ['c']). Pass matching trees."
    )


def test_partial_is_a_tree_of_its_arguments():
    add = tree.Partial(lambda a, b, *, c: a + b + c, 1, c=2)
    assert add(10) == 13 and tree.tree_leaves(add) == [1, 2]
    doubled = tree.tree_map(lambda x: 2 * x, add)
    assert doubled(10) == 16


def test_registered_classes_pass_through_every_transformation():
    layer = Layer(w=fnp.asarray([1.0, 2.0]), b=fnp.asarray(3.0))

    def loss(p):
        assert p.size == 3
        return fnp.sum(p.w * p.w) * p.b

    for g in (fgrad.grad(loss), fgrad.jit(fgrad.grad(loss)), fgrad.grad(fgrad.jit(loss))):
        out = g(layer)
        assert isinstance(out, Layer) and out.size == 3
        assert np.asarray(out.w).tolist() == [6, 12] and float(out.b) == 5
    out = fgrad.vmap(lambda p: Pair(p.w * 2, p.b))(Layer(w=fnp.ones((2, 3)), b=fnp.ones(2)))
    assert isinstance(out, Pair) and out.a.shape == (2, 3)


def test_registering_twice_is_an_error():
    with pytest.raises(ValueError, match="already registered"):
        tree.register_pytree_node(Pair, lambda p: ((), None), lambda aux, c: None)
