"""Loggers are loaded only when asked for, and leave the process as it was."""

import importlib.util
import random
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

NAMES = ("tensorboard", "wandb", "mlflow")


def loaded_by(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}


def test_an_experiment_without_loggers_loads_none_of_their_libraries():
    code = "import evomerge.experiment.loggers, evomerge.tracking.run_loggers"
    assert not {*NAMES} & loaded_by(code)


@pytest.mark.parametrize("name", NAMES)
def test_asking_whether_a_logger_can_be_used_does_not_load_it(name):
    code = (
        f"from evomerge.tracking.registry import logger_problem\nlogger_problem({name!r}, {{}})"
    )
    assert not {*NAMES} & loaded_by(code)


@pytest.mark.parametrize("name", NAMES)
def test_a_logger_loads_no_others_library(name):
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"needs the extra evomerge[{name}]")
    code = (
        "from evomerge.tracking.registry import make_logger\n"
        f"make_logger({name!r}, {{}}, offline=True)"
    )
    assert {*NAMES} & loaded_by(code) == {name}


def handlers() -> dict:
    return {number: signal.getsignal(number) for number in signal.valid_signals()}


def generators() -> tuple:
    numpy_state = np.random.get_state()  # noqa: NPY002 - it is this one that must stay
    return (
        random.getstate(),
        numpy_state[1].tolist(),
        numpy_state[2:],
        torch.random.get_rng_state().tolist(),
    )


@pytest.mark.parametrize("name", NAMES)
def test_generators_signal_handlers_and_exits_are_as_before(followed, name, monkeypatch):
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"needs the extra evomerge[{name}]")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    followed.loggers = {name: {}}
    for candidates in (5, 10, 15):
        before = generators(), handlers(), sys.exit, sys.excepthook
        followed.session(candidates)
        after = generators(), handlers(), sys.exit, sys.excepthook
        # Threads of a library that was used before, in another test, may draw at any time.
        if after == before:
            break
    assert after == before
    assert (followed.run_dir / "logs" / name).is_dir()
