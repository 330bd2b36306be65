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

    def described(self, count: int, where: str) -> str:
        """How many workers there are, where, and what each may use, in a sentence."""
        gpus = f" and {self.gpus:g} GPU" if self.gpus else ""
        limits = [f"{self.timeout:g} s a candidate"] * (self.timeout is not None)
        if self.memory is not None:
            limits.append(f"{self.memory / 2**30:.3g} GiB each")
        return (
            f"{count} worker{'s' * (count != 1)} with {self.cpus:g} "
            f"core{'s' * (self.cpus != 1)}{gpus} each, on {where}"
        ) + "".join(f"; at most {limit}" for limit in limits)

    @property
    def threads(self) -> int:
        """Threads of each worker: as many as it has whole cores."""
        return max(1, int(self.cpus))
