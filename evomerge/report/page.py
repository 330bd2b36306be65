"""The report as one HTML page that needs no network and no other file."""

import shlex
import time
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from evomerge.core.objectives import Objective
from evomerge.fitness.paired import Interval
from evomerge.report import number_text
from evomerge.report.charts import charts, figure_json, plotly_script
from evomerge.report.constraint_table import constraint_rows, misses, misses_text
from evomerge.report.final_phase import FinalRow
from evomerge.report.search_phase import FrontMember
from evomerge.report.summary import Summary
from evomerge.report.terminal import how_to_go_on
from evomerge.store.trials import Trial

_MOST_BEST_TILES = 3


def render_page(summary: Summary, run_dir: Path, recipes: Sequence[str]) -> str:
    """The HTML of a report.

    Args:
        summary: The study.
        run_dir: Shown in the commands.
        recipes: YAML of each member of ``summary.result``, in order.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, lstrip_blocks=True)
    environment.filters |= {
        "number": number_text.number,
        "estimate": number_text.estimate,
        "interval": number_text.signed_interval,
        "duration": number_text.duration,
        "thousands": number_text.count,
        "gene": number_text.gene,
    }
    text = resources.files("evomerge.report").joinpath("page.html").read_text("utf-8")
    drawn = charts(summary)
    sections = {
        name: {key: Markup(figure_json(figure)) for key, figure in figures.items()}
        for name, figures in vars(drawn).items()
    }
    return environment.from_string(text).render(
        summary=summary,
        facts=summary.facts,
        labels=summary.labels,
        counts=summary.counts,
        final=summary.final,
        charts=sections,
        plotly=Markup(plotly_script()),
        figures=_key_figures(summary),
        front=_front_rows(summary, recipes),
        final_rows=_final_rows(summary),
        constraints=constraint_rows(summary),
        baselines=[_baseline_row(summary, trial) for trial in summary.baselines],
        commands=_commands(summary, run_dir),
        experiment=_yaml(summary.facts.experiment),
        evaluation=_yaml(summary.facts.settings),
        versions=_versions(summary),
        written=time.strftime("%Y-%m-%d %H:%M", time.localtime()),
    )


def _key_figures(summary: Summary) -> list[tuple[str, str, str]]:
    """Value, what it is, and a remark, for the tiles on top."""
    counts, final = summary.counts, summary.final
    remarks = [f"{counts.failed} failed"] * bool(counts.failed)
    remarks += [f"{counts.open} open"] * bool(counts.open)
    if summary.facts.constraints:
        remarks.append(f"{number_text.count(counts.feasible)} meet the constraints")
    wanted = summary.facts.budget.get("candidates")
    if wanted:
        remarks.append(f"budget {number_text.count(wanted)}")
    tiles = [(number_text.count(counts.complete), "candidates scored", ", ".join(remarks))]
    several = len(summary.labels) > 1
    if several and summary.result_kind == "final front":
        confirmed = (summary.facts.finalists or {}).get("validation", ())
        candidates = {t.number for t in summary.facts.of_kind("candidate")}
        remark = f"of {sum(n in candidates for n in confirmed)} finalists"
        tiles.append((str(len(summary.result)), "on the final front", remark))
    elif several:
        tiles.append((str(len(summary.front)), "on the search front", "by search items"))
    if several and final is not None and final.volume is not None and final.comparisons:
        together = f"sources and baselines {number_text.number(final.comparisons[-1].volume)}"
        tiles.append((number_text.number(final.volume), "hypervolume on test items", together))
    tiles += _best_tiles(summary) if len(summary.labels) <= _MOST_BEST_TILES else []
    rate = counts.candidates_per_minute
    pace = f"{rate:.3g} candidates a minute" if rate else ""
    tiles.append((number_text.duration(counts.seconds), "worked", pace))
    tiles.append((number_text.count(counts.item_evaluations), "item evaluations", ""))
    return tiles


def _best_tiles(summary: Summary) -> list[tuple[str, str, str]]:
    tiles = []
    for k, (label, best) in enumerate(zip(summary.labels, summary.bests, strict=True)):
        if best.candidate is not None:
            beat = best.baseline
            against = (
                f"{beat.name} {number_text.number(beat.values[k])}"
                if beat
                else "no source or baseline meets the constraints"
            )
            value = number_text.number(best.candidate.values[k])
            tiles.append((value, f"best {label}", f"search items; {against}"))
    return tiles


def _front_rows(summary: Summary, recipes: Sequence[str]) -> list[dict[str, Any]]:
    tested = {row.trial.number: row for row in summary.final.rows} if summary.final else {}
    return [
        {
            "rank": rank,
            "trial": member.trial,
            "test": tested[member.trial.number].test if member.trial.number in tested else None,
            "beaten_by": ", ".join(member.beaten_by),
            "misses": _missed(summary, member),
            "balanced": member.trial.number == summary.balanced
            and len(summary.labels) > 1
            and summary.feasible,
            "genes": list((member.trial.genome or {}).items()),
            "recipe": recipe,
        }
        for rank, (member, recipe) in enumerate(zip(summary.result, recipes, strict=True), 1)
    ]


def _missed(summary: Summary, member: FrontMember) -> str:
    """What a member of the result misses, on the items of the scores beside it."""
    if missed := misses_text(summary, member.trial, "test"):
        return missed
    return "misses constraints on validation items" if member.violation else ""


def _final_rows(summary: Summary) -> list[dict[str, Any]]:
    if summary.final is None:
        return []
    return [
        {
            "trial": row.trial,
            "left_out": row.violation > 0,
            "misses": misses(summary.facts.constraints, row.constraints),
            "cells": [
                {
                    "value": row.test[k],
                    "difference": row.differences[k],
                    "reference": _is_reference(summary, row, k),
                    "tone": difference_tone(objective, row.differences[k]),
                }
                for k, objective in enumerate(summary.objectives)
            ],
        }
        for row in summary.final.rows
    ]


def difference_tone(objective: Objective, difference: Interval | None) -> str:
    """``better`` or ``worse`` where the interval leaves out zero, else nothing."""
    if difference is None or difference.low <= 0 <= difference.high:
        return ""
    return "better" if objective.sign * difference.value < 0 else "worse"


def _is_reference(summary: Summary, row: FinalRow, k: int) -> bool:
    best = summary.final.best_sources[k] if summary.final else None
    return best is not None and best.number == row.trial.number


def _baseline_row(summary: Summary, trial: Trial) -> dict[str, Any]:
    on_front = {t.number for t in summary.plain_on_front}
    missed = misses_text(summary, trial)
    return {"trial": trial, "on_front": trial.number in on_front, "misses": missed}


def _commands(summary: Summary, run_dir: Path) -> list[tuple[str, str]]:
    place = shlex.quote(str(run_dir))
    number = summary.balanced or (summary.result[0].trial.number if summary.result else None)
    commands = how_to_go_on(summary, run_dir)
    if number is not None:
        title = f"export trial {number} as a model folder"
        commands.append((title, f"evomerge export {place} merged-model --trial {number}"))
    return [*commands, ("rebuild this report", f"evomerge report {place}")]


def _versions(summary: Summary) -> list[tuple[str, str]]:
    """Package versions, every one that any session used."""
    found: dict[str, list[str]] = {"evomerge at the start": [summary.facts.version]}
    for session in summary.facts.sessions:
        for package, version in session.versions.items():
            versions = found.setdefault(package, [])
            if version not in versions:
                versions.append(version)
    return [(package, ", then ".join(versions)) for package, versions in found.items()]


def _yaml(value: Mapping[str, Any]) -> str:
    if not value:
        return ""
    return yaml.safe_dump(dict(value), sort_keys=False, allow_unicode=True)
