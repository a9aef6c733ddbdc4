"""jit(f).lower(x).explain(): work and traffic by hand, what is fused, and why other things are not."""

import numpy as np
import pytest

import fgrad
import fgrad.numpy as fnp
from fgrad import debug, lax


def ones(*shape, dtype=np.float32):
    return np.ones(shape, dtype)


def told(f, *args):
    return fgrad.jit(f).lower(*args).explain()


def main(explanation):
    """The instruction with the most work."""
    return max(explanation.rows, key=lambda r: r.flops)


def test_a_fused_reduction():
    e = told(lambda x, y: fnp.sum(fnp.sin(x) * y), ones(8, 16), ones(8, 16))
    (r,) = e.rows
    assert r.fused == ("sin", "mul", "reduce_sum") and r.kernel == "emitted" and r.tile == "128 elements"
    assert (r.flops, r.bytes_read, r.bytes_written) == (3 * 128, 2 * 128 * 4, 4)
    assert r.intensity == 3 * 128 / (2 * 128 * 4 + 4)
    assert r.why == "fused: 2 element-wise over one shape, and the reduction takes its operand from registers"
    assert r.stored == ("stores float32[]: it is a result of the program",)
    assert (e.flops, e.bytes) == (r.flops, r.bytes)


def test_a_broadcast_operand_counts_once():
    (r,) = told(lambda x, y: x + y, ones(8, 16), ones(16)).rows
    assert (r.flops, r.bytes_read, r.bytes_written) == (128, (128 + 16) * 4, 128 * 4)


@pytest.mark.parametrize(
    ("f", "args", "flops"),
    [
        (lambda x, y: x @ y, (ones(5, 7), ones(7, 9)), 2 * 5 * 7 * 9),
        (lambda x, y: fnp.einsum("bij,bjk->bik", x, y), (ones(3, 5, 7), ones(3, 7, 9)), 2 * 3 * 5 * 7 * 9),
        (
            lambda x, w: lax.conv_general_dilated(x, w, (1, 1), "SAME"),
            (ones(2, 3, 8, 8), ones(4, 3, 3, 3)),
            2 * (2 * 4 * 8 * 8) * (3 * 3 * 3),
        ),
        (
            lambda x, w: lax.conv_general_dilated(x, w, (2, 2), "SAME", feature_group_count=3),
            (ones(2, 3, 8, 8), ones(6, 1, 3, 3)),
            2 * (2 * 6 * 4 * 4) * (1 * 3 * 3),
        ),
        (
            lambda x, w: lax.conv_general_dilated(x, w, (1, 1), ((2, 2), (2, 2)), lhs_dilation=(2, 2)),
            (ones(1, 4, 4, 4), ones(4, 4, 4, 4)),
            2 * (4 * 8 * 8) * (4 * 4 * 4) // 4,
        ),
        (
            lambda x: lax.reduce_window(x, -np.inf, lax.max, (2, 2), (2, 2), "VALID"),
            (ones(8, 8),),
            16 * 4,
        ),
        (lambda x: x.at[np.array([0, 2])].add(1.0), (ones(5),), 2),
        (lambda x: x[np.array([0, 2])], (ones(5),), 0),
    ],
)
def test_flops(f, args, flops):
    assert told(f, *args).flops == flops


def test_the_register_tile_and_the_steps_of_a_product():
    e = told(lambda x, w: lax.conv_general_dilated(x, w, (1, 1), "SAME"), ones(2, 3, 8, 8), ones(4, 3, 3, 3))
    r = main(e)
    rows, lanes = map(int, r.tile.split(" x "))
    assert r.kernel.startswith("gemm_float32_") and r.kernel.split("_")[-1].startswith(f"{rows}x")
    assert lanes * 4 * 8 % int(r.kernel.split("_")[2]) == 0
    assert r.fused == ("conv_general_dilated",)
    assert all(x.flops == 0 and x.fused == () for x in e.rows if x is not r)
    assert [x.number for x in e.rows] == list(range(len(e.rows)))


def test_what_follows_a_product_on_its_tiles():
    (r,) = told(lambda x, w, b: fnp.maximum(x @ w + b, 0), ones(64, 32), ones(32, 48), ones(48)).rows
    assert r.fused == ("dot_general", "add", "max") and r.kernel.startswith("gemm_float32_")
    assert r.flops == 2 * 64 * 32 * 48 + 2 * 64 * 48
    assert r.why == "fused: 2 element-wise behind the product, on its tiles or in the cache"


