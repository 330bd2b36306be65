"""Layer_edit spaces for properties: any valid one, over real operators, with a genome."""

from hypothesis import strategies as st
from landscapes import source_models
from spaces.drawn_spaces import SIGNATURES, points

from evomerge.spaces.genes import genome_from_unit
from evomerge.spaces.layer_edit import LayerEditSpace, LayerEditSpec
from evomerge.spaces.space import SourceModels

PER = {"low": 0.2, "high": 1.0}
RANGES = (
    {"operator": "none"},
    {"operator": "linear"},
    {"operator": "linear", "experts": {"weight": [0.1, 1]}},
    {"operator": "linear", "experts": {"weight": PER | {"per": ["expert", "layers"]}}},
    {"operator": "linear", "experts": {"weight": PER | {"per": ["layers"]}}},
    {"operator": "multislerp", "merge": {"eps": 1e-6}},
    {
        "operator": "task_arithmetic",
        "experts": {"weight": {"choice": [0.5, 1.0], "per": []}},
        "merge": {"lambda": PER},
    },
    {
        "operator": "ties",
        "experts": {"density": [0.1, 1]},
        "merge": {"lambda": PER | {"per": ["layers"]}, "normalize": {"choice": [True, False]}},
    },
)


def space_of(models: SourceModels | None = None, **spec: object) -> LayerEditSpace:
    written = LayerEditSpec.model_validate(spec)
    return LayerEditSpace(written, models or source_models(), SIGNATURES)


def without_base(models: SourceModels) -> SourceModels:
    return SourceModels(None, models.experts, models.layers)


@st.composite
def drawn_models(draw, least: int = 1) -> SourceModels:
    models = source_models(draw(st.integers(least, 4)), draw(st.integers(1, 7)))
    return models if draw(st.booleans()) else without_base(models)


@st.composite
def drawn_layer_edits(draw):
    """A space and its spec as written, and the models."""
    models = draw(drawn_models())
    keep_ends = draw(st.booleans())
    most = max(0, min(models.layers - 1, models.layers - 2 * keep_ends))
    low, high = sorted(draw(st.tuples(st.integers(0, most), st.integers(0, most))))
    names = [source.name for source in models.sources]
    sources = draw(st.none() | st.lists(st.sampled_from(names), min_size=1, unique=True))
    experts = [n for n in (sources or names) if n != "base"]
    spec = {
        "remove": draw(st.sampled_from([high, [low, high]])),
        "keep_ends": keep_ends,
        "sources": sources,
        "layers_per_group": draw(st.integers(1, 4)),
        "rest": draw(st.sampled_from(["mean", "any", *names, ["mean", names[0]]])),
    } | draw(st.sampled_from(RANGES if models.base else RANGES[:6]))
    if len(experts) < 2:
        spec = {key: value for key, value in spec.items() if key not in ("experts", "merge")}
    return space_of(models, **spec), spec, models


@st.composite
def layer_edits_with_genomes(draw):
    space, spec, models = draw(drawn_layer_edits())
    return space, spec, models, genome_from_unit(space.genes, draw(points(space)))
