"""The public functions by name, those that need it wrapped; and the seeds of all of them."""

import importlib
import inspect
import operator
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import error_seeds_lax
import error_seeds_numpy
import error_seeds_others
import optree
from error_calls import Call

import fgrad
import fgrad.numpy as fnp
from fgrad import config, optim, tree, tree_util
from fgrad.core.array import Array

MODULES = {
    "lax": fgrad.lax,
    "numpy": fnp,
    "numpy.linalg": fnp.linalg,
    **{n: importlib.import_module(f"fgrad.{n}") for n in (
        "nn", "nn.initializers", "random", "optim", "debug", "extend", "tree_util", "datasets", "ad_checkpoint",
        "config")},
    "checkpoint_policies": fgrad.checkpoint_policies,
    "tree": tree,
    "": fgrad,
}  # fmt: skip

# Without arguments of their own to check: records that rules are written with, states that ``init`` makes, predicates
# that the linearizer calls; protocols that NumPy and the copy module call; names of members; and what would empty the
# caches of the process under test.
NOT_CALLED = {
    *(f"extend.{n}" for n in (
        "Scalar", "Value", "ScalarMap", "IndexMap", "Fold", "Kernel", "Host", "Unfilled", "Linear", "Bilinear",
        "OverAxis", "ShapedArray", "LinearArg", "Zero", "Axis", "Layout", "PlanBuilder", "KernelPlan", "Step", "Ptr",
        "ClosedJaxpr", "Jaxpr", "Eqn", "Var", "Literal")),
    *(f"optim.{n}" for n in (
        "GradientTransformation", "EmptyState", "ScaleByAdamState", "ScaleByScheduleState", "TraceState")),
    *(f"checkpoint_policies.{n}" for n in (
        "everything_saveable", "nothing_saveable", "dots_saveable", "checkpoint_dots",
        "dots_with_no_batch_dims_saveable", "checkpoint_dots_with_no_batch_dims")),
    *(f"tree.{n}" for n in ("structure_text", "tree_paths", "first_difference", "broadcast_prefix",
                            "TreeMismatchError")),
    *(f"Array.{n}" for n in ("__array__", "__dlpack__", "__dlpack_device__", "__reduce__", "__deepcopy__", "__copy__")),
    "lax.RoundingMethod", "Array", "CacheInfo", "ClosedJaxpr", "clear_caches", "datasets.Mnist", "config.ConfigError",
    "config.set_cpu_vector_bits",
}  # fmt: skip


def public() -> Iterator[tuple[str, Any]]:
    """(name, function or class) of everything that users can call."""
    for module, namespace in MODULES.items():
        own = namespace.__name__
        names = getattr(namespace, "__all__", None)
        if names is None:
            names = [n for n, v in vars(namespace).items()
                     if not n.startswith("_") and (inspect.isfunction(v) or isinstance(v, type))
                     and (v.__module__ or "").startswith(own)]  # fmt: skip
        for name in names:
            value = getattr(namespace, name)
            if callable(value) and (getattr(value, "__module__", None) or "").startswith("fgrad"):
                yield f"{module}.{name}" if module else name, value
    for name in dir(Array):
        value = inspect.getattr_static(Array, name)
        if inspect.isfunction(value) and getattr(object, name, None) is not value:
            yield f"Array.{name}", value
    for name in ("get", "set", "add", "subtract", "multiply", "mul", "divide", "power", "min", "max", "apply"):
        yield f"at.{name}", None


# --- wrapped ---------------------------------------------------------------------------------------------------------
OPERATORS = {
    "__getitem__": operator.getitem, "__setitem__": operator.setitem, "__contains__": operator.contains, "__len__": len,
    "__iter__": list, "__round__": round, "__abs__": abs, "__neg__": operator.neg, "__pos__": operator.pos,
    "__invert__": operator.invert, "__int__": int, "__float__": float, "__complex__": complex, "__bool__": bool,
    "__index__": operator.index, "__format__": format, "__hash__": hash, "__repr__": repr, "__divmod__": divmod,
    **{f"__{n}__": getattr(operator, n)
       for n in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "lshift", "rshift", "xor", "eq",
                 "ne", "lt", "le", "gt", "ge")},
    "__and__": operator.and_, "__or__": operator.or_,
}  # fmt: skip


def method(name: str) -> Callable[..., Any]:
    """A method or operator of the Array that the first argument is converted to."""

    def call_method(x: Any, *args: Any, **kwargs: Any) -> Any:
        x = fnp.asarray(x)
        if name in OPERATORS:
            return OPERATORS[name](x, *args, **kwargs)
        if name.startswith("__r") and (forward := OPERATORS.get("__" + name[3:])):
            return forward(*args, x, **kwargs)
        return getattr(x, name)(*args, **kwargs)

    return call_method


