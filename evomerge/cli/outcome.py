"""What a finished run prints: tables, verdict, files, and the commands that go on."""

import shlex

from rich.console import Console

from evomerge.cli.program import program
from evomerge.experiment.study import Study
from evomerge.experiment.study_chain import StudyChain
from evomerge.report.chain_terminal import chain_lines, chain_tables
from evomerge.report.terminal import baselines_table, front_table
from evomerge.search.budget import OPTIMIZER_FINISHED


def show_outcome(study: Study | StudyChain) -> None:
    """Print the outcome of a study, or of a chain, to stdout."""
    if isinstance(study, StudyChain):
        _show_chain(study)
        return
    summary = study.summary()
    console = Console()
    console.print(baselines_table(summary))
    console.print(front_table(summary))
    console.print(summary.verdict, highlight=False, soft_wrap=True, markup=False)
    run_dir = shlex.quote(str(study.path))
    end = study.end() or ""
    extend = f"extend:  {program()} resume {run_dir} --add 100\n"
    if end.startswith(OPTIMIZER_FINISHED):
        console.print(f"\n{end}", highlight=False, soft_wrap=True, markup=False)
        extend = ""
    console.print(
        f"\nreport:  {study.path / 'report.html'}\n"
        f"front:   {study.path / 'front.csv'}, recipes in {study.path / 'front'}\n"
        f"{extend}"
        f"export:  {program()} export {run_dir} --trial N OUT_DIR",
        highlight=False,
        soft_wrap=True,
        markup=False,
    )


def _show_chain(chain: StudyChain) -> None:
    console, summary = Console(), chain.summary()
    console.print(*chain_tables(summary), sep="\n")
    for line in chain_lines(summary, chain.path):
        console.print(line, highlight=False, soft_wrap=True)
    console.print(f"\nreport:  {chain.path / 'report.html'}", highlight=False, soft_wrap=True)
