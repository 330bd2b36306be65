"""The folder of a comparison: its runs as they end, and the files that are made of them."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evomerge.core.atomic_write import write_text
from evomerge.core.errors import StoreError
from evomerge.report.bench_page import render_bench_page
from evomerge.report.bench_results import BenchProblem, BenchRun
from evomerge.report.bench_summary import BenchSummary
from evomerge.report.bench_table import runs_frame, table_frame
from evomerge.store.run_lock import FILE_NAME as LOCK_NAME

SETTINGS, RUNS = "bench.json", "runs.jsonl"
TABLE, RUNS_TABLE, PAGE = "table.csv", "runs.csv", "report.html"

_FORMAT = 1
STUDIES = "studies"

_OWN = frozenset({SETTINGS, RUNS, TABLE, RUNS_TABLE, PAGE, STUDIES, LOCK_NAME})


class BenchFiles:
    """What a comparison has found so far.

    ``runs.jsonl`` grows by a line with every run and is the only truth; ``bench.json`` holds
    what was compared and, like the other files, is written anew from the runs.

    Args:
        folder: Existing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def begin(self, problems: Mapping[str, Mapping[str, Any]]) -> None:
        """Record what is compared, or check that it is what earlier runs were made with.

        Args:
            problems: Identity by problem; further ones may join later.

        Raises:
            StoreError: The folder holds other things, or results of another setting.
        """
        wanted = json.loads(json.dumps(problems))
        recorded = self._recorded()
        if recorded is None:
            foreign = sorted({path.name for path in self.folder.iterdir()} - _OWN)
            if foreign:
                raise StoreError(
                    f"{self.folder}: holds other things ({', '.join(foreign[:3])}); choose a "
                    "new or empty folder with --out."
                )
            recorded = {}
        changed = [
            f"{name}: {key} {_shown(recorded[name].get(key))} then, {_shown(now.get(key))} now"
            for name, now in wanted.items()
            if name in recorded
            for key in sorted({*recorded[name], *now})
            if recorded[name].get(key) != now.get(key)
        ]
        if changed:
            raise StoreError(
                f"{self.folder}: holds results of another setting ({'; '.join(changed)}); "
                "choose another folder with --out, or run with the same settings."
            )
        self._write_settings({**recorded, **wanted})

    def runs(self) -> list[BenchRun]:
        """Every run that has ended.

        Raises:
            StoreError: A line is no run of this version.
        """
        path = self.folder / RUNS
        lines = path.read_text(encoding="utf-8").split("\n") if path.is_file() else []
        found = []
        for number, line in enumerate(lines[:-1], 1):  # what follows the last break is half
            try:
                found.append(BenchRun.from_plain(json.loads(line)))
            except (ValueError, TypeError, KeyError) as error:
                raise StoreError(
                    f"{path}:{number}: no run of this version of evomerge; remove the line, "
                    "so that it is run again."
                ) from error
        return found

    def add(self, run: BenchRun) -> None:
        """Keep a run; when this returns, it survives ``kill -9``."""
        path = self.folder / RUNS
        whole = path.read_bytes() if path.is_file() else b""
        with path.open("r+b" if whole else "wb") as file:
            file.seek(whole.rfind(b"\n") + 1)  # over what a killed process left half written
            file.truncate()
            file.write(json.dumps(run.to_plain(), allow_nan=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def write(
        self,
        summary: BenchSummary,
        runs: Sequence[BenchRun],
        settings: Sequence[tuple[str, str]],
        command: str,
    ) -> None:
        """Write tables and page."""
        problems: list[BenchProblem] = [part.problem for part in summary.problems]
        write_text(self.folder / TABLE, table_frame(summary).to_csv(index=False))
        write_text(self.folder / RUNS_TABLE, runs_frame(problems, runs).to_csv(index=False))
        write_text(self.folder / PAGE, render_bench_page(summary, settings, command))
        self._write_settings(self._recorded() or {}, _plain(summary))

    def _recorded(self) -> dict[str, Any] | None:
        path = self.folder / SETTINGS
        if not path.is_file():
            return None
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            if data["format"] == _FORMAT:
                return dict(data["problems"])
        except (ValueError, TypeError, KeyError):
            pass
        raise StoreError(
            f"{path}: not written by this version of evomerge; choose another folder "
            "with --out."
        )

    def _write_settings(
        self, problems: Mapping[str, Any], results: Mapping[str, Any] | None = None
    ) -> None:
        content = {"format": _FORMAT, "problems": problems} | dict(results or {})
        write_text(
            self.folder / SETTINGS, json.dumps(content, indent=1, allow_nan=False) + "\n"
        )


def _plain(summary: BenchSummary) -> dict[str, Any]:
    return {
        "against": summary.against,
        "optimizers": list(summary.contestants),
        "seeds": list(summary.seeds),
        "versions": dict(summary.versions),
        "verdicts": {p.problem.name: list(p.sentences) for p in summary.problems},
        "notes": {p.problem.name: list(p.notes) for p in summary.problems},
        "best": {p.problem.name: p.problem.best for p in summary.problems},
        "table": json.loads(
            table_frame(summary).to_json(orient="records", double_precision=12)
        ),
        "curves": {p.problem.name: [asdict(c) for c in p.curves] for p in summary.problems},
    }


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
