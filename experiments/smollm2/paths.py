"""Says where the SmolLM2 experiment keeps its models and tasks, never in the checkout."""

from __future__ import annotations

from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
DEFAULT_OUT = Path("~/.cache/evomerge/smollm2")


def outside_checkout(folder: Path) -> Path:
    """Resolve an output folder and refuse one that git could pick up.

    Args:
        folder: As the user wrote it; ``~`` is expanded.

    Raises:
        SystemExit: The folder lies inside the checkout.
    """
    resolved = folder.expanduser().resolve()
    if resolved.is_relative_to(CHECKOUT):
        raise SystemExit(
            f"--out {resolved} lies inside the checkout {CHECKOUT}; models and real "
            f"data stay outside it, {DEFAULT_OUT} suits."
        )
    return resolved
