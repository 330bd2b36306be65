"""A guard around a user's code that is lent the resident model: it comes back as it was."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from evomerge.core.errors import TrialError
from evomerge.fitness.global_generators import untouched_generators


@contextmanager
def lent(model: torch.nn.Module) -> Iterator[None]:
    """Lend a model to a block, without gradients, and take it back in evaluation mode.

    Replaced or converted parameters and changed settings of ``config`` and
    ``generation_config`` are put back. Values written into parameters cannot be, and are
    noticed unless they were written through ``.data``; the next merge overwrites them.
    Hooks, added modules and buffers are not looked at.

    Raises:
        TrialError: The block changed parameters.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    before = {
        name: (p.data, p.data_ptr(), p.dtype, _version(p)) for name, p in parameters.items()
    }
    found = [getattr(model, name, None) for name in ("config", "generation_config")]
    configs = [(config, dict(vars(config))) for config in found if config is not None]
    changed: list[str] = []
    try:
        with torch.no_grad():
            yield
    finally:
        now = dict(model.named_parameters(remove_duplicate=False))
        for name, parameter in parameters.items():
            data, place, dtype, version = before[name]
            if now.get(name) is not parameter:
                _put_back(model, name, parameter)
                changed.append(name)
            if (parameter.data_ptr(), parameter.dtype) != (place, dtype):
                parameter.data = data
                changed.append(name)
            elif _version(parameter) != version:
                changed.append(name)
        model.eval().requires_grad_(requires_grad=False)
        for config, settings in configs:
            vars(config).clear()
            vars(config).update(settings)
    if changed:
        raise TrialError(
            f"it changed the model that it was lent ({changed[0]}); work on a copy: "
            "copy.deepcopy(model)"
        )


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Begin the block with the global generators seeded, and restore them afterwards.

    So that code which draws from them scores equal models equally, in every process.
    """
    with untouched_generators():
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 - restored after the block
        torch.manual_seed(seed)
        yield


def _version(parameter: torch.Tensor) -> int:
    """How often a tensor was written to; torch counts unless it is an inference tensor."""
    return 0 if parameter.is_inference() else int(parameter._version)


def _put_back(model: Any, name: str, parameter: torch.nn.Parameter) -> None:  # noqa: ANN401 - untyped library
    module, _, key = name.rpartition(".")
    setattr(model.get_submodule(module), key, parameter)
