"""Merging by recipe: tensor by tensor, into a resident model or out to an export."""

import threading
import weakref
from collections.abc import (
    Callable,
    Collection,
    Hashable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from concurrent.futures import ThreadPoolExecutor

import torch

from evomerge.core.errors import CheckpointError, ConfigError
from evomerge.core.recipe import Recipe
from evomerge.merging.compatibility import check_tensors
from evomerge.merging.device_tensors import DeviceTensors
from evomerge.merging.layer_slots import LayerSlots
from evomerge.merging.merge_plan import (
    MergedTensor,
    TensorMerge,
    is_tied,
    merged_tensors,
    slice_problems,
    tensor_merges,
    used_names,
)
from evomerge.merging.operators.contract import Inputs, MaskKey, Once
from evomerge.merging.recipe_check import validate_recipe
from evomerge.merging.resident_model import build_resident_model, places
from evomerge.merging.safetensors_header import TORCH_NAMES
from evomerge.merging.source_model import SourceModel
from evomerge.merging.stacked_config import stacked_config
from evomerge.merging.statistics_files import SourceStatistics
from evomerge.merging.study_memory import StudyMemory
from evomerge.merging.tied_embeddings import embedding_name

_DTYPES: dict[str, torch.dtype] = {
    stored: getattr(torch, name) for stored, name in TORCH_NAMES.items()
}

_Applied = dict[Hashable, object]
"""Identity of the merge that was written to each address, or stands in each slot."""


class MergeEngine:
    """Merges source models by recipe.

    The same tensors, bit for bit, go into a resident model and into an export. Sources are
    mapped from disk; besides the result, one tensor a source is in use at a time, or one on
    each thread. What does not change from recipe to recipe is computed once.

    Args:
        sources: Opened source models by the names that recipes use.
        kept: Those whose tensors stay on the device once they were read.
        memory: Keeps what recipes share.
        statistics: Where statistics of sources lie, by name, if not where recipes say.
    """

    def __init__(
        self,
        sources: Mapping[str, SourceModel],
        kept: Collection[str] = (),
        memory: StudyMemory | None = None,
        statistics: Mapping[str, str] | None = None,
    ) -> None:
        self.sources = dict(sources)
        self._tensors = DeviceTensors(self.sources, kept)
        self._memory = StudyMemory() if memory is None else memory
        self._statistics = SourceStatistics(self.sources, statistics)
        self._fitting: set[object] = set()
        self._applied: weakref.WeakKeyDictionary[torch.nn.Module, _Applied]
        self._applied = weakref.WeakKeyDictionary()
        self._slots: weakref.WeakKeyDictionary[torch.nn.Module, LayerSlots]
        self._slots = weakref.WeakKeyDictionary()

    def plan(self, recipe: Recipe) -> list[MergedTensor]:
        """What the merged model will hold, in the order of the reference's tensors.

        If any source that takes part has an output head of its own, so has the merged model.

        Raises:
            ConfigError: The recipe is not valid.
            CheckpointError: Its sources are not open, have changed, or do not fit.
        """
        self._check(recipe)
        return merged_tensors(recipe, self.sources)

    def is_tied(self, recipe: Recipe) -> bool:
        """Whether the merged model's output head is its input embedding."""
        return is_tied(recipe, self.sources)

    def parameter_count(self, recipe: Recipe) -> int:
        """Parameters of the merged model; tied ones count once."""
        return sum(tensor.entries for tensor in self.plan(recipe))

    def tensors(
        self, recipe: Recipe, device: str | torch.device = "cpu", *, reuse: bool = False
    ) -> Iterator[tuple[str, torch.Tensor]]:
        """The merged tensors, one at a time, in the order of ``plan`` and in its dtypes.

        Args:
            recipe: What to merge.
            device: Where the tensors are wanted.
            reuse: Each tensor is good only until the next one is asked for; then memory does
                not grow with the model, however the system's allocator keeps what is freed.

        Raises:
            ConfigError, CheckpointError: As ``plan`` does.
            TrialError: A merged tensor is not finite.
        """
        planned = self.plan(recipe)
        largest = max(tensor.entries for tensor in planned)
        dtypes = {_DTYPES[tensor.dtype] for tensor in planned}
        room = (
            {d: torch.empty(largest, dtype=d, device=device) for d in dtypes} if reuse else {}
        )
        for merge in tensor_merges(recipe, self.sources, planned):
            tensor, dtype = merge.tensor, _DTYPES[merge.tensor.dtype]
            if reuse:
                out = room[dtype][: tensor.entries].view(tensor.shape)
            else:
                out = torch.empty(tensor.shape, dtype=dtype, device=device)
            self._merge(merge, recipe, [out])
            yield tensor.name, out

    def apply(self, recipe: Recipe, model: torch.nn.Module) -> None:
        """Overwrite a resident model's weights with the merged ones.

        Tensors that the last ``apply`` to this model made in the same way are left as they
        are; whoever changes its weights otherwise calls ``forget``. After an error the weights
        are partly overwritten; the next ``apply`` sets what is missing.

        Raises:
            ConfigError, CheckpointError, TrialError: As ``tensors`` does.
            CheckpointError: The model's parameters are not those of the merge.
        """
        planned = self.plan(recipe)
        targets = places(model, {tensor.name: tensor.shape for tensor in planned})
        applied = self._applied.setdefault(model, {})
        slots = self._slots.get(model, LayerSlots())

        def merge_one(merge: TensorMerge) -> None:
            own = targets[merge.tensor.name]
            for place in _addresses(own, slots):
                applied.pop(place, None)
            if _may_be_shown(merge, own, slots):
                self._show(merge, recipe, own, slots)
            else:
                slots.take_back(own)
                self._merge(merge, recipe, own, often=True)
            applied.update(dict.fromkeys(_addresses(own, slots), merge.identity))

        changed: dict[bool, list[TensorMerge]] = {True: [], False: []}
        for merge in tensor_merges(recipe, self.sources, planned):
            own = targets[merge.tensor.name]
            if any(applied.get(at) != merge.identity for at in _addresses(own, slots)):
                changed[_may_be_shown(merge, own, slots)].append(merge)
        for merge in changed[True]:  # one after the other, since slots may share a tensor
            merge_one(merge)

        if all(target.device.type == "cpu" for own in targets.values() for target in own):
            _on_threads(merge_one, changed[False])
        else:
            for merge in changed[False]:
                merge_one(merge)

    def forget(self, model: torch.nn.Module) -> None:
        """Take nothing for granted of a model whose weights were changed by others."""
        self._applied.pop(model, None)

    def resident_model(
        self,
        recipe: Recipe | str,
        dtype: torch.dtype | None = None,
        device: str | torch.device = "cpu",
        *,
        share_layers: bool = False,
    ) -> torch.nn.Module:
        """A transformers model for ``apply``, its weights not yet set.

        Args:
            recipe: The name of the reference, or a recipe that has it. The model is good for
                any recipe of that reference and of as many layers (``ResidentDepth`` changes
                how many): it shares head and embedding only if all open sources do.
            dtype: Of the parameters; by default that of the reference's embedding.
            device: Where the parameters lie.
            share_layers: Layers that a recipe takes whole are not copied (``LayerSlots``).
                Only where nobody but this engine writes into the model's weights.

        Raises:
            CheckpointError: transformers cannot build the architecture.
        """
        reference = recipe if isinstance(recipe, str) else recipe.reference
        if reference not in self.sources:
            raise CheckpointError(f"source {reference!r} is not open.")
        source = self.sources[reference]
        tied = all(source.tied for source in self.sources.values())
        if dtype is None:
            name = embedding_name(source.tensors) or next(iter(source.tensors))
            dtype = _DTYPES[source.tensors[name].dtype]
        config = source.config
        if isinstance(recipe, Recipe):
            config = stacked_config(recipe, self.sources)
        slots = LayerSlots() if share_layers else None
        model = build_resident_model(
            source, config, tied=tied, dtype=dtype, device=device, slots=slots
        )
        if slots is not None:
            self._slots[model] = slots
        return model

    def _check(self, recipe: Recipe) -> None:
        problems = validate_recipe(recipe)
        if problems:
            raise ConfigError(problems)
        used = used_names(recipe)
        for source in (source for source in recipe.sources if source.name in used):
            if source.name not in self.sources:
                raise CheckpointError(f"source {source.name!r} of the recipe is not open.")
            found = self.sources[source.name]
            if source.fingerprint is not None and source.fingerprint != found.fingerprint:
                raise CheckpointError(
                    f"{source.name}: the weights in {found.folder} are not those that the "
                    f"recipe was made with (fingerprint {found.fingerprint}, "
                    f"the recipe has {source.fingerprint})."
                )
        shape = (recipe.reference, used, str(recipe.slices))
        if shape not in self._fitting:
            if recipe.slices:
                unfit = slice_problems(recipe, self.sources)
            else:
                unfit = check_tensors({n: self.sources[n] for n in used}, recipe.reference)
            if unfit:
                raise CheckpointError("\n".join(unfit))
            self._fitting.add(shape)

    def _show(
        self,
        merge: TensorMerge,
        recipe: Recipe,
        targets: Sequence[torch.Tensor],
        slots: LayerSlots,
    ) -> None:
        """Let slots show a tensor that is taken whole, or the one copy of it."""
        model, stored = merge.models[0], merge.stored[0]
        like, dtype = targets[0], _DTYPES[merge.tensor.dtype]
        key = (model, stored, dtype)
        found = slots.held(key)
        if found is None and self._tensors.lasts(model, like.device):
            found = self._tensors.read(model, stored, like.device, often=True)
            if found.dtype == dtype == like.dtype:
                merge.operator.check_finite(found, _mask_key(merge))
            else:
                found = None
        if found is None:
            found = torch.empty(like.shape, dtype=like.dtype, device=like.device)
            self._merge(merge, recipe, [found], often=True)
        slots.show(targets, found, key)

    @torch.no_grad()
    def _merge(
        self,
        merge: TensorMerge,
        recipe: Recipe,
        targets: Sequence[torch.Tensor],
        *,
        often: bool = False,
    ) -> None:
        device = targets[0].device

        def read(model: str, stored: str) -> torch.Tensor:
            return self._tensors.read(model, stored, device, often=often)

        made_of = zip(merge.models, merge.stored, strict=True)
        inputs = Inputs(
            [read(model, stored) for model, stored in made_of],
            None if merge.base is None else read(*merge.base),
            merge.settings,
            _mask_key(merge),
            merge.depth,
            self._once(merge, device),
            self._statistics.of_rule(
                merge.operator.name, merge.models, recipe, merge.tensor.name
            ),
        )
        flat = [
            target.view(-1) if target.is_contiguous() else target.new_empty(target.numel())
            for target in targets
        ]
        dtype = _DTYPES[merge.tensor.dtype]
        merge.operator.merge_into(flat, inputs, dtype, merge.scale)
        for target, merged in zip(targets, flat, strict=True):
            if not target.is_contiguous():  # a part of what transformers keeps as one
                target.copy_(merged.view(target.shape))

    def _once(self, merge: TensorMerge, device: torch.device) -> Once:
        made_of = [*zip(merge.models, merge.stored, strict=True)]

        def once(
            what: str,
            facts: Hashable,
            make: Callable[[], Sequence[torch.Tensor]],
            model: int | None = None,
        ) -> Sequence[torch.Tensor]:
            own = made_of if model is None else [made_of[model]]
            made_by = (merge.operator.name if model is None else "", what)
            quantity = (made_by, merge.base, tuple(own), merge.statistics, str(device))
            return self._memory.get(quantity, facts, make)

        return once


def _mask_key(merge: TensorMerge) -> MaskKey:
    return MaskKey(merge.seed, merge.tensor.name, merge.models)


def _addresses(targets: Sequence[torch.Tensor], slots: LayerSlots) -> list[Hashable]:
    """What tells the places apart that a merge writes to."""
    return [
        # A slot is one object, in one place today and in another tomorrow.
        ("slot", id(target)) if target in slots else target.data_ptr()
        for target in targets
    ]


def _may_be_shown(
    merge: TensorMerge, targets: Sequence[torch.Tensor], slots: LayerSlots
) -> bool:
    return merge.taken_whole and all(target in slots for target in targets)


def _on_threads(work: Callable[[TensorMerge], None], merges: Iterable[TensorMerge]) -> None:
    """As many at a time as torch has threads, each on one; the first error is raised."""
    by_size = sorted(merges, key=lambda merge: -merge.tensor.entries)  # else one ends last
    threads = torch.get_num_threads()
    if threads < 2:
        for merge in by_size:
            work(merge)
        return
    left, stopped = iter(by_size), threading.Event()

    def work_off() -> None:
        # Within a thread torch uses one, too: the bits of some routines depend on the number.
        torch.set_num_threads(1)
        try:
            for merge in left:  # which the threads share
                if stopped.is_set():
                    return
                work(merge)
        except BaseException:
            stopped.set()
            raise

    with ThreadPoolExecutor(threads) as pool:
        try:
            for done in [pool.submit(work_off) for _ in range(threads)]:
                done.result()
        finally:
            stopped.set()
            torch.set_num_threads(threads)
