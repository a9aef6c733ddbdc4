"""Drawing a flow of data in layers: who stands in which layer, in which order, and where exactly.

Boxes are given with their sizes, flows with the places on the boxes' edges where they leave and arrive. A flow that
passes layers runs through a *joint* in each of them (a box of no height), so it never runs through a box. The steps are
those of Sugiyama, Tagawa and Toda (1981); positions within a layer are an isotonic regression: the nearest to where
the neighbours want a box to be, in the given order, without overlap.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

SEPARATION = 16.0  # between boxes of a layer
JOINT = 6.0  # width of a joint
BETWEEN = 34.0  # between layers
SWEEPS = 8  # over all layers, by the neighbours on one side
STRAIGHTENINGS = 16  # further sweeps, by the neighbours on both sides; fewer
WORK = 100_000  # if they would look at more boxes and joints than this


@dataclass(eq=False)
class Box:
    """x is the middle, y the top; the layout sets them."""

    width: float
    height: float
    layer: int = 0
    x: float = 0.0
    y: float = 0.0
    joint: bool = False
    late: bool = False  # stands just above its first reader, not just below its operands
    above: list[tuple[Box, float, float]] = field(default_factory=list)  # (neighbour, its port, my port)
    below: list[tuple[Box, float, float]] = field(default_factory=list)


@dataclass(eq=False)
class Flow:
    """From the lower edge of ``source`` to the upper edges of the targets; ports are offsets from a box's middle."""

    source: Box
    port: float
    targets: list[tuple[Box, float]]
    joints: dict[int, Box] = field(default_factory=dict)  # by layer

    def path(self, target: Box, port: float, floors: Sequence[float]) -> list[tuple[float, float]]:
        """Points from the source to a target; ``floors[k]`` is the lower edge of layer k."""
        points = [(self.source.x + self.port, self.source.y + self.source.height)]
        for layer in range(self.source.layer, target.layer):
            if layer > self.source.layer:
                joint = self.joints[layer]
                points += [(joint.x, joint.y), (joint.x, floors[layer])]
            elif floors[layer] > points[-1][1]:
                points.append((points[-1][0], floors[layer]))
        points.append((target.x + port, target.y))
        return points


@dataclass
class Drawing:
    width: float
    height: float
    floors: list[float]


def arrange(boxes: Sequence[Box], flows: Sequence[Flow]) -> Drawing:
    """Sets the boxes' layers and positions; ``boxes`` come in an order in which every flow goes forwards."""
    if not boxes:
        return Drawing(0.0, 0.0, [])
    _assign_layers(boxes, flows)
    layers: list[list[Box]] = [[] for _ in range(1 + max(b.layer for b in boxes))]
    for b in boxes:
        layers[b.layer].append(b)
    for flow in flows:
        _add_joints(flow, layers)
    _order(layers)
    _place(layers)
    floors, y = [], 0.0
    for layer in layers:
        for b in layer:
            b.y = y
        y += max(b.height for b in layer)
        floors.append(y)
        y += BETWEEN
    left = min(b.x - b.width / 2 for layer in layers for b in layer)
    for layer in layers:
        for b in layer:
            b.x -= left
    return Drawing(max(b.x + b.width / 2 for layer in layers for b in layer), floors[-1], floors)


def _assign_layers(boxes: Sequence[Box], flows: Sequence[Flow]) -> None:
    """One below the lowest operand; then those marked late sink to one above their first reader."""
    reads: dict[Box, list[Box]] = {}
    read_by: dict[Box, list[Box]] = {}
    for flow in flows:
        for target, _ in flow.targets:
            reads.setdefault(target, []).append(flow.source)
            read_by.setdefault(flow.source, []).append(target)
    for b in boxes:
        b.layer = max((s.layer + 1 for s in reads.get(b, ())), default=0)
    for b in reversed(boxes):
        if b.late and b in read_by:
            b.layer = min(t.layer for t in read_by[b]) - 1
    used = {layer: i for i, layer in enumerate(sorted({b.layer for b in boxes}))}
    for b in boxes:
        b.layer = used[b.layer]