@pytest.mark.parametrize(
    ("f", "args", "why"),
    [
        (lambda x: fnp.sin(x).sum(0) * 2, (ones(4, 5),), "mul over [5] needs the finished reduction"),
        (lambda x: (lambda y: y - y.max(0, keepdims=True))(fnp.sin(x)), (ones(4, 5),),
         "sub over [4, 5] needs the reduction of this kernel first"),
        (lambda x: fnp.sin(x) @ x, (ones(4, 4),), "dot_general, a kernel, reads memory"),
        (lambda x: fnp.sin(x @ x).sum(), (ones(4, 4),),
         "sin reduce_sum over [4, 4] ends in a reduction of the finished result"),
        (lambda x: fnp.sin(fnp.sort(x)), (ones(4, 4),), "sin over [4, 4] is emitted code of its own"),
        (lambda x: fnp.cos(fnp.sin(x).T), (ones(4, 5),), "cos over [5, 4] has another loop shape"),
        (lambda x: fnp.cos(fnp.sin(x)[::-1]), (ones(4, 5),),
         "cos over [4, 5] reads it through a view, in another order"),
        (lambda x: fnp.pad(fnp.sin(x), 1), (ones(4,),), "pad copies it to where it belongs"),
        (lambda x: sum_of_many(fnp.sin(x)), (ones(30, 4),), "streams in one loop"),
    ],
)  # fmt: skip
def test_why_a_producer_is_stored(f, args, why):
    notes = [note for r in told(f, *args).rows for note in r.stored]
    assert any(why in note for note in notes), notes


def sum_of_many(x):
    parts = [x[i] * (i + 2.5) for i in range(30)]
    total = parts[0]
    for p in parts[1:]:
        total = fnp.sqrt(total) + p
    return total


def test_gather_reads_what_it_returns():
    assert all(r.bytes < 200 for r in told(lambda x: x[np.array([0, 2])], ones(1000, 4)).rows)


def test_views_are_named():
    e = told(lambda x, y: x.T @ y, ones(4, 5), ones(4, 6))
    assert main(e).why == "operand 0 read in place through a view"


def test_loops():
    def rnn(w, x):
        return lax.scan(lambda c, t: (fnp.tanh(c @ w + t), c), fnp.zeros(8), x)

    e = told(rnn, ones(8, 8), ones(100, 8))
    assert e.flops == 100 * (2 * 8 * 8 + 2 * 8)

    big = told(product, ones(256, 256), ones(5, 256, 256))
    r = main(big)
    assert r.times == 5 and r.runs == 5 and "dot_general" in r.fused
    assert big.flops >= 5 * 2 * 256**3

    w = told(lambda x: lax.while_loop(lambda c: c.sum() < 10, lambda c: c * 2, x), ones(4))
    assert any(r.times is None and r.runs == 1 for r in w.rows)
    assert repr(w).count("while loops count one iteration") == 1


def product(w, x):
    return lax.scan(lambda c, t: (c @ w + t, ()), fnp.zeros((256, 256)), x)[0]


def test_branches_and_host_steps():
    def f(x):
        debug.callback(lambda v: None, x)
        return lax.cond(x.sum() > 0, lambda x: x @ x, fnp.sin, x)

    e = told(f, ones(8, 8))
    kernels = [r.kernel for r in e.rows]
    assert "host numpy" in kernels and any(k.startswith("gemm") for k in kernels)
    host = next(r for r in e.rows if r.kernel == "host numpy")
    assert host.why == "in Python: a Python function" and host.bytes_read == 256
    assert any("It runs in Python, and the program waits for it." in hint for hint in e.hints)


def test_the_numbers_are_those_of_the_text():
    lowered = fgrad.jit(fgrad.grad(lambda w, x: fnp.sum(fnp.tanh(x @ w) ** 2))).lower(ones(16, 8), ones(4, 16))
    e, text = lowered.explain(), lowered.as_text()
    assert f"\n{len(e.rows)} instructions" in text
    for r in e.rows:
        line = next(x for x in text.splitlines() if x.startswith(f"{r.number:>4}  "))
        assert line.split()[1] == r.kernel and f" {r.tiles} tile" in line


