"""How a source model is spelled: a folder, file or hub id, and adapters after ``+``."""

from collections.abc import Callable
from pathlib import Path


def split_adapter(model: str) -> tuple[str, str | None]:
    """The model below and the adapter over it: ``BASE+ADAPTER``; None without an adapter.

    Of several ``+`` the last parts, so that adapters stack: ``BASE+FIRST+SECOND``. A ``+`` in
    the name of something that exists here parts nothing, nor does one at an end.
    """
    if Path(model).expanduser().exists():
        return model, None
    places = [at for at, sign in enumerate(model) if sign == "+" and 0 < at < len(model) - 1]
    for at in reversed(places):
        if all(Path(part).expanduser().exists() for part in (model[:at], model[at + 1 :])):
            return model[:at], model[at + 1 :]
    return (model[: places[-1]], model[places[-1] + 1 :]) if places else (model, None)


def map_parts(model: str, change: Callable[[str], str]) -> str:
    """The same spelling with the model and each adapter changed on its own."""
    whole = change(model)
    below, adapter = (model, None) if whole != model else split_adapter(model)
    return whole if adapter is None else f"{map_parts(below, change)}+{change(adapter)}"


def model_parts(model: str) -> tuple[str, ...]:
    """The model and its adapters, the lowest first."""
    below, adapter = split_adapter(model)
    return (model,) if adapter is None else (*model_parts(below), adapter)
