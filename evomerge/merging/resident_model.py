"""A transformers model kept in memory, whose weights each candidate overwrites in place."""

from collections.abc import Mapping
from typing import Any

import torch
import transformers
from accelerate import init_empty_weights  # type: ignore[import-untyped]

from evomerge.core.errors import CheckpointError
from evomerge.merging.checkpoint import SourceModel
from evomerge.merging.compatibility import nearest
from evomerge.merging.tied_embeddings import embedding_name, head_name


def build_resident_model(
    reference: SourceModel, *, tied: bool, dtype: torch.dtype, device: str | torch.device
) -> torch.nn.Module:
    """The reference's architecture in evaluation mode, with weights not yet set.

    Buffers that the model code computes (rotary frequencies …) are right; every parameter
    waits for ``MergeEngine.apply``. Global random generators stay as they were.

    Args:
        reference: Gives config.json and generation_config.json.
        tied: Whether the output head is the input embedding.
        dtype: Of the parameters.
        device: Where the parameters lie.

    Raises:
        CheckpointError: transformers does not know the architecture.
    """
    try:
        config = transformers.AutoConfig.from_pretrained(
            reference.folder, trust_remote_code=False, local_files_only=True
        )
        config.tie_word_embeddings = tied
        # Its name before and since transformers 4.56.
        setattr(config, "dtype" if hasattr(config, "dtype") else "torch_dtype", dtype)
        # Parameters without storage cost no time to initialise; buffers are real.
        with torch.random.fork_rng(devices=[]), init_empty_weights(include_buffers=False):
            model = transformers.AutoModelForCausalLM.from_config(
                config, trust_remote_code=False
            )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise CheckpointError(
            f"{reference.folder}: transformers {transformers.__version__} cannot build this "
            f"architecture without remote code: {error}"
        ) from error
    _give_storage(model, torch.device(device))
    if tied:
        model.tie_weights()
    if (reference.folder / "generation_config.json").exists():
        model.generation_config = transformers.GenerationConfig.from_pretrained(
            reference.folder, local_files_only=True
        )
    return model.eval().requires_grad_(requires_grad=False)  # type: ignore[no-any-return]


def _give_storage(model: Any, device: torch.device) -> None:  # noqa: ANN401 - untyped library
    made: dict[int, torch.nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) not in made:
                empty = torch.empty_like(parameter, device=device)
                made[id(parameter)] = torch.nn.Parameter(empty, requires_grad=False)
            setattr(module, name, made[id(parameter)])
    model.to(device)


def places(
    model: torch.nn.Module, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, list[torch.Tensor]]:
    """For each merged tensor the parameters of the model that it belongs in.

    Names may differ by the base model's prefix (``model.``). A head and an embedding that
    the recipe ties are both written where the model keeps them apart.

    Raises:
        CheckpointError: A name or shape does not fit, or a parameter would stay unset.
    """
    state = _persistent(model)
    prefix = f"{getattr(model, 'base_model_prefix', '') or 'model'}."
    found = {name: _name_in(state, name, prefix) for name in shapes}
    lost = [name for name, own in found.items() if own is None]
    if lost:
        raise CheckpointError(_no_place(lost[0], state))
    targets = {name: [state[own]] for name, own in found.items() if own is not None}
    head, embedding = head_name(state), embedding_name(shapes)
    if head is not None and embedding is not None and head_name(shapes) is None:
        targets[embedding].append(state[head])
    set_ids = {id(tensor) for tensors in targets.values() for tensor in tensors}
    unset = [name for name, tensor in state.items() if id(tensor) not in set_ids]
    if unset:
        raise CheckpointError(
            f"the merge gives no weights for {unset[0]} ({len(unset)} in all)"
            f"{nearest(unset[0], shapes)}; the resident model is of another architecture."
        )
    _check_head(head_name(shapes), embedding, targets)
    for name, tensors in targets.items():
        if any(tuple(tensor.shape) != tuple(shapes[name]) for tensor in tensors):
            raise CheckpointError(
                f"{name}: merged shape {list(shapes[name])}, "
                f"in the resident model {list(tensors[0].shape)}."
            )
    return targets


def _persistent(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return dict(model.state_dict(keep_vars=True))


def _name_in(state: Mapping[str, Any], name: str, prefix: str) -> str | None:
    for candidate in (name, prefix + name, name.removeprefix(prefix)):
        if candidate in state:
            return candidate
    return None


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
