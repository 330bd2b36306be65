"""The ``workers:`` section of an experiment file."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_OF_PROCESSES = ("address", "env", "timeout", "memory", "sources")
"""Keys that only mean something for workers in processes of their own."""


def _as_text(given: Any) -> Any:  # noqa: ANN401 - whatever the YAML holds
    return str(given) if type(given) in (int, float) else given


class WorkersSpec(BaseModel):
    """Where candidates are merged and scored."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["inline", "ray"] | None = None
    """``inline`` is this process; None takes it for one worker and ``ray`` for more."""

    count: int = Field(default=1, ge=1, le=100_000)
    cpus: float = Field(default=1.0, ge=0.01, allow_inf_nan=False)
    """Cores of each worker; it runs as many threads, one at least."""

    gpus: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """GPUs of each worker; with a fraction several workers share one."""

    address: str | None = None
    """Of a Ray cluster, ``auto`` for the one that this machine belongs to; None starts Ray on
    this machine for the length of the run."""

    env: Mapping[str, Annotated[str, BeforeValidator(_as_text)]] = Field(default_factory=dict)
    """Environment variables of the workers."""

    timeout: float = Field(default=3600.0, ge=1, allow_inf_nan=False)
    """Seconds after which a candidate is given up and its worker replaced."""

    memory: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """GiB that a worker may hold to itself (mapped source models are shared); a candidate
    that takes more is given up and its worker replaced. None sets no limit."""

    merge_cache: float = Field(default=0.5, ge=0, allow_inf_nan=False)
    """GiB of each worker's memory for what merges of all candidates share (tables of
    magnitudes, singular vectors …); what goes beyond lies in mapped temporary files."""

    prefix_cache: float = Field(default=0.25, ge=0, allow_inf_nan=False)
    """GiB of each worker's memory (of its GPU's, where it has one) for hidden states of first
    layers that candidates have in common, which then run once; 0 runs them for each. Scores
    are the same. Unused where tasks are scored by functions, which may change the model."""

    sources: Literal["path", "copy"] = "path"
    """Models, tasks and files lie at the same path on every machine, or each machine gets a
    copy of them in its cache."""

    @field_validator("address")
    @classmethod
    def _address_is_a_cluster(cls, given: str | None) -> str | None:
        if given is not None and (not given or "://" in given):
            raise ValueError(
                f"must be 'auto' or host:port of a cluster that this machine belongs to, found "
                f"{given!r}"
            )
        return given

    @field_validator("env")
    @classmethod
    def _names_of_variables(cls, given: Mapping[str, str]) -> Mapping[str, str]:
        bad = [name for name in given if not _VARIABLE.fullmatch(name)]
        if bad:
            raise ValueError(f"names must be letters, digits and _, found {bad}")
        return given

    @property
    def on_ray(self) -> bool:
        """Whether workers are processes of Ray."""
        return self.kind == "ray" or (self.kind is None and self.count > 1)

    @model_validator(mode="after")
    def _keys_go_together(self) -> Self:
        if self.gpus > 1 and not self.gpus.is_integer():
            raise ValueError(f"gpus must be a fraction or a whole number, found {self.gpus:g}")
        if self.on_ray:
            return self
        if self.count > 1:
            raise ValueError(f"'inline' is one worker, found count {self.count}; use 'ray'")
        given = [key for key in _OF_PROCESSES if getattr(self, key) != _default(key)]
        if given:
            raise ValueError(
                f"{' and '.join(given)} only with workers in processes of their own; add "
                "'kind: ray'"
            )
        return self


def _default(key: str) -> Any:  # noqa: ANN401 - of any field
    return WorkersSpec.model_fields[key].get_default(call_default_factory=True)
