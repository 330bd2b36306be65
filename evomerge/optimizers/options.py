"""What the options of all optimizers have in common: keys of an ``optimizer:`` section.

They stand apart from the optimizers so that checking a file loads neither pymoo nor pycma.
"""

from typing import Self

from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

CLOSED = ConfigDict(extra="forbid", strict=True)
"""Unknown keys are errors, and so are values of another type."""


@dataclass(frozen=True, config=CLOSED)
class Parallel:
    """What optimizers offer that can keep many workers busy."""

    ahead: int = Field(
        default=0,
        ge=0,
        le=10_000,
        description="Candidates proposed before the ones in front of them are known, so that "
        "this many workers need not wait for the last ones; what is proposed does not depend "
        "on the number of workers.",
    )
    asynchronous: bool = Field(
        default=False,
        description="Learn from each outcome as it arrives: no worker ever waits, and what is "
        "proposed depends on the order of arrival, which is recorded and replayed.",
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.asynchronous and self.ahead:
            raise ValueError("'asynchronous' needs nothing proposed ahead; leave 'ahead' out")
        return self
