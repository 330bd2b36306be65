"""How a model is cut into sections: sets of tensors with genes of their own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evomerge.core.tensor_names import layer_of
from evomerge.spaces.ranges import Axis

REST = "rest"
"""What gene names call the tensors outside of every layer group and component."""

Layers = tuple[int, int]
"""Half-open range of layers."""


@dataclass(frozen=True)
class Span:
    """Neighbouring layers of a section that are merged alike."""

    layers: Layers | None
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

    searched: bool = True
    """Whether it has genes; otherwise its tensors are those of one source."""

    def label(self, axes: Sequence[Axis]) -> str:
        """The part of a gene's name that says which tensors it is for, given its axes."""
        parts = [self.labels[axis] for axis in axes if axis in self.labels]
        return " ".join(dict.fromkeys(parts))

    def selects(self, tensor_name: str) -> bool:
        """Whether a tensor is in the section, unless an earlier one has it."""
        if self.component is not None and self.component not in tensor_name:
            return False
        layer = layer_of(tensor_name)
        spans = [span.layers for span in self.spans]
        return None in spans or any(
            own is not None and layer is not None and own[0] <= layer < own[1] for own in spans
        )


def cut(
    groups: Sequence[Layers],
    components: Sequence[str] = (),
    *,
    only: Sequence[str] = (),
    interpolate: bool = False,
) -> tuple[Section, ...]:
    """The sections of a model, from the first layers on; together they hold every tensor.

    Args:
        groups: The layer groups, from the first layer to the last; a single one is the whole
            model, what is in no layer included.
        components: Parts of tensor names, each with sections of its own. What no part
            matches, and what is in no layer if there are groups, is the last section.
        only: The components that are searched; none: all of them, and the last section.
        interpolate: Take as many knots as there are groups, evenly spaced from the first
            layer to the last.
    """
    searched: dict[str | None, bool] = {
        component: not only or component in only for component in _reaching(components, only)
    } or {None: True}
    if len(groups) == 1:
        inside = [_whole_depth(each, searched=own) for each, own in searched.items()]
        return (*inside, _rest(("component",), searched=not only)) if components else (*inside,)
    axes: tuple[Axis, ...] = ("layers", "component") if components else ("layers",)
    make = _knots if interpolate else _groups
    by_component = [make(groups, each, searched=own) for each, own in searched.items()]
    inside = [section for together in zip(*by_component, strict=True) for section in together]
    return (*inside, _rest(axes, searched=not only))


def layer_groups(layers: int, groups: int) -> list[Layers]:
    """Contiguous half-open ranges whose sizes differ by at most one."""
    cuts = [layers * k // groups for k in range(groups + 1)]
    return [(cuts[k], cuts[k + 1]) for k in range(groups)]


def layer_groups_of(layers: int, size: int) -> list[Layers]:
    """Contiguous half-open ranges of one size, of which the last may have fewer layers."""
    starts = range(0, layers, size) or range(1)
    return [(start, min(start + size, layers)) for start in starts]


def _reaching(components: Sequence[str], only: Sequence[str]) -> list[str]:
    """Without those after the last one searched: the rest is left as it is anyway."""
    last = max((components.index(part) for part in only), default=len(components) - 1)
    return [*components[: last + 1]]


def _groups(
    groups: Sequence[Layers], component: str | None, *, searched: bool
) -> list[Section]:
    return [
        Section(
            component,
            (Span((first, stop)),),
            _labels(f"layers {first}-{stop - 1}", component),
            _sample(first, component),
            searched=searched,
        )
        for first, stop in groups
    ]


def _knots(groups: Sequence[Layers], component: str | None, *, searched: bool) -> list[Section]:
    """Each knot with the layers from it (included) to the next; the last with its own."""
    layers, knots = groups[-1][1], len(groups)
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
        sample = _sample(round(depth), component)
        sections.append(Section(component, spans, labels, sample, following, searched))
    return sections[::-1]


def _whole_depth(component: str | None, *, searched: bool) -> Section:
    labels, sample = _labels(None, component), _sample(0, component)
    return Section(component, (Span(None),), labels, sample, searched=searched)


def _rest(axes: Sequence[Axis], *, searched: bool) -> Section:
    return Section(None, (Span(None),), dict.fromkeys(axes, REST), "", searched=searched)


def _labels(layers: str | None, component: str | None) -> dict[Axis, str]:
    labels: dict[Axis, str] = {}
    if layers is not None:
        labels["layers"] = layers
    if component is not None:
        labels["component"] = component
    return labels


def _sample(layer: int, component: str | None) -> str:
    return f"{layer}.{component or ''}"