def _add_joints(flow: Flow, layers: list[list[Box]]) -> None:
    """One chain of joints for all targets; a target hangs on the joint in the layer above it."""
    before, port = flow.source, flow.port
    last = max((t.layer for t, _ in flow.targets), default=0)
    for layer in range(flow.source.layer + 1, last):
        joint = Box(JOINT, 0.0, layer, joint=True)
        flow.joints[layer] = joint
        layers[layer].append(joint)
        _link(before, port, joint, 0.0)
        before, port = joint, 0.0
    for target, at in flow.targets:
        upper = flow.joints.get(target.layer - 1)
        if upper is None:
            _link(flow.source, flow.port, target, at)
        else:
            _link(upper, 0.0, target, at)


def _link(upper: Box, upper_port: float, lower: Box, lower_port: float) -> None:
    upper.below.append((lower, lower_port, upper_port))
    lower.above.append((upper, upper_port, lower_port))


def _order(layers: list[list[Box]]) -> None:
    """Few crossings: each layer in the order of its neighbours' mean places, downwards and upwards in turn."""
    place: dict[Box, float] = {}

    def number(layer: list[Box]) -> None:
        place.update((b, float(i)) for i, b in enumerate(layer))

    for layer in layers:
        number(layer)
    for sweep in range(SWEEPS):
        downwards = sweep % 2 == 0
        for layer in layers if downwards else layers[::-1]:
            wish = {}
            for b in layer:
                near = [place[n] + port / max(n.width, 1) for n, port, _ in (b.above if downwards else b.below)]
                wish[b] = sum(near) / len(near) if near else place[b]
            layer.sort(key=lambda b, wish=wish: wish[b])  # type: ignore[misc]
            number(layer)


def _place(layers: list[list[Box]]) -> None:
    for layer in layers:
        _settle(layer, [(0.0, 1.0)] * len(layer))
    straightenings = min(STRAIGHTENINGS, WORK // sum(map(len, layers)))
    for sweep in range(SWEEPS + straightenings):
        for layer in layers if sweep % 2 == 0 else layers[::-1]:
            _settle(layer, [_wish(b, sweep) for b in layer])


def _wish(b: Box, sweep: int) -> tuple[float, float]:
    """(where the neighbours want the middle, how much); flows between joints should be straight before all else."""
    near = [*b.above, *b.below] if sweep >= SWEEPS else b.above if sweep % 2 == 0 else b.below
    if not near:
        return b.x, 0.1
    weights = [8.0 if b.joint and n.joint else 2.0 if b.joint or n.joint else 1.0 for n, _, _ in near]
    wish = sum(w * (n.x + port - mine) for w, (n, port, mine) in zip(weights, near)) / sum(weights)
    return wish, sum(weights)


def _settle(layer: list[Box], wishes: list[tuple[float, float]]) -> None:
    """x minimising sum of weight (x - wish)^2 without overlaps, by pooling adjacent violators.

    With s_i = the least distance of box i from box 0, x_i - s_i must be non-decreasing.
    """
    if not layer:
        return
    offsets = [0.0]
    for a, b in itertools.pairwise(layer):
        gap = SEPARATION / 2 if a.joint or b.joint else SEPARATION
        offsets.append(offsets[-1] + (a.width + b.width) / 2 + gap)
    pools: list[tuple[float, float, int]] = []  # (mean, weight, count)
    for (wish, weight), offset in zip(wishes, offsets):
        mean, count = wish - offset, 1
        while pools and pools[-1][0] > mean:
            m, w, n = pools.pop()
            mean, weight, count = (m * w + mean * weight) / (w + weight), w + weight, n + count
        pools.append((mean, weight, count))
    means = [mean for mean, _, count in pools for _ in range(count)]
    for b, mean, offset in zip(layer, means, offsets):
        b.x = mean + offset
