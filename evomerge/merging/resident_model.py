"""A transformers model kept in memory, whose weights each candidate overwrites in place."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
import transformers
from accelerate import init_empty_weights  # type: ignore[import-untyped]
from torch.overrides import TorchFunctionMode

from evomerge.core.errors import CheckpointError
from evomerge.core.tensor_names import layer_of
from evomerge.merging.compatibility import nearest
from evomerge.merging.layer_slots import LayerSlots
from evomerge.merging.source_model import SourceModel
from evomerge.merging.tied_embeddings import copied_name, embedding_name, head_name


def build_resident_model(
    reference: SourceModel,
    config: Mapping[str, Any],
    *,
    tied: bool,
    dtype: torch.dtype,
    device: str | torch.device,
    slots: LayerSlots | None = None,
) -> torch.nn.Module:
    """An architecture in evaluation mode, with weights not yet set.

    Buffers that the model code computes (rotary frequencies …) are right; every parameter
    waits for ``MergeEngine.apply``. Global random generators stay as they were. The class is
    the one that config.json names under ``architectures``, of whatever task; without one, the
    causal language model of the model type.

    Args:
        reference: Gives generation_config.json, and its place for messages.
        config: The reference's config.json, or that of other layers of it.
        tied: Whether the output head is the input embedding.
        dtype: Of the parameters.
        device: Where the parameters lie.
        slots: Takes the parameters of layers, which then have no storage; save for those that
            hold several tensors of a checkpoint at once, such as the experts of some models.

    Raises:
        CheckpointError: transformers does not know the architecture.
    """
    model = empty_model(reference, config, tied=tied, dtype=dtype)
    _give_storage(model, torch.device(device), slots)
    if tied:
        model.tie_weights()
    generation = reference.side_file("generation_config.json")
    if generation is not None:
        model.generation_config = transformers.GenerationConfig.from_pretrained(
            generation.parent, local_files_only=True
        )
    return model.eval().requires_grad_(requires_grad=False)  # type: ignore[no-any-return]


def checkpoint_names(reference: SourceModel) -> dict[str, str]:
    """The names that transformers gives tensors on disk, by those that it gives parameters.

    They are the same for most architectures. Only tensors that are one parameter are named.

    Raises:
        CheckpointError: transformers does not know the architecture.
    """
    dtype = torch.float32
    model = empty_model(reference, reference.config, tied=reference.tied, dtype=dtype)
    with torch.device("meta"):
        state = {name: torch.empty(t.shape) for name, t in model.state_dict().items()}
    own = {id(tensor): name for name, tensor in state.items()}
    return {
        own[id(tensor)]: name
        for name, tensor in as_on_disk(model, state).items()
        if id(tensor) in own
    }


def empty_model(
    reference: SourceModel, plain: Mapping[str, Any], *, tied: bool, dtype: torch.dtype
) -> Any:  # noqa: ANN401 - untyped library
    """An architecture with parameters on no device; buffers are real.

    Args:
        reference: Tells whether there is an embedding, and its place for messages.
        plain: The content of config.json.
        tied: Whether the output head is the input embedding.
        dtype: Of the parameters.

    Raises:
        CheckpointError: transformers does not know the architecture.
    """
    try:
        config = configuration(plain)
        if embedding_name(reference.tensors) is not None:
            config.tie_word_embeddings = tied
        # Its name before and since transformers 4.56.
        setattr(config, "dtype" if hasattr(config, "dtype") else "torch_dtype", dtype)
        build = _builder(config)
        # Parameters without storage cost no time to initialise; buffers are real.
        with torch.random.fork_rng(devices=[]), init_empty_weights(include_buffers=False):
            return build(config)
    except (OSError, ValueError, KeyError, ImportError, TypeError) as error:
        raise CheckpointError(
            f"{reference.folder}: transformers {transformers.__version__} cannot build this "
            f"architecture without remote code: {error}"
        ) from error


def configuration(given: Mapping[str, Any]) -> Any:  # noqa: ANN401 - untyped library
    """The content of a config.json as transformers reads it.

    Raises:
        ValueError: It has no model type that transformers knows.
    """
    plain = dict(given)
    kind = plain.pop("model_type", None)
    if kind is None:
        raise ValueError("it has no config.json, or one without a model_type")
    if kind not in transformers.CONFIG_MAPPING:
        raise ValueError(f"unknown model_type {kind!r}")
    return transformers.CONFIG_MAPPING[kind].from_dict(plain)


def _builder(config: Any) -> Callable[[Any], Any]:  # noqa: ANN401 - untyped library
    for name in config.architectures or ():
        found: Any = getattr(transformers, name, None)
        if isinstance(found, type) and issubclass(found, transformers.PreTrainedModel):
            # What the Auto… classes call, too; they would have to be told the task.
            return found._from_config  # type: ignore[attr-defined,no-any-return]
    return lambda config: transformers.AutoModelForCausalLM.from_config(
        config, trust_remote_code=False
    )


def _give_storage(
    model: torch.nn.Module, device: torch.device, slots: LayerSlots | None
) -> None:
    in_slots = _of_layers(model) if slots is not None else set()
    made: dict[int, torch.nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) in made:
                pass
            elif slots is not None and id(parameter) in in_slots:
                made[id(parameter)] = slots.add(parameter, device)
            else:
                empty = torch.empty_like(parameter, device=device)
                made[id(parameter)] = torch.nn.Parameter(empty, requires_grad=False)
            setattr(module, name, made[id(parameter)])
    model.to(device)


def _of_layers(model: torch.nn.Module) -> set[int]:
    """Parameters of layers that are one tensor of a checkpoint each, by identity."""
    state = _persistent(model)
    whole = {id(tensor) for tensor in (as_on_disk(model, state) or state).values()}
    return {
        id(tensor)
        for name, tensor in state.items()
        if layer_of(name) is not None and id(tensor) in whole
    }


def places(
    model: torch.nn.Module, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, list[torch.Tensor]]:
    """For each merged tensor the parameters of the model, or parts of them, that it belongs in.

    Names may be those of the model's parameters or those under which transformers saves them,
    and may differ by the base model's prefix (``model.``). A head and an embedding that the
    recipe ties are both written where the model keeps them apart.

    Raises:
        CheckpointError: A name or shape does not fit, or a parameter would stay unset.
    """
    state = _persistent(model)
    prefix = f"{getattr(model, 'base_model_prefix', '') or 'model'}."
    found = {name: _name_in(state, name, prefix) for name in shapes}
    known: Mapping[str, torch.Tensor] = state
    if None in found.values():
        known = state | as_on_disk(model, state)
        found = {name: _name_in(known, name, prefix) for name in shapes}
    lost = [name for name, own in found.items() if own is None]
    if lost:
        raise CheckpointError(_no_place(lost[0], known))
    targets = {name: [known[own]] for name, own in found.items() if own is not None}
    _add_copies(targets, state)
    _check_all_set(targets, state, shapes)
    _check_head(head_name(shapes), embedding_name(shapes), targets)
    for name, tensors in targets.items():
        if any(tuple(tensor.shape) != tuple(shapes[name]) for tensor in tensors):
            raise CheckpointError(
                f"{name}: merged shape {list(shapes[name])}, "
                f"in the resident model {list(tensors[0].shape)}."
            )
    return targets


def _persistent(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return dict(model.state_dict(keep_vars=True))


class _NoCopies(TorchFunctionMode):
    """Leaves parts of tensors where they are, also where code asks for a contiguous copy."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever the function gives
        if func is torch.Tensor.contiguous:
            return args[0]
        return func(*args, **(kwargs or {}))


