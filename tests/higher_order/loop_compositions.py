"""Compositions of transformations of a program, the same for fgrad and for JAX.

Each takes the module (fgrad or jax), the program and its arguments, and returns arrays.
"""

import numpy as onp


def leaves(module, x):
    tree = module.tree if hasattr(module, "tree") else module.tree_util
    return [v for v in tree.tree_leaves(x) if onp.asarray(v).dtype.kind == "f"]


def like(module, x, seed):
    """Normal numbers in x's structure."""
    rng = onp.random.default_rng(seed)
    np = numpy_of(module)
    flat, treedef = module.tree.tree_flatten(x) if hasattr(module.tree, "tree_flatten") else module.tree.flatten(x)
    values = [np.asarray(rng.standard_normal(onp.shape(v))) for v in flat]
    return treedef.unflatten(values)


def numpy_of(module):
    import importlib

    return importlib.import_module(f"{module.__name__}.numpy")


def scalar(module, f):
    """A scalar of all floating results, not linear in them."""
    np = numpy_of(module)

    def total(*args):
        out = leaves_of_traced(module, f(*args))
        return sum(np.sum(np.sin(v + 0.1 * k)) for k, v in enumerate(out))

    return total


def leaves_of_traced(module, x):
    tree = module.tree
    flat = tree.tree_leaves(x) if hasattr(tree, "tree_leaves") else tree.leaves(x)
    return [v for v in flat if onp.dtype(v.dtype).kind == "f"]


def every(args):
    return tuple(range(len(args)))


def value(m, f, args):
    return f(*args)


def jit(m, f, args):
    return m.jit(f)(*args)


def jvp(m, f, args):
    return m.jvp(scalar(m, f), args, like(m, args, 1))


def jit_jvp(m, f, args):
    return m.jit(lambda *a: m.jvp(scalar(m, f), a, like(m, args, 1)))(*args)


def jvp_jit(m, f, args):
    return m.jvp(m.jit(scalar(m, f)), args, like(m, args, 1))


def linearize(m, f, args):
    y, lin = m.linearize(scalar(m, f), *args)
    return y, lin(*like(m, args, 1)), lin(*like(m, args, 2))


def jit_linearize(m, f, args):
    y, lin = m.linearize(m.jit(scalar(m, f)), *args)
    return y, lin(*like(m, args, 1))


def jvp_jvp(m, f, args):
    g = scalar(m, f)
    return m.jvp(lambda *a: m.jvp(g, a, like(m, args, 1))[1], args, like(m, args, 2))


def vmap(m, f, args):
    return m.vmap(f)(*batched(m, args))


def vmap_first(m, f, args):
    return m.vmap(f, in_axes=(0, *(None for _ in args[1:])))(batched(m, args[0]), *args[1:])


def vmap_last(m, f, args):
    return m.vmap(f, in_axes=(*(None for _ in args[1:]), 0), out_axes=-1)(*args[:-1], batched(m, args[-1]))


def jit_vmap(m, f, args):
    return m.jit(m.vmap(f))(*batched(m, args))


def vmap_jit(m, f, args):
    return m.vmap(m.jit(f))(*batched(m, args))


def vmap_vmap(m, f, args):
    return m.vmap(m.vmap(f, in_axes=(0, *(None for _ in args[1:]))))(*batched(m, (batched(m, args[0]), *args[1:])))


def vmap_jvp(m, f, args):
    return m.vmap(lambda *a: m.jvp(scalar(m, f), a, like(m, args, 1)))(*batched(m, args))


def jvp_vmap(m, f, args):
    many = batched(m, args)
    return m.jvp(scalar(m, m.vmap(f)), many, like(m, many, 1))


def grad(m, f, args):
    return m.grad(scalar(m, f), every(args))(*args)


def grad_first(m, f, args):
    return m.grad(scalar(m, f), 0)(*args)


def grad_last(m, f, args):
    return m.grad(scalar(m, f), len(args) - 1)(*args)


def vjp(m, f, args):
    out, pull = m.vjp(lambda *a: leaves_of_traced(m, f(*a)), *args)
    return out, pull(like(m, out, 3)), pull(like(m, out, 4))


def jit_grad(m, f, args):
    return m.jit(m.grad(scalar(m, f), every(args)))(*args)


def grad_jit(m, f, args):
    return m.grad(m.jit(scalar(m, f)), every(args))(*args)


def vmap_grad(m, f, args):
    return m.vmap(m.grad(scalar(m, f), every(args)))(*batched(m, args))


def vmap_grad_first(m, f, args):
    g = m.vmap(m.grad(scalar(m, f), every(args)), in_axes=(0, *(None for _ in args[1:])))
    return g(batched(m, args[0]), *args[1:])


def grad_vmap(m, f, args):
    return m.grad(scalar(m, m.vmap(f)), every(args))(*batched(m, args))


def grad_vmap_last(m, f, args):
    g = m.vmap(f, in_axes=(*(None for _ in args[1:]), 0))
    return m.grad(scalar(m, g), every(args))(*args[:-1], batched(m, args[-1]))


def jvp_grad(m, f, args):
    return m.jvp(m.grad(scalar(m, f), every(args)), args, like(m, args, 1))


def grad_jvp(m, f, args):
    return m.grad(lambda *a: m.jvp(scalar(m, f), a, like(m, args, 1))[1], every(args))(*args)


def grad_grad(m, f, args):
    np = numpy_of(m)
    g = m.grad(scalar(m, f), every(args))
    return m.grad(lambda *a: sum(np.sum(np.cos(v)) for v in leaves_of_traced(m, g(*a))), every(args))(*args)


def linearize_grad(m, f, args):
    y, lin = m.linearize(m.grad(scalar(m, f), every(args)), *args)
    return y, lin(*like(m, args, 1))


FORWARD = [
    value, jit, jvp, jit_jvp, jvp_jit, linearize, jit_linearize, jvp_jvp, vmap, vmap_first, vmap_last, jit_vmap,
    vmap_jit, vmap_vmap, vmap_jvp, jvp_vmap,
]  # fmt: skip
REVERSE = [
    grad, grad_first, grad_last, vjp, jit_grad, grad_jit, vmap_grad, vmap_grad_first, grad_vmap, grad_vmap_last,
    jvp_grad, grad_jvp, grad_grad, linearize_grad,
]  # fmt: skip


def batched(m, x):
    """Three of everything: the value, and it scaled."""
    np = numpy_of(m)
    tree_map = m.tree.tree_map if hasattr(m.tree, "tree_map") else m.tree.map
    return tree_map(lambda v: np.stack([v, 0.7 * v, 1.2 * v]), x)
