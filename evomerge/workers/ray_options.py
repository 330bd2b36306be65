"""What workers in processes of their own are given and may use."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from evomerge.core.errors import ConfigError

_MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(256 * 2**20),
    "MALLOC_TOP_PAD_": str(64 * 2**20),
}
"""Keeps freed activations for the next batch. Actors do not work in the main thread, whose heap
alone does so by itself; without this they are a tenth slower."""


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
        if self.copies:
            where += f"; {len(self.copies)} folders and files are copied to every other machine"
        return (
            f"{count} worker{'s' * (count != 1)} with {self.cpus:g} "
            f"core{'s' * (self.cpus != 1)}{gpus} each, on {where}"
        ) + "".join(f"; at most {limit}" for limit in limits)

    def that_fit(self, have: Mapping[str, float]) -> int:
        """How many of the workers a single machine has room for.

        Args:
            have: Its ``CPU`` and ``GPU``.

        Raises:
            ConfigError: Not even one.
        """
        room = [int(have.get("CPU", 0) / self.cpus)] if self.cpus else []
        room += [int(have.get("GPU", 0) / self.gpus)] if self.gpus else []
        if room and min(room) < 1:
            raise ConfigError(
                f"workers: each needs {self._needs}, this machine has {resources_text(have)}; "
                "lower workers.cpus or workers.gpus."
            )
        return min([self.count, *room])

    def fit(self, have: Mapping[str, float]) -> bool:
        """Whether a worker fits on a machine with so much ``CPU`` and ``GPU``."""
        return have.get("CPU", 0) >= self.cpus and have.get("GPU", 0) >= self.gpus

    def no_room(self, have: Mapping[str, float], minutes: float) -> str:
        """What to say where nothing can be done for want of room."""
        return (
            f"no worker has been ready for {minutes:g} minutes; each needs {self._needs}, the "
            f"cluster has {resources_text(have)}. Go on when there is room, or with smaller "
            "workers."
        )

    def too_large(self, held: int) -> str:
        """What to say of a worker that holds too many bytes."""
        limit = (self.memory or 0) / 2**30
        return (
            f"its worker held {held / 2**30:.2f} GiB, more than the {limit:.3g} GiB of "
            "workers.memory, and was replaced"
        )

    @property
    def _needs(self) -> str:
        return resources_text({"CPU": self.cpus, "GPU": self.gpus})

    @property
    def environment(self) -> dict[str, str]:
        """Variables of the workers: as many threads as whole cores, and what the user gave."""
        threads = str(max(1, int(self.cpus)))
        own = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        return {**own, "TOKENIZERS_PARALLELISM": "false", **_MALLOC, **self.env}


def resources_text(have: Mapping[str, float]) -> str:
    """``2 cores and 0 GPUs``."""
    cores, gpus = have.get("CPU", 0), have.get("GPU", 0)
    return f"{cores:g} core{'s' * (cores != 1)} and {gpus:g} GPU{'s' * (gpus != 1)}"