def test_the_table():
    text = repr(told(lambda x: fnp.sin(x) * 2 + 1, ones(1000)))
    assert text == (
        "#  kernel   tile           tiles  times  flops  read  written  flop/B  operation\n"
        "0  emitted  1000 elements      1      1     3k    4k       4k    0.38  sin mul add over [1000] -> "
        "float32[1000]\n"
        f"     for test_explain.py:{test_the_table.__code__.co_firstlineno + 1}\n"
        "     fused: 3 element-wise over one shape; what is between them stays in registers\n"
        "     stores float32[1000]: it is a result of the program\n"
        "\n"
        "1 instruction, 3k flops, 8kB moved, 0B of temporaries\n"
        "- instruction 0 (sin mul add over [1000] -> float32[1000]): 100% of the flops, 100% of the bytes. Memory "
        "traffic bounds it; a narrower dtype, or less that must be stored, makes it faster."
    )


def nested(w, x):
    def step(c, t):
        c = lax.cond(t.sum() > 0, lambda c: c @ w, fnp.sin, c)
        return lax.while_loop(lambda c: c.sum() < 3, lambda c: (c @ w) + 1, c), c.sum()

    return lax.scan(step, x, ones(5, 3))


def test_what_is_inside_loops_and_branches():
    e = told(nested, ones(64, 64), ones(64, 64))
    inside = {r.inside: r.times for r in e.rows}
    assert inside == {
        ("for 5 times",): 5,
        ("for 5 times", "branch 0"): 5,
        ("for 5 times", "branch 1"): 5,
        ("for 5 times", "while"): None,
        ("for 5 times", "do"): None,
    }
    assert [text for _, _, text in e.heads] == ["for 5 times", "branch 0", "branch 1", "while", "do"]
    text = repr(e).splitlines()
    heads = [line.strip() for line in text if line.endswith(":")]
    assert heads == ["for 5 times:", "branch 0:", "branch 1:", "while:", "do:"]
    (indented,) = [line for line in text if "sin over [64, 64]" in line and line[0].isdigit()]
    assert indented.endswith(" " * 10 + "sin over [64, 64] -> float32[64, 64]")
    notes = [note for r in e.rows for note in r.stored]
    assert "stores int32[]: a branch, which has kernels of its own, reads it" in notes
    assert "stores float32[64, 64]: it is a result of the loop or branch around it" in notes


def test_a_loop_in_one_kernel_says_what_is_in_it():
    (r,) = told(lambda x: lax.fori_loop(0, 1000, lambda i, c: c * 1.1 + 1, x), ones(4)).rows
    assert r.operation == "for 1000 times: mul, add" and r.flops == 8000 and r.inside == ()
    assert r.why == "fused: the whole loop is one kernel, its body being small"


def test_the_user_s_lines():
    def f(w, x):
        y = fnp.tanh(x @ w)
        return fnp.sum(y * y)

    first = f.__code__.co_firstlineno + 1
    e = told(fgrad.grad(f), ones(16, 8), ones(4, 16))
    lines = [(line.line - first, line.function, line.backward) for r in e.rows for line in r.lines]
    assert lines[0] == (0, "f", False)
    assert {(n, back) for n, _, back in lines} == {(0, False), (0, True), (1, True)}
    assert f"     for test_explain.py:{first}, test_explain.py:{first + 1} backward" in repr(e)


def test_a_sum_in_parts_counts_once():
    e = told(lambda x: fnp.sum(x, axis=(0, 2)), ones(64, 8, 4096))
    assert [r.flops for r in e.rows] == [64 * 8 * 4096, *[0] * (len(e.rows) - 1)]
    assert [bool(r.tile) for r in e.rows] == [r.flops > 0 for r in e.rows]


def test_hints_come_biggest_first():
    e = told(lambda x, y: (fnp.sin(x).sum(), y * 2), ones(100_000), ones(50_000))
    shares = [max(r.flops / e.flops, r.bytes / e.bytes) for h in e.hints for r in [e.rows[int(h.split()[1])]]]
    assert e.hints[0].startswith("instruction 0 (sin reduce_sum over [100000] -> float32[]")
    assert shares == sorted(shares, reverse=True) and min(shares) >= 0.1


def test_an_empty_program():
    e = told(lambda x: x, ones(3))
    assert e.rows == () and e.flops == e.bytes == 0 and e.hints == []
    assert "0 instructions" in repr(e)
