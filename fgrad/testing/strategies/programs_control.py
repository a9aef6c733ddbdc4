"""The steps of random programs that hold bodies: loops, branches, and functions under jit, checkpoint or rules."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from fgrad.testing.strategies.programs_text import COUNT, Function, Step, Type, Value, is_float
from fgrad.testing.strategies.programs_writer import LARGEST, Options, Writer, unpacked


def _scan(w: Writer) -> None:
    """(carry.., rows..) with rows of what bodies compute in each step."""
    rnd = w.rnd
    carry = [w.any() for _ in range(rnd.randint(0, 3))]
    first = w.pick(lambda t: bool(t.shape)) if w.often(1, 2) else None
    xs = [first] if first else []
    if first and w.often(1, 3):
        more = w.pick(lambda t: t.shape[:1] == first.type.shape[:1])
        xs += [more] if more else []
    length = xs[0].type.shape[0] if xs else rnd.randint(0, 5)
    inside, rows = w.values([v.type for v in carry]), w.values([_row(v.type) for v in xs])
    c, x = w.name("c"), w.name("x")
    ys = [rnd.choice([v.type for v in (*inside, *rows)]) for _ in range(rnd.randint(0, 2)) if carry or xs]
    ys = [t for t in ys if length * _size(t) <= LARGEST]
    if not carry and not ys:
        return
    results = [v.type for v in inside] + ys
    n = len(carry)
    body, _ = w.body(
        (c, x), [(c, inside), *([(x, rows)] if xs else [])], results,
        lambda out: f"{unpacked(out[:n])}, {unpacked(out[n:])}",
    )  # fmt: skip
    last, stacked = w.values(results[:n]), w.values([t._replace(shape=(length, *t.shape)) for t in ys])
    options = f"length={length}, reverse={w.often(1, 3)}, unroll={rnd.choice((1, 1, 1, 2))}"
    call = f"lax.scan({body.name}, {unpacked(carry)}, {unpacked(xs) if xs else None}, {options})"
    w.scope.step(Step(f"{unpacked(last)}, {unpacked(stacked)}", call, (body,)), [*last, *stacked])


def _row(t: Type) -> Type:
    return t._replace(shape=t.shape[1:])


def _size(t: Type) -> int:
    return math.prod(t.shape)


def _fori(w: Writer) -> None:
    rnd = w.rnd
    carry = [w.any() for _ in range(rnd.randint(1, 3))]
    types = [v.type for v in carry]
    stop: object = rnd.randint(-1, 4)
    if not w.options.reverse and w.often(1, 2):
        stop = w.count(5)
    i, c, number = w.name("i"), w.name("c"), Value(w.name("v"), COUNT)
    inside = w.values(types)
    body, _ = w.body((i, c), [(f"(lax.convert_element_type({i}, fnp.int32),)", [number]), (c, inside)], types, unpacked)
    results = w.values(types)
    call = f"lax.fori_loop({rnd.randint(-2, 2)}, {stop}, {body.name}, {unpacked(carry)})"
    w.scope.step(Step(unpacked(results), call, (body,)), results)


def _repeat(w: Writer) -> None:
    """While a counter is below a limit and an integer computed from the carry is no multiple of 7."""
    carry = [w.any() for _ in range(w.rnd.randint(1, 3))]
    types, limit = [v.type for v in carry], w.rnd.randint(0, 5)

    def body(wanted: Sequence[Type], returns: str) -> Function:
        c, number, inside = w.name("c"), Value(w.name("v"), COUNT), w.values(types)
        unpack = [(f"({c}[0],)", [number]), (f"{c}[1]", inside)]
        return w.body((c,), unpack, wanted, lambda out: returns.format(n=number, one=out[0], all=unpacked(out)))[0]

    goes_on = body([COUNT], f"({{n}} < {limit}) & ({{one}} % 7 != 0)")
    step = body(types, "{n} + 1, {all}")
    results = w.values(types)
    start = f"(fnp.asarray(0, fnp.int32), {unpacked(carry)})"
    call = f"lax.while_loop({goes_on.name}, {step.name}, {start})[1]"
    w.scope.step(Step(unpacked(results), call, (goes_on, step)), results)


def _branch(w: Writer) -> None:
    """cond and switch; a switch's index is clamped."""
    rnd = w.rnd
    operands = [w.any() for _ in range(rnd.randint(1, 3))]
    types = [v.type for v in operands]
    wanted = [rnd.choice(types) for _ in range(rnd.randint(1, 2))]
    n = rnd.randint(1, 3)
    number = w.count(n + 1)
    bodies = []
    for _ in range(n):
        params = w.values(types)
        bodies.append(w.body([str(v) for v in params], [], wanted, unpacked, given=params)[0])
    given = ", ".join(map(str, operands))
    if n == 2:
        call = f"lax.cond({number} > 0, {bodies[0].name}, {bodies[1].name}, {given})"
    else:
        call = f"lax.switch({number}, [{', '.join(b.name for b in bodies)}], {given})"
    results = w.values(wanted)
    w.scope.step(Step(unpacked(results), call, tuple(bodies)), results)


