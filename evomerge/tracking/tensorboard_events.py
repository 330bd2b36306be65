"""TensorBoard: event files in the run directory."""

import csv
import os
import socket
import time
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.plugins.text.metadata import create_summary_metadata
from tensorboard.summary.writer.record_writer import RecordWriter

from evomerge.tracking.contract import Ending, Logger, RunFacts

FOLDER = "tensorboard"

_ROWS = 100
"""Of the front, in the text that shows it."""


class TensorBoardLogger(Logger):
    """Writes ``RUN_DIR/logs/tensorboard``; each session adds an event file to the same run.

    TensorBoard's own writer would load TensorFlow wherever that is installed and keep a
    thread; records are written here one by one instead, and are whole after a kill.
    """

    def __init__(self, options: Mapping[str, Any], *, offline: bool) -> None:
        del options, offline  # it has none and needs no network
        self._writer: RecordWriter | None = None

    def begin(self, facts: RunFacts) -> None:
        """Open a new event file."""
        folder = facts.logs / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        now = time.time()
        name = f"events.out.tfevents.{now:017.6f}.{socket.gethostname()}.{os.getpid()}"
        self._writer = RecordWriter((folder / name).open("xb"))
        self._write(Event(wall_time=now, file_version="brain.Event:2"))
        rows = [["parameter", "value"], *([k, str(v)] for k, v in facts.parameters.items())]
        self._say("run/parameters", _markdown(rows))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """One event with a scalar for each metric."""
        values = [Summary.Value(tag=key, simple_value=v) for key, v in metrics.items()]
        self._write(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))

    def end(self, ending: Ending) -> None:
        """The state and the front as texts."""
        self._say("run/state", ending.state)
        if ending.front is not None:
            self._say("run/front", _markdown(_read(ending.front)))
        if self._writer is not None:
            self._writer.close()

    def _say(self, tag: str, text: str) -> None:
        tensor = TensorProto(dtype=DT_STRING, string_val=[text.encode("utf-8")])
        value = Summary.Value(tag=tag, metadata=create_summary_metadata(tag, ""), tensor=tensor)
        self._write(Event(wall_time=time.time(), summary=Summary(value=[value])))

    def _write(self, event: Event) -> None:
        if self._writer is not None:
            self._writer.write(event.SerializeToString())
            self._writer.flush()


def _read(front: Path) -> list[list[str]]:
    with front.open(encoding="utf-8", newline="") as file:
        return list(islice(csv.reader(file), _ROWS + 1))


def _markdown(rows: list[list[str]]) -> str:
    """A table, its first row the heading."""
    lines = ["| " + " | ".join(c.replace("|", "\\|") for c in row) + " |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]]) if rows else ""
