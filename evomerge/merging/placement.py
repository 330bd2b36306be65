"""Placement: which source models a device holds, and how the others get there."""

from collections.abc import Mapping
from dataclasses import dataclass

_RESERVE_SHARE, _RESERVE_LEAST = 0.25, 2**30
"""Of a worker's share of the device, kept free for activations and the merge's own tensors."""


@dataclass(frozen=True)
class Placement:
    """Where the source models of a worker on an accelerator lie."""

    kept: tuple[str, ...]
    """Copied to the device once; a merge then reads nothing else."""

    streamed: tuple[str, ...]
    """Mapped from disk; each tensor passes through pinned memory when it is merged."""

    model_bytes: int
    kept_bytes: int
    share: int
    """Bytes of the device that the worker may use."""

    state_bytes: int = 0
    """The most that hidden states of shared layers may take."""

    def described(self) -> str:
        """The plan in a sentence."""
        held = f"{self.model_bytes / 2**30:.2f} GiB of resident model"
        if self.kept:
            held += (
                f" and {self.kept_bytes / 2**30:.2f} GiB of sources ({', '.join(self.kept)})"
            )
        if self.state_bytes:
            held += f", up to {self.state_bytes / 2**30:.2f} GiB of shared hidden states"
        said = f"each worker uses up to {self.share / 2**30:.2f} GiB of its device: {held}"
        if self.streamed:
            said += (
                f"; {', '.join(self.streamed)} do not fit besides and are streamed from pinned "
                "memory for every candidate"
            )
        return said


def place_sources(
    source_bytes: Mapping[str, int],
    model_bytes: int,
    free: int,
    share: int,
    state_bytes: int = 0,
) -> Placement:
    """Keep as many sources on the device as fit, in their order; the base comes first.

    Args:
        source_bytes: Size of each source model.
        model_bytes: Size of the resident model.
        free: Bytes of the device that nobody uses now, the resident model not counted.
        share: Bytes of the device that this worker may use.
        state_bytes: The most that hidden states of shared layers may take.
    """
    share = min(share, free)
    left = share - model_bytes - state_bytes - max(_RESERVE_LEAST, int(_RESERVE_SHARE * share))
    kept: list[str] = []
    for name, size in source_bytes.items():
        if size <= left:
            kept.append(name)
            left -= size
    return Placement(
        kept=tuple(kept),
        streamed=tuple(name for name in source_bytes if name not in kept),
        model_bytes=model_bytes,
        kept_bytes=sum(source_bytes[name] for name in kept),
        share=share,
        state_bytes=state_bytes,
    )
