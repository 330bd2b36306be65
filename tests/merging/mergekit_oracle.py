"""mergekit from PyPI as the oracle: its methods on tensors, its whole merges of model folders."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

WANTED = "mergekit 0.1.5 is not installed: pip install 'evomerge[mergekit]'"


def require_mergekit() -> None:
    """Skip the module that asks where mergekit is absent."""
    pytest.importorskip("mergekit", reason=WANTED)


def their_tensor(
    method: str,
    tensors: Sequence[torch.Tensor],
    base: torch.Tensor | None,
    own: Sequence[Mapping[str, float]],
    whole: Mapping[str, Any],
    seed: int | None = None,
) -> torch.Tensor:
    """One tensor merged by a mergekit method, in the dtype of the tensors.

    Args:
        method: As mergekit names it.
        tensors: One a model. slerp's first one is what mergekit calls its base.
        base: Comes before the models; None for methods and merges without.
        own: Per-model parameters, one mapping a model.
        whole: Parameters of the merge as a whole.
        seed: Of torch's global generator, from which mergekit draws its masks.
    """
    from mergekit.merge_methods import TensorGroup, get

    inputs = [*([] if base is None else [base]), *tensors]
    base_first = base is not None or method == "slerp"
    group = TensorGroup.from_tensors(
        [tensor.clone() for tensor in inputs], base_index=0 if base_first else None
    )
    first = len(inputs) - len(tensors)
    parameters = dict(whole)
    for name in {name for one in own for name in one}:
        parameters[name] = {first + k: one[name] for k, one in enumerate(own)}
    with global_generators(seed):
        (merged,) = get(method)([group], parameters=parameters)
    return merged


def their_model(config: Mapping[str, Any], folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of a whole merge by a mergekit configuration."""
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions
    from safetensors.torch import load_file

    options = MergeOptions(quiet=True, write_model_card=False, copy_tokenizer=False)
    with global_generators(None):
        run_merge(MergeConfiguration.model_validate(config), str(folder), options)
    tensors: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(file)
    return tensors


@contextmanager
def global_generators(seed: int | None) -> Iterator[None]:
    """Seed torch's global generator for the while; both generators are put back."""
    state, numpy_state = torch.random.get_rng_state(), np.random.get_state()  # noqa: NPY002
    try:
        if seed is not None:
            torch.manual_seed(seed)
        yield
    finally:
        torch.random.set_rng_state(state)
        np.random.set_state(numpy_state)  # noqa: NPY002
