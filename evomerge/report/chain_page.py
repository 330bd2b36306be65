"""The index page of a chain: its stages in order, and its models on the test items."""

import shlex
import time
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from evomerge.core.atomic_write import write_text
from evomerge.report import number_text
from evomerge.report.bench_page import page_style, template_text
from evomerge.report.chain_stages import StageSummary
from evomerge.report.chain_summary import ChainSummary, summarize_chain
from evomerge.report.page import difference_tone


def write_chain_report(run_dir: Path) -> None:
    """Rebuild a chain's ``report.html``; those of its stages stay as they are.

    Raises:
        StoreError: There is no chain, or a study of it cannot be read.
        OSError: The folder cannot be written.
    """
    write_text(run_dir / "report.html", render_chain_page(summarize_chain(run_dir), run_dir))


def render_chain_page(chain: ChainSummary, run_dir: Path, *, live: bool = False) -> str:
    """The HTML of a chain's index page.

    Args:
        chain: The chain.
        run_dir: Shown in the commands.
        live: Link to live pages of the stages instead of their reports, and keep up to date
            while the chain runs.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, lstrip_blocks=True)
    environment.filters |= {
        "estimate": number_text.estimate,
        "interval": number_text.signed_interval,
        "duration": number_text.duration,
        "thousands": number_text.count,
    }
    return environment.from_string(template_text("chain.html")).render(
        chain=chain,
        figures=_key_figures(chain),
        rows=[_row(chain, stage, "" if live else "report.html") for stage in chain.stages],
        live=live,
        tones=[partial(difference_tone, objective) for objective in chain.objectives],
        commands=chain_commands(chain, run_dir),
        style=Markup(page_style()),
        written=time.strftime("%Y-%m-%d %H:%M", time.localtime()),
    )


def chain_commands(chain: ChainSummary, run_dir: Path) -> list[tuple[str, str]]:
    """What goes on with the chain, or extends it: a title and a command each."""
    place = shlex.quote(str(run_dir))
    last = chain.stages[-1]
    if chain.state != "finished":
        commands = [("resume", f"evomerge resume {place}")]
    else:
        title = f"extend the last stage, {last.record.name}, by 100 candidates"
        commands = [(title, f"evomerge resume {place} --add 100")]
    commands += [
        (
            f"export {said}trial {number} of stage {stage}, as a model folder",
            f"evomerge export {place} merged-model"
            + ("" if stage == last.record.name else f" --stage {stage}")
            + f" --trial {number}",
        )
        for said, stage, number in _worth_exporting(chain)
    ]
    return [*commands, ("rebuild all reports", f"evomerge report {place}")]


def _worth_exporting(chain: ChainSummary) -> list[tuple[str, str, int]]:
    """What it is, stage and trial; the last stage's beside the best if not comparable."""
    last, best = chain.stages[-1], chain.best
    found = []
    if best is not None:
        which = "most balanced" if len(chain.objectives) > 1 else "best"
        found.append((f"the chain's {which} candidate, ", best.stage, best.trial))
    summary = last.summary
    if summary is not None and summary.result and (best is None or not last.comparable):
        number = summary.balanced or summary.result[0].trial.number
        found.append(("", last.record.name, number))
    return found


def _key_figures(chain: ChainSummary) -> list[tuple[str, str, str]]:
    """Value, what it is, and a remark, for the tiles on top."""
    done = sum(stage.state == "finished" for stage in chain.stages)
    candidates, items = chain.stages[-1].spent
    begun = [stage.summary for stage in chain.stages if stage.summary is not None]
    seconds = sum(summary.counts.seconds for summary in begun)
    scored = sum(summary.counts.complete for summary in begun)
    unscored = f"{candidates - scored} not" if candidates > scored else ""
    return [
        (f"{done} of {len(chain.stages)}", "stages finished", ""),
        (number_text.count(scored), "candidates scored", unscored),
        (number_text.count(items), "item evaluations", "of all stages"),
        (number_text.duration(seconds), "worked", "all stages together"),
    ]


def _row(chain: ChainSummary, stage: StageSummary, report: str) -> dict[str, Any]:
    asked = stage.record.experiment
    space = asked["space"]
    operators = space.get("operator")
    shown = operators if isinstance(operators, str) else " or ".join(operators or ())
    models = asked["models"]
    return {
        "stage": stage,
        "space": shown or space.get("kind", ""),
        "optimizer": asked["optimizer"]["name"],
        "values": [
            f"{', '.join(other.record.fix['parameters'])}"
            + (f" of {stage.best.name} (trial {stage.best.number})" if stage.best else "")
            + f" to {other.record.name}"
            for other in chain.stages
            if other.record.fix and other.record.fix["stage"] == stage.record.name
        ],
        "sources": [*(["base"] if models["base"] else []), *models["experts"]],
        "link": f"{quote(stage.record.folder)}/{report}",
    }
