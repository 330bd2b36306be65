"""What workers in processes of their own are given and may use."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class RayOptions:
    """How many workers there are and what each may use."""

    count: int = 2
    cpus: float = 1.0
    gpus: float = 0.0
    """Fractions let workers share a GPU."""

    address: str | None = None
    """Of an existing cluster, ``auto`` for the one of this machine; None starts a local one."""

    env: Mapping[str, str] = field(default_factory=dict)
    """Environment variables of the workers."""

    timeout: float | None = None
    """Seconds after which a job is given up and its worker is replaced."""

    memory: int | None = None
    """Bytes that a worker may hold to itself; with more its job is given up."""

    copies: tuple[str, ...] = ()
    """Folders and files of the driver's machine that each other machine gets a copy of."""

    @property
    def threads(self) -> int:
        """Threads of each worker: as many as it has whole cores."""
        return max(1, int(self.cpus))