def update(name: str) -> Callable[..., Any]:
    def call_update(x: Any, index: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(fnp.asarray(x).at[index], name)(*args, **kwargs)

    return call_update


def pull_back(fun: Any, primals: Any, *cotangents: Any, **kwargs: Any) -> Any:
    return fgrad.vjp(fun, *primals, **kwargs)[1](*cotangents)


def push_forward(fun: Any, primals: Any, tangents: Any) -> Any:
    return fgrad.linearize(fun, *primals)[1](*tangents)


def lowered(fun: Any, *args: Any, **kwargs: Any) -> Any:
    low = fgrad.jit(fun).lower(*args, **kwargs)
    return low.as_text(), str(low.explain()), low.compile()(*args, **kwargs)


def with_jvp(fun: Any, rule: Any, args: Any, **options: Any) -> Any:
    f = fgrad.custom_jvp(fun, **options)
    f.defjvp(rule)
    return fgrad.vjp(f, *args)


def with_jvps(fun: Any, rules: Any, args: Any, **options: Any) -> Any:
    f = fgrad.custom_jvp(fun, **options)
    f.defjvps(*rules)
    return fgrad.vjp(f, *args)


def with_vjp(fun: Any, fwd: Any, bwd: Any, args: Any, **options: Any) -> Any:
    f = fgrad.custom_vjp(fun, **options)
    f.defvjp(fwd, bwd)
    out, back = fgrad.vjp(f, *args)
    return back(out)


def optimiser(name: str) -> Callable[..., Any]:
    """An optimiser, as a function that makes one step with given gradients."""
    make = getattr(optim, name)

    def call_optimiser(*args: Any, **kwargs: Any) -> Any:
        made = make(*args, **kwargs)

        def one_step(gradients: Any, params: Any = None) -> Any:
            params = gradients if params is None else params
            updates, _ = made.update(gradients, made.init(params), params)
            return optim.apply_updates(params, updates)

        return one_step

    return call_optimiser


def registration(name: str) -> Callable[..., Any]:
    """Registers a class and takes it back."""
    register = getattr(tree_util, name)

    def call_registration(*args: Any, **kwargs: Any) -> Any:
        before = set(optree.register_pytree_node.get(namespace="fgrad"))
        try:
            return register(*args, **kwargs)
        finally:
            for cls in set(optree.register_pytree_node.get(namespace="fgrad")) - before:
                optree.unregister_pytree_node(cls, namespace="fgrad")

    return call_registration


def setting(name: str) -> Callable[..., Any]:
    """Changes a setting of the process and takes it back."""
    change = getattr(config, name)

    def call_setting(*args: Any, **kwargs: Any) -> Any:
        before = dict(config._overrides)
        try:
            return change(*args, **kwargs)
        finally:
            config._overrides.clear()
            config._overrides.update(before)

    return call_setting


def switched(manager: Callable[..., Any]) -> Callable[..., Any]:
    """Enters and leaves a context."""

    def call_switched(*args: Any, **kwargs: Any) -> Any:
        with manager(*args, **kwargs):
            return fnp.sum(fnp.ones(3))

    return call_switched


def pretty(**kwargs: Any) -> Any:
    return fgrad.make_jaxpr(fnp.sin)(1.0).pretty_print(**kwargs)


WRAPPED: dict[str, Callable[..., Any]] = {
    "vjp.pullback": pull_back,
    "linearize.tangent": push_forward,
    "jit.lower": lowered,
    "custom_jvp": with_jvp,
    "custom_jvp.defjvps": with_jvps,
    "custom_vjp": with_vjp,
    "jaxpr.pretty_print": pretty,
    **{f"optim.{n}": optimiser(n) for n in (
        "adam", "adamw", "sgd", "chain", "identity", "add_decayed_weights", "clip", "clip_by_global_norm", "scale",
        "scale_by_adam", "scale_by_learning_rate", "scale_by_schedule", "trace")},
    **{f"tree_util.{n}": registration(n) for n in (
        "register_dataclass", "register_pytree_node", "register_pytree_node_class")},
    **{f"config.{n}": setting(n) for n in (
        "set_num_threads", "set_cache_limits", "set_cache_dir", "set_cache_dir_bytes")},
    "config.using_num_threads": switched(config.using_num_threads),
    **{
        f"debug.{n}": switched(getattr(fgrad.debug, n))
        for n in ("check_tracer_leaks", "checking_leaks", "debug_infs", "debug_nans")
    },
}  # fmt: skip


def function_of(target: str) -> Callable[..., Any]:
    if target in WRAPPED:
        return WRAPPED[target]
    module, _, name = target.rpartition(".")
    if module == "Array":
        return method(name)
    if module == "at":
        return update(name)
    return getattr(MODULES[module], name)


SEEDS: dict[str, list[Call]] = {
    target: [replace(c, target=target) for c in calls]
    for table in (error_seeds_lax.SEEDS, error_seeds_numpy.SEEDS, error_seeds_others.SEEDS)
    for target, calls in table.items()
}
FUNCTIONS = {target: function_of(target) for target in SEEDS}