def _mapped(w: Writer) -> None:
    """vmap and lax.map of a body over rows."""
    x = w.pick(lambda t: bool(t.shape) and t.shape[0] > 0)
    if x is None:
        return
    param = Value(w.name("v"), _row(x.type))
    body, (t,) = w.body((param.name,), [], None, lambda out: str(out[0]), given=[param])
    if x.type.shape[0] * _size(t) <= LARGEST:
        out = Value(w.name("v"), t._replace(shape=(x.type.shape[0], *t.shape)))
        call = f"lax.map({body.name}, {x})" if w.often(1, 3) else f"fgrad.vmap({body.name})({x})"
        w.scope.step(Step(out.name, call, (body,)), [out])


def _called(transformed: str, rule: str = "") -> Callable[[Writer], None]:
    """A body under a transformation; a rule of its own takes and returns floats, and reads nothing from around it."""

    def write(w: Writer) -> None:
        ok = (lambda t: is_float(t)) if rule else (lambda t: True)
        operands = [v for v in (w.pick(ok) for _ in range(w.rnd.randint(1, 3))) if v is not None]
        if not operands:
            return
        params = w.values([v.type for v in operands])
        wanted = [params[0].type] if rule else None
        body, (t,) = w.body([str(v) for v in params], [], wanted, lambda out: str(out[0]), bool(rule), params)
        given, out = ", ".join(map(str, operands)), Value(w.name("v"), t)
        if not rule:
            w.scope.step(Step(out.name, f"{transformed}({body.name})({given})", (body,)), [out])
            return
        f = w.name("rule")
        after = (rule.format(function=f, body=body.name),)
        w.scope.step(Step(f, f"{transformed}({body.name})", (body,), after), [])
        w.scope.step(Step(out.name, f"{f}({given})"), [out])

    return write


JVP_RULE = "{function}.defjvp(lambda primals, tangents: fgrad.jvp({body}, primals, tangents))"
VJP_RULE = "{function}.defvjp(lambda *xs: ({body}(*xs), xs), lambda xs, ct: fgrad.vjp({body}, *xs)[1](ct))"


def _always(o: Options) -> bool:
    return True


BODIES: tuple[tuple[Callable[[Writer], None], Callable[[Options], bool]], ...] = (
    (_called("fgrad.jit"), _always),
    (_called("fgrad.checkpoint"), _always),
    (_called("fgrad.custom_jvp", JVP_RULE), _always),
    (_called("fgrad.custom_vjp", VJP_RULE), lambda o: not o.forward),
    (_mapped, _always),
    (_branch, lambda o: o.control_flow),
    (_fori, lambda o: o.control_flow),
    (_scan, lambda o: o.control_flow),
    (_scan, lambda o: o.control_flow),
    (_repeat, lambda o: o.control_flow and not o.reverse),
)
