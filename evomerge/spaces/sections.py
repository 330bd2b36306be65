"""How a model is cut into sections: sets of tensors with genes of their own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evomerge.spaces.ranges import Axis

REST = "rest"
"""What gene names call the tensors outside of every layer group and component."""


@dataclass(frozen=True)
class Span:
    """Neighbouring layers of a section that are merged alike."""

    layers: tuple[int, int] | None
    """Half-open range; None where the section is not bounded by layers."""

    share: float = 0.0
    """How far the layers are on the way to the following section's values, in [0, 1)."""


@dataclass(frozen=True)
class Section:
    """A set of tensors with genes of their own; or a knot, with the layers up to the next."""

    component: str | None
    """A part of the names of its tensors."""

    spans: tuple[Span, ...]
    labels: Mapping[Axis, str]
    """What tells it from other sections, by axis along which the model is cut."""

    sample: str
    """A tensor name for which only rules of this section hold."""

    following: "Section | None" = None
    """The next knot of the same component; None for the last and where there are none."""

    def label(self, axes: Sequence[Axis]) -> str:
        """The part of a gene's name that says which tensors it is for, given its axes."""
        parts = [self.labels[axis] for axis in axes if axis in self.labels]
        return " ".join(dict.fromkeys(parts))


def cut(
    layers: int, groups: int, components: Sequence[str] = (), *, interpolate: bool = False
) -> tuple[Section, ...]:
    """The sections of a model, from the first layers on; together they hold every tensor.

    Args:
        layers: Number of layers; at least ``groups`` if that is above 1.
        groups: Number of layer groups, or of knots.
        components: Parts of tensor names, each with sections of its own. What no part
            matches, and what is in no layer if there are groups, is the last section.
        interpolate: Take the groups as knots, evenly spaced from the first layer to the last.
    """
    named: list[str | None] = [*components] or [None]
    if groups == 1:
        whole = [_whole_depth(component) for component in named]
        return (*whole, _rest(("component",))) if components else tuple(whole)
    axes: tuple[Axis, ...] = ("layers", "component") if components else ("layers",)
    make = _knots if interpolate else _groups
    by_component = [make(layers, groups, component) for component in named]
    inside = [section for together in zip(*by_component, strict=True) for section in together]
    return (*inside, _rest(axes))


def layer_groups(layers: int, groups: int) -> list[tuple[int, int]]:
    """Contiguous half-open ranges whose sizes differ by at most one."""
    cuts = [layers * k // groups for k in range(groups + 1)]
    return [(cuts[k], cuts[k + 1]) for k in range(groups)]


def _groups(layers: int, groups: int, component: str | None) -> list[Section]:
    return [
        Section(
            component,
            (Span((first, stop)),),
            _labels(f"layers {first}-{stop - 1}", component),
            _sample(first, component),
        )
        for first, stop in layer_groups(layers, groups)
    ]


def _knots(layers: int, knots: int, component: str | None) -> list[Section]:
    """Each knot with the layers from it (included) to the next; the last with its own."""
    places = [layer * (knots - 1) / (layers - 1) for layer in range(layers)]
    sections: list[Section] = []
    for knot in reversed(range(knots)):
        depth = knot * (layers - 1) / (knots - 1)
        spans = tuple(
            Span((layer, layer + 1), place - knot)
            for layer, place in enumerate(places)
            if knot <= place < knot + 1
        )
        following = sections[-1] if sections else None
        labels = _labels(f"at layer {round(depth, 2):g}", component)
        sections.append(
            Section(component, spans, labels, _sample(round(depth), component), following)
        )
    return sections[::-1]


def _whole_depth(component: str | None) -> Section:
    return Section(component, (Span(None),), _labels(None, component), _sample(0, component))


def _rest(axes: Sequence[Axis]) -> Section:
    return Section(None, (Span(None),), dict.fromkeys(axes, REST), "")


def _labels(layers: str | None, component: str | None) -> dict[Axis, str]:
    labels: dict[Axis, str] = {}
    if layers is not None:
        labels["layers"] = layers
    if component is not None:
        labels["component"] = component
    return labels


def _sample(layer: int, component: str | None) -> str:
    return f"{layer}.{component or ''}"