def as_on_disk(
    model: torch.nn.Module, state: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Parameters and parts of them, under the names that transformers saves them by.

    Some models keep in one parameter what is saved as many tensors (experts), or name it
    otherwise. transformers' own way back is followed on the parameters themselves, so that
    each result is a part of one; what it would have to compute is left out.
    """
    try:
        from transformers.core_model_loading import (  # noqa: PLC0415 - since transformers 5
            revert_weight_conversion,
        )
    except ImportError:
        return {}
    with _NoCopies(), torch.no_grad():
        saved = revert_weight_conversion(model, dict(state))
    own = {id(tensor) for tensor in state.values()}
    stores = {t.untyped_storage().data_ptr() for t in state.values() if not t.is_meta}
    return {
        name: tensor
        for name, tensor in saved.items()
        if id(tensor) in own
        or (
            not tensor.is_meta
            and tensor.untyped_storage().data_ptr() in stores
            and tensor.is_contiguous()
        )
    }


def _name_in(state: Mapping[str, Any], name: str, prefix: str) -> str | None:
    for candidate in (name, prefix + name, name.removeprefix(prefix)):
        if candidate in state:
            return candidate
    return None


def _add_copies(
    targets: dict[str, list[torch.Tensor]], state: Mapping[str, torch.Tensor]
) -> None:
    """Let the merge also write parameters that repeat others where the model keeps both."""
    head, embedding = head_name(state), embedding_name(targets)
    if head is not None and embedding is not None and head_name(targets) is None:
        targets[embedding].append(state[head])
    place = {id(tensor): name for name, tensors in targets.items() for tensor in tensors}
    for name, tensor in state.items():
        original = copied_name(name, state)
        if original is None or id(tensor) in place or id(state[original]) not in place:
            continue
        targets[place[id(state[original])]].append(tensor)


def _check_all_set(
    targets: Mapping[str, list[torch.Tensor]],
    state: Mapping[str, torch.Tensor],
    shapes: Mapping[str, tuple[int, ...]],
) -> None:
    """Every parameter is written as a whole or by parts that make it up."""
    covered: dict[int, set[tuple[int, int]]] = {}
    for tensor in _every(targets):
        parts = covered.setdefault(tensor.untyped_storage().data_ptr(), set())
        parts.add((int(tensor.storage_offset()), tensor.numel()))
    unset = [
        name
        for name, tensor in state.items()
        if tensor.is_floating_point()
        and sum(n for _, n in covered.get(tensor.untyped_storage().data_ptr(), ()))
        < tensor.numel()
    ]
    if unset:
        raise CheckpointError(
            f"the merge gives no weights for {unset[0]} ({len(unset)} in all)"
            f"{nearest(unset[0], shapes)}; the resident model is of another architecture."
        )


def _every(targets: Mapping[str, list[torch.Tensor]]) -> Iterator[torch.Tensor]:
    return (tensor for tensors in targets.values() for tensor in tensors)


def _no_place(name: str, state: Mapping[str, Any]) -> str:
    return f"the resident model has no parameter {name}{nearest(name, state)}."


def _check_head(
    head: str | None, embedding: str | None, targets: Mapping[str, list[torch.Tensor]]
) -> None:
    if head is None or embedding is None:
        return
    if any(a is b for a in targets[head] for b in targets[embedding]):
        raise CheckpointError(
            f"the recipe gives {head} weights of its own, but the resident model shares them "
            f"with {embedding}; build it with MergeEngine.resident_model(recipe)."
        )
