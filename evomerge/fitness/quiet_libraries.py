"""What lm-eval, datasets and transformers print, and whom they may call, for a block."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import datasets
import huggingface_hub

_LIBRARIES = ("lm_eval", "datasets", "transformers")


@contextmanager
def quiet() -> Iterator[None]:
    """Let the libraries log errors only, and datasets show no progress bars."""
    loggers = [logging.getLogger(name) for name in _LIBRARIES]
    levels = [logger.level for logger in loggers]
    bars = not datasets.are_progress_bars_disabled()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if bars:
            datasets.enable_progress_bars()


@contextmanager
def hub_access(*, allowed: bool) -> Iterator[None]:
    """Without ``allowed``, data sets come from files and the local cache only.

    The libraries read ``HF_HUB_OFFLINE`` once, when they are imported, so that setting the
    environment variable later has no effect.
    """
    before = datasets.config.HF_HUB_OFFLINE, huggingface_hub.constants.HF_HUB_OFFLINE
    if not allowed:
        datasets.config.HF_HUB_OFFLINE = huggingface_hub.constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE, huggingface_hub.constants.HF_HUB_OFFLINE = before
