"""Jaxprs as text with sources and as pictures: each equation has a box, each operand a flow, nothing overlaps."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

import fgrad
import fgrad.numpy as fnp
from fgrad import lax, nn
from fgrad.ad_checkpoint import checkpoint_name
from fgrad.core.jaxpr import Literal, subjaxprs
from fgrad.core.layers import Box, Flow, arrange
from fgrad.core.picture import COLOURS, kind_of
from fgrad.core.primitive import REGISTRY

SVG = "{http://www.w3.org/2000/svg}"
X = np.ones(3, np.float32)


# --- text ------------------------------------------------------------------------------------------------------------
def loss(x):
    y = fnp.sin(x)  # line 24
    return fnp.sum(y * x)  # line 25


def test_text_with_sources():
    closed = fgrad.make_jaxpr(fgrad.grad(loss))(X)
    plain, text = str(closed), closed.pretty_print(source_info=True)
    assert closed.pretty_print() == plain
    equations = [line.split("#") for line in text.splitlines() if "#" in line]
    assert len({len(code) for code, _ in equations}) == 1  # one column
    assert [re.sub(r".*test_pictures\.py:", "", where) for _, where in equations] == [
        "24 (loss)", "24 (loss)", "25 (loss), backward", "25 (loss), backward", "25 (loss), backward",
        "24 (loss), backward", "24 (loss), backward",
    ]  # fmt: skip
    assert [code.rstrip() for code, _ in equations] == [x for x in plain.splitlines() if " = " in x]


def test_sources_of_the_backward_pass_of_a_jitted_function():
    text = fgrad.make_jaxpr(fgrad.grad(fgrad.jit(loss)))(X).pretty_print(source_info=True)
    inner = [line for line in text.splitlines() if "backward" in line and "jit[" not in line]
    assert len(inner) == 5 and all(re.search(r"#.*test_pictures.py:2[45] \(loss\), backward", line) for line in inner)


def test_rules_of_users_have_lines_of_their_own():
    @fgrad.custom_jvp
    def square(x):
        return x * x

    @square.defjvp
    def rule(primals, tangents):
        (x,), (dx,) = primals, tangents
        return square(x), 2 * x * dx

    def f(x):
        return fnp.sin(square(fnp.cos(x)))

    text = fgrad.make_jaxpr(lambda x: fgrad.jvp(f, (x,), (x,)))(1.0).pretty_print(source_info=True)
    found = re.findall(r" = (\w+).*\((\w+)\)$", text, re.MULTILINE)
    assert ("sin", "f") in found and ("cos", "f") in found
    assert {name for op, name in found if op == "mul"} == {"f", "rule", "square"}


def test_jaxprs_inside_are_indented():
    def f(x):
        x = lax.cond(x > 0, lambda x: x * 2, fnp.sin, x)
        return lax.while_loop(lambda c: c < 9, lambda c: c + 1, x)

    assert (
        str(fgrad.make_jaxpr(f)(1.0))
        == """\
{ lambda ; a:f32[]~. let
    b:bool[] = gt a 0.0:f32[]~
    c:i32[] = convert_element_type[new_dtype=int32 weak_type=False] b
    d:f32[]~ = cond[
      branches[0]={ lambda ; a:f32[]~. let
          b:f32[]~ = sin a
        in (b,) }
      branches[1]={ lambda ; a:f32[]~. let
          b:f32[]~ = mul a 2.0:f32[]~
        in (b,) }
    ] c a
    e:f32[]~ = while[n_cond_consts=0 n_body_consts=0
      cond_jaxpr={ lambda ; a:f32[]~. let
          b:bool[] = lt a 9.0:f32[]~
        in (b,) }
      body_jaxpr={ lambda ; a:f32[]~. let
          b:f32[]~ = add a 1.0:f32[]~
        in (b,) }
    ] d
  in (e,) }"""
    )


# --- pictures --------------------------------------------------------------------------------------------------------
def cnn(params, x, y):
    for w, b in params[:2]:
        x = lax.conv_general_dilated(x, w, (1, 1), "SAME") + b[None, :, None, None]
        x = lax.reduce_window(nn.relu(x), -np.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
    x = x.reshape(x.shape[0], -1) @ params[2]
    z = x - x.max(1, keepdims=True)
    return -fnp.mean(((z - fnp.log(fnp.exp(z).sum(1, keepdims=True))) * y).sum(1))


def ones(*shape):
    return np.ones(shape, np.float32)


PARAMS = [(ones(8, 3, 3, 3), ones(8)), (ones(16, 8, 3, 3), ones(16)), ones(256, 10)]


def rnn(w, x):
    return lax.scan(lambda c, t: (fnp.tanh(c @ w + t), c), fnp.zeros(3), x)[0]


def branches(x):
    inner = fgrad.jit(lambda x: x * fnp.sin(x))
    return lax.cond(x.sum() > 0, inner, lambda x: lax.while_loop(lambda c: c.sum() < 9, lambda c: c + 1, x), x)


PROGRAMS = {
    "cnn": lambda: fgrad.make_jaxpr(fgrad.value_and_grad(cnn))(PARAMS, ones(2, 3, 16, 16), ones(2, 10)),
    "rnn": lambda: fgrad.make_jaxpr(fgrad.jit(fgrad.grad(lambda w, x: rnn(w, x).sum())))(ones(3, 3), ones(5, 3)),
    "branches": lambda: fgrad.make_jaxpr(fgrad.vmap(branches))(ones(2, 3)),
    "no equations": lambda: fgrad.make_jaxpr(lambda x, y: (y, 2.0, y))(X, X),
    "nothing": lambda: fgrad.make_jaxpr(lambda: ())(),
    "unread results": lambda: fgrad.make_jaxpr(lambda x: fgrad.debug.callback(print, x, x))(X),
}


def everything(jaxpr):
    """(equations, operands that are variables, outputs that are, inputs, outputs) with all inner jaxprs."""
    inner = [everything(sub.jaxpr) for e in jaxpr.eqns for sub in subjaxprs(e.params)]
    reads = sum(not isinstance(a, Literal) for a in (*(a for e in jaxpr.eqns for a in e.invars), *jaxpr.outvars))
    own = (len(jaxpr.eqns), reads, len(jaxpr.constvars) + len(jaxpr.invars), len(jaxpr.outvars))
    return tuple(map(sum, zip(own, *inner)))


@pytest.mark.parametrize("name", PROGRAMS)
def test_everything_is_drawn(name):
    closed = PROGRAMS[name]()
    root = ElementTree.fromstring(closed.to_svg())
    drawn = [len(root.findall(f".//{SVG}g[@class='{what}']")) for what in ("eqn", "input", "output")]
    eqns, reads, inputs, outputs = everything(closed.jaxpr)
    assert (drawn, len(root.findall(f".//{SVG}path"))) == ([eqns, inputs, outputs], reads)
    assert closed._repr_html_().count("<svg") == 1


def rectangle(node):
    r = node.find(f"{SVG}rect")
    x, y, w, h = (float(r.get(k)) for k in ("x", "y", "width", "height"))
    return x, y, x + w, y + h


def overlap(a, b):
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def groups(node):
    return [g for g in node.findall(f"{SVG}g") if g.get("class") in ("eqn", "input", "output")]


@pytest.mark.parametrize("name", PROGRAMS)
def test_no_boxes_overlap(name):
    root = ElementTree.fromstring(PROGRAMS[name]().to_svg())
    width, height = float(root.get("width")), float(root.get("height"))

    def check(node):
        boxes = [(g, rectangle(g)) for g in groups(node)]
        for i, (g, box) in enumerate(boxes):
            assert 0 <= box[0] <= box[2] <= width and 0 <= box[1] <= box[3] <= height
            assert not any(overlap(box, other) for _, other in boxes[:i])
            for inner in groups(g):  # what an equation holds is drawn inside it
                a = rectangle(inner)
                assert box[0] <= a[0] and box[1] <= a[1] and a[2] <= box[2] and a[3] <= box[3]
            check(g)

    check(root)


@pytest.mark.parametrize("name", ["cnn", "rnn"])
def test_flows_go_down_and_through_no_box(name):
    root = ElementTree.fromstring(PROGRAMS[name]().to_svg())

    def check(node):
        boxes = [rectangle(g) for g in groups(node)]
        for path in node.findall(f"{SVG}path"):
            numbers = [float(x) for x in re.findall(r"[\d.]+", path.get("d"))]
            points = list(zip(numbers[::2], numbers[1::2]))
            assert points[0][1] < points[-1][1]
            for x, y in points:
                assert not any(b[0] < x < b[2] and b[1] + 0.2 < y < b[3] - 0.2 for b in boxes)
        for g in groups(node):
            check(g)

    check(root)


def test_text_stays_in_its_box():
    root = ElementTree.fromstring(PROGRAMS["cnn"]().to_svg())
    for g in groups(root):
        left, _, right, _ = rectangle(g)
        for text in g.findall(f"{SVG}text"):
            size = 6.1 if text.get("class") == "small" else 7.3
            assert left - 1 <= float(text.get("x")) and float(text.get("x")) + size * len(text.text) <= right + 1


def test_what_a_box_says():
    root = ElementTree.fromstring(fgrad.make_jaxpr(fgrad.grad(loss))(X).to_svg())
    first = root.findall(f".//{SVG}g[@class='eqn']")[0]
    assert [t.text for t in first.findall(f"{SVG}text")] == ["sin a", "test_pictures.py:24 (loss)", "b:f32[3]"]
    title = first.find(f"{SVG}title").text
    assert title.startswith("b:f32[3] = sin a\n") and title.endswith("test_pictures.py:24 (loss)")
    assert first.find(f"{SVG}rect").get("fill") == COLOURS["elementwise"]
    backward = [r for r in root.iter(f"{SVG}rect") if r.get("class") == "box backward"]
    assert len(backward) == 5
    legend = [t.text for t in root.findall(f"{SVG}text")]
    assert legend == ["elementwise", "index", "dashed: backward pass"]


def deep(n):
    def f(x):
        for _ in range(n):
            x = fnp.sin(x) * x
        return fnp.sum(x)

    return fgrad.make_jaxpr(fgrad.value_and_grad(f))(X)


def test_a_large_program_is_drawn_in_part():
    closed = deep(30)
    n = len(closed.eqns)
    root = ElementTree.fromstring(closed.to_svg(max_equations=20))
    boxes = root.findall(f"{SVG}g[@class='eqn']")
    assert len(boxes) == 21
    last = [t.text for t in boxes[-1].findall(f"{SVG}text")]
    first = closed.eqns[:20]
    made_later = [v for v in closed.jaxpr.outvars if not any(v in e.outvars for e in first)]
    assert last[0] == f"... {n - 20} more equations" and len(last) == 1 + len(made_later) == 3
    later = {a for e in closed.eqns[20:] for a in e.invars} & {
        *closed.jaxpr.invars, *(v for e in first for v in e.outvars)
    }  # fmt: skip
    reads = sum(not isinstance(a, Literal) for e in first for a in e.invars) + len(later) + len(closed.jaxpr.outvars)
    assert len(root.findall(f"{SVG}path")) == reads
    everything = ElementTree.fromstring(closed.to_svg(max_equations=None))
    assert len(everything.findall(f"{SVG}g[@class='eqn']")) == n
    assert len(ElementTree.fromstring(closed.to_svg(max_equations=n)).findall(f"{SVG}g[@class='eqn']")) == n
    assert len(ElementTree.fromstring(closed.to_svg(max_equations=0)).findall(f"{SVG}g[@class='eqn']")) == 1


def test_inner_equations_count_too():
    closed = PROGRAMS["rnn"]()
    root = ElementTree.fromstring(closed.to_svg(max_equations=5))
    drawn = [t.text for g in root.iter(f"{SVG}g") if g.get("class") == "eqn" for t in g.findall(f"{SVG}text")[:1]]
    assert len([text for text in drawn if "more equation" not in text]) == 5


@pytest.mark.long
def test_the_picture_of_a_huge_program_is_bounded():
    assert len(deep(400)._repr_html_()) < 3_000_000


def test_control_characters_have_no_place_in_xml():
    closed = fgrad.make_jaxpr(lambda x: checkpoint_name(x, "a\0\x1b<&\ud800>"))(X)
    assert "a\ufffd\ufffd<&\ufffd>" in "".join(ElementTree.fromstring(closed.to_svg()).itertext())


def test_text_is_escaped():
    root = ElementTree.fromstring(fgrad.make_jaxpr(lambda x: x < 2)(1.0).to_svg())
    assert any("(<lambda>)" in (t.text or "") for t in root.iter(f"{SVG}text"))


def test_every_primitive_has_a_colour():
    assert {kind_of(p) for p in REGISTRY.values()} <= set(COLOURS)
    names = (
        "add",
        "reduce_sum",
        "conv_general_dilated",
        "dot_general",
        "gather",
        "rev",
        "jit",
        "scan",
        "debug_callback",
    )
    assert [kind_of(REGISTRY[n]) for n in names] == [
        "elementwise", "reduction", "convolution, product", "convolution, product", "index", "index", "call",
        "control flow", "host",
    ]  # fmt: skip


# --- the layout by itself --------------------------------------------------------------------------------------------
def test_random_flows_are_arranged_without_overlap():
    rng = np.random.default_rng(0)
    for n in (1, 2, 5, 40):
        boxes = [Box(float(rng.uniform(10, 200)), float(rng.uniform(10, 80)), late=bool(rng.random() < 0.2))
                 for _ in range(n)]  # fmt: skip
        flows = []
        for i, box in enumerate(boxes[:-1]):
            targets = rng.choice(np.arange(i + 1, n), size=min(3, n - i - 1), replace=False)
            flows.append(Flow(box, 0.0, [(boxes[t], float(rng.uniform(-5, 5))) for t in targets]))
        drawing = arrange(boxes, flows)
        every = boxes + [j for f in flows for j in f.joints.values()]
        for i, a in enumerate(every):
            assert a.x - a.width / 2 >= -1e-6 and a.x + a.width / 2 <= drawing.width + 1e-6
            for b in every[:i]:
                if a.layer == b.layer:
                    assert abs(a.x - b.x) >= (a.width + b.width) / 2
        for f in flows:
            for target, port in f.targets:
                assert target.layer > f.source.layer
                path = f.path(target, port, drawing.floors)
                assert [y for _, y in path] == sorted(y for _, y in path)
    assert arrange([], []).width == 0
