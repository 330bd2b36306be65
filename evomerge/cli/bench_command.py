"""``evomerge bench``: comparisons at equal budgets."""

import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from evomerge.experiment.bench import BenchObserver


@click.group(name="bench")
def command() -> None:
    """Compare parts of a search at equal budgets."""


@command.command(name="optimizers")
@click.argument("experiment", nargs=-1, required=True)
@click.option(
    "--optimizers",
    required=True,
    metavar="NAMES",
    help="Separated by commas; options follow a name: nsga2:population=12:initial=false "
    "(the last one: without baselines to begin with).",
)
@click.option("--seeds", default=10, show_default=True, metavar="N", help="Searches of each.")
@click.option(
    "--candidates",
    type=int,
    metavar="N",
    help="Of every search. [default: the experiment's; 200 on landscapes]",
)
@click.option(
    "--budgets",
    metavar="N,N…",
    help="Compare after so many candidates too. [default: a quarter and a half]",
)
@click.option(
    "--objectives",
    metavar="WHICH",
    help="On landscapes: mean of all tasks (the default), each task, first against the mean of "
    "the others, or a list: sort,score+town.",
)
@click.option(
    "--items",
    default="20",
    show_default=True,
    metavar="N|all",
    help="On landscapes: search items of each task.",
)
@click.option("--against", metavar="NAME", help="Whom to compare with. [default: the first]")
@click.option("-o", "overrides", multiple=True, metavar="KEY=VALUE", help="As for run.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the results; what is in it is not run again. [default: runs/bench-NAME]",
)
@click.pass_obj
def optimizers(
    obj: dict[str, bool],
    experiment: tuple[str, ...],
    optimizers: str,
    seeds: int,
    candidates: int | None,
    budgets: str | None,
    objectives: str | None,
    items: str,
    against: str | None,
    overrides: tuple[str, ...],
    out: Path | None,
) -> None:
    """Compare optimizers on each EXPERIMENT.

    It is an experiment file, whose candidates are evaluated, or a frozen landscape, which
    costs no model evaluation: an .npz file, or the name of one that comes with evomerge
    (quickstart, smollm2). Further optimizers come from --plugin.
    """
    from evomerge.experiment.bench import bench
    from evomerge.experiment.bench_options import BenchOptions

    options = BenchOptions(
        problems=experiment,
        optimizers=tuple(name.strip() for name in optimizers.split(",") if name.strip()),
        seeds=seeds,
        candidates=candidates,
        budgets=_numbers("--budgets", budgets),
        objectives=objectives,
        items=_items(items),
        against=against,
        out=out,
        overrides=overrides,
        offline=obj["offline"],
        command=shlex.join(["evomerge", *sys.argv[1:]]),
    )
    observer = _progress()
    try:
        compared = bench(options, observer)
    except KeyboardInterrupt:
        click.echo("Stopped. Finished runs are kept; the same command goes on.", err=True)
        raise
    from rich.console import Console

    from evomerge.report.bench_table import bench_table

    console = Console()
    for part in compared.summary.problems:
        console.print(bench_table(part))
        for line in [*part.sentences, *part.notes]:
            console.print(line, highlight=False, soft_wrap=True, markup=False)
        console.print()
    folder = compared.folder
    console.print(
        f"report: {folder / 'report.html'}\ntables: {folder / 'table.csv'}, "
        f"{folder / 'runs.csv'}, {folder / 'bench.json'}",
        highlight=False,
        soft_wrap=True,
        markup=False,
    )


def _numbers(option: str, given: str | None) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in given.split(",")) if given else ()
    except ValueError as error:
        raise click.UsageError(
            f"{option} {given}: expected whole numbers with commas between them."
        ) from error


def _items(given: str) -> int | None:
    if given == "all":
        return None
    if given.isdecimal() and int(given) > 1:
        return int(given)
    raise click.UsageError(f"--items {given}: expected a number from 2 on, or 'all'.")


def _progress() -> "BenchObserver":
    """Tells on stderr how far the comparison is."""
    from rich.console import Console

    from evomerge.experiment.bench import BenchObserver
    from evomerge.report.bench_results import BenchRun
    from evomerge.report.number_text import duration

    console = Console(file=sys.stderr)

    class _Told(BenchObserver):
        def __init__(self) -> None:
            self._done = self._total = 0
            self._said = time.monotonic()

        def plan(self, out: Path, total: int, done: int) -> None:
            self._done, self._total = done, total
            self._begun, self._before = time.monotonic(), done
            known = f", {done} of them known" if done else ""
            console.print(f"{total} runs{known}; results in {out}", highlight=False)

        def end_run(self, run: BenchRun) -> None:
            self._done += 1
            now = time.monotonic()
            if now - self._said < 5.0 and self._done < self._total:
                return
            self._said = now
            pace = (now - self._begun) / (self._done - self._before)
            console.print(
                f"run {self._done}/{self._total} · {run.problem}, {run.contestant}, seed "
                f"{run.seed} · {duration(pace * (self._total - self._done))} left",
                highlight=False,
                soft_wrap=True,
            )

    return _Told()
