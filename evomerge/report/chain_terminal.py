"""A chain as tables and lines for a terminal."""

from pathlib import Path

from rich.table import Table
from rich.text import Text

from evomerge.report import number_text
from evomerge.report.chain_page import chain_commands
from evomerge.report.chain_summary import ChainSummary


def stages_table(chain: ChainSummary) -> Table:
    """The stages in order: how far each is, and what it has handed on."""
    table = Table(title=f"stages of {chain.name}", title_justify="left")
    for heading in ("#", "stage", "state", "candidates", "item evaluations", "hands on"):
        table.add_column(heading, justify="left" if heading[0] != "#" else "right")
    for number, stage in enumerate(chain.stages, 1):
        name = stage.record.name
        counts = stage.summary.counts if stage.summary else None
        failed = f", {counts.failed} failed" if counts and counts.failed else ""
        kept = [
            f"{model.name} ({stage.record.folder}/{model.folder})"
            if model.folder
            else f"{model.name}, the source itself"
            for model in stage.kept or ()
        ]
        for other in chain.stages:
            if stage.best and other.record.fix and other.record.fix["stage"] == name:
                values = ", ".join(other.record.fix["parameters"])
                kept.append(f"{values} of {stage.best.name} to {other.record.name}")
        table.add_row(
            str(number),
            Text(name),
            stage.state,
            f"{counts.complete:,} scored{failed}" if counts else "",
            f"{counts.item_evaluations:,}" if counts else "",
            Text("\n".join(kept)),
        )
    return table


def models_table(chain: ChainSummary) -> Table | None:
    """What the chain began with, handed on and ended with, on test items; None before any."""
    if not chain.models:
        return None
    table = Table(title="from the first models to the last, test items", title_justify="left")
    for heading in ("stage", "trial", "name", "what"):
        table.add_column(heading, justify="right" if heading == "trial" else "left")
    for label in chain.labels:
        table.add_column(Text(label), justify="right")
    said = {"kept": "handed on", "best": "best of stage", "final": "final front"}
    best = "most balanced of chain" if len(chain.objectives) > 1 else "best of chain"
    for model in chain.models:
        table.add_row(
            Text(model.stage),
            str(model.trial),
            Text(model.name),
            said.get(model.role, model.role) + (f", {best}" if model.best else ""),
            *(Text(number_text.estimate(value)) for value in model.test),
        )
    return table


def chain_tables(chain: ChainSummary) -> list[Table]:
    """Every table there is to show."""
    models = models_table(chain)
    return [stages_table(chain), *([models] if models is not None else [])]


def chain_lines(chain: ChainSummary, run_dir: Path) -> list[Text]:
    """How far the chain is, what has come of it, and how to go on, a line each."""
    lines = [Text(f"{chain.name}: {chain.state}", style="bold"), Text(chain.verdict)]
    lines += [Text(detail) for detail in chain.details]
    if chain.state != "running":
        lines += [
            Text(f"{title}:  {command}") for title, command in chain_commands(chain, run_dir)
        ]
    return lines
