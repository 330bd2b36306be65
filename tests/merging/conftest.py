"""Source models made once a session."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from merging.tiny_llamas import make_llama


@pytest.fixture(scope="session")
def llamas(tmp_path_factory) -> dict[str, Path]:
    """base, a, b, c tied in float32; untied; half_a, half_b in bfloat16; two_layers …"""
    root = tmp_path_factory.mktemp("llamas")
    made = {
        name: make_llama(root / name, seed=seed)
        for seed, name in enumerate(("base", "a", "b", "c"), 1)
    }
    made["untied"] = make_llama(root / "untied", seed=5, tied=False)
    made["deep"] = make_llama(root / "deep", seed=6, layers=3)
    made["wide"] = make_llama(root / "wide", seed=7, vocab=80)
    for seed, name in enumerate(("half_base", "half_a", "half_b"), 8):
        made[name] = make_llama(root / name, seed=seed, dtype=torch.bfloat16)
    return made


@pytest.fixture
def copied(llamas, tmp_path) -> Callable[[str], Path]:
    """A writable copy of one of the session's models."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(llamas[name], tmp_path / f"copy_of_{name}"))

    return copy
