"""ChainSummary: what a chain of searches has come to, against the models that it began with."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from evomerge.core.objectives import Objective
from evomerge.fitness.paired import Interval
from evomerge.report.chain_stages import ChainReader, ScoredModel, StageSummary
from evomerge.report.final_phase import VolumeComparison
from evomerge.report.number_text import gene, number, signed_interval
from evomerge.report.summary import Summary
from evomerge.report.verdict import Tone
from evomerge.store.chain_record import ChainRecord, KeptModel
from evomerge.store.run_lock import is_held
from evomerge.store.trials import Trial

ChainState = Literal["running", "interrupted", "finished"]

_VALUES = 12
"""So many fixed values are told; all are in the stage's ``resolved.yaml``."""


@dataclass(frozen=True)
class ChainSummary:
    """A chain at one moment."""

    name: str
    state: ChainState
    stages: tuple[StageSummary, ...]
    objectives: tuple[Objective, ...]
    """Of the first stage; empty before it has begun."""

    labels: tuple[str, ...]
    best_sources: tuple[Trial | None, ...]
    """The first stage's best source by validation, one an objective."""

    models: tuple[ScoredModel, ...]
    """The first stage's sources and baselines, what each stage has kept or found best, the
    final front."""

    items: int
    """Test items that the models were compared on."""

    tone: Tone
    verdict: str
    details: tuple[str, ...]

    @property
    def best(self) -> ScoredModel | None:
        """The best candidate of all comparable stages on validation items.

        With several objectives the most balanced; None before a stage has finished.
        """
        return next((model for model in self.models if model.best), None)


def summarize_chain(run_dir: Path) -> ChainSummary:
    """Compute a chain's summary; works at any time, also while it runs.

    Scores are compared where stages share objectives, test items and evaluation settings.
    Differences are paired by item, with the first stage's best source on validation items.

    Raises:
        StoreError: There is no chain, or a study of it cannot be read.
    """
    record = ChainRecord.read(run_dir)
    reader = ChainReader(run_dir, record)
    stages = reader.stages()
    first = stages[0].summary
    done = [stage.state == "finished" for stage in stages]
    state: ChainState = "finished" if all(done) else "interrupted"
    if state != "finished" and is_held(run_dir):
        state = "running"
    models, together = reader.compared()
    tone, verdict, details = _verdict(stages, (models, together), state)
    return ChainSummary(
        name=record.name,
        state=state,
        stages=stages,
        objectives=first.objectives if first else (),
        labels=first.labels if first else (),
        best_sources=first.final.best_sources if first and first.final else (),
        models=models,
        items=sum(first.final.items.values()) if first and first.final else 0,
        tone=tone,
        verdict=verdict,
        details=details,
    )


def what_was_kept(stage: str, kept: Sequence[KeptModel]) -> str:
    """What a stage hands on, as a sentence."""
    names = [
        f"source {model.name!r} itself"
        if model.folder is None
        else f"trial {model.trial} ({model.name})"
        for model in kept
    ]
    if kept and kept[0].kind != "candidate":
        return (
            f"stage {stage}: no candidate is better than the source models and baselines on "
            f"the validation items; the chain goes on with {', '.join(names)}."
        )
    return f"stage {stage} hands on {', '.join(names)}."


def what_was_fixed(chain_stages: Sequence[StageSummary], stage: StageSummary) -> str:
    """Which parameters a stage has from which candidate, with their values; "" for none."""
    fix = stage.record.fix
    if not fix:
        return ""
    earlier = next(s for s in chain_stages if s.record.name == fix["stage"])
    names = ", ".join(fix["parameters"])
    if earlier.best is None:
        return f"stage {stage.record.name} takes {names} from stage {fix['stage']}."
    held = [f"{name} = {gene(value)}" for name, value in stage.fixed.items()]
    more = len(held) - _VALUES
    values = ", ".join(held[:_VALUES]) + (f", and {more} more" if more > 0 else "")
    return (
        f"stage {stage.record.name} holds {names} as {earlier.best.name} (trial "
        f"{earlier.best.number}) of stage {fix['stage']} has it"
        + (f": {values}." if held else ".")
    )


def _verdict(
    stages: Sequence[StageSummary],
    compared: tuple[Sequence[ScoredModel], VolumeComparison | None],
    state: ChainState,
) -> tuple[Tone, str, tuple[str, ...]]:
    """The chain's outcome in words, with what each stage handed on."""
    models, together = compared
    details = [what_was_kept(s.record.name, s.kept) for s in stages if s.kept]
    details += [said for s in stages if (said := what_was_fixed(stages, s))]
    last = stages[-1]
    if state != "finished" or last.summary is None:
        now = next((s for s in stages if s.state != "finished"), last)
        place = [s.record.name for s in stages].index(now.record.name) + 1
        said = f"Stage {place} of {len(stages)}, {now.record.name}, is {_said(now.state)}."
        return "pending", said, tuple(details)
    spent = f"{len(stages)} stages and {last.spent[0]:,} candidates"
    tone, said = _judged(last.summary, models, together)
    details += _best_of_all(last, models)
    details += _differences(last.summary, models)
    return tone, f"After {spent}: {said}", tuple(details)


def _said(state: str) -> str:
    return {"not begun": "yet to begin", "finished": "finished"}.get(state, state)


def _judged(
    summary: Summary, models: Sequence[ScoredModel], together: VolumeComparison | None
) -> tuple[Tone, str]:
    """The final front against everything that the chain began with."""
    if together is None:
        return "unclear", "nothing could be compared on the test items."
    difference = together.difference
    final = [model for model in models if model.role == "final"]
    objectives = len(models[0].test)
    if objectives == 1:
        mine = [model for model in models if model.best] or final
        who = f"{mine[0].name} of stage {mine[0].stage}"
        if mine[0].best:
            who += ", the chain's best on validation items,"
        facts = _single_facts(summary.objectives[0], mine, models, difference)
    else:
        who = f"the final front of {len(final)} of stage {final[0].stage}"
        facts = (
            f"hypervolume {number(together.volume + difference.value)} against "
            f"{number(together.volume)}, difference {signed_interval(difference)}"
        )
    began = "what the chain began with, on the untouched test items"
    if difference.low > 0:
        return "better", f"{who} beats {began}: {facts}."
    if difference.value > 0:
        return (
            "unclear",
            f"it is not certain that {who} beats {began}: {facts}; the interval includes zero.",
        )
    return "not better", f"{who} does not beat {began}: {facts}."


def _single_facts(
    objective: Objective,
    final: Sequence[ScoredModel],
    models: Sequence[ScoredModel],
    difference: Interval,
) -> str:
    plain = [model for model in models if model.role in ("source", "baseline")]
    best = min(plain, key=lambda model: objective.sign * model.test[0].value)
    mine = min(final, key=lambda model: objective.sign * model.test[0].value)
    shown = Interval(
        -objective.sign * difference.value,
        *sorted((-objective.sign * difference.low, -objective.sign * difference.high)),
    )
    return (
        f"{number(mine.test[0].value)} against {number(best.test[0].value)} of {best.name}, "
        f"the best of it, difference {signed_interval(shown)}"
    )


def _best_of_all(last: StageSummary, models: Sequence[ScoredModel]) -> list[str]:
    """Which candidate the chain has come to, where the headline does not say it all."""
    best = next((model for model in models if model.best), None)
    if best is None:
        return []
    name = f"{best.name} of stage {best.stage} (trial {best.trial})"
    if not last.comparable:
        return [
            f"stage {last.record.name} cannot be compared with the first one; of the stages "
            f"that can, {name} is best on validation items"
        ]
    if len(best.test) > 1:
        return [f"the most balanced candidate of all stages on validation items is {name}"]
    if best.stage == last.record.name or not best.validation:
        return []
    final = next((m for m in models if m.role == "final" and m.validation), None)
    said = f"stage {last.record.name} found nothing better than {name} on validation items"
    if final is None or not final.validation:
        return [said]
    mine, other = best.validation[0].value, final.validation[0].value
    return [f"{said}: {number(other)} of {final.name} against {number(mine)}"]


def _differences(summary: Summary, models: Sequence[ScoredModel]) -> list[str]:
    """The candidate chosen for each objective, against the best original source."""
    if summary.final is None:
        return []
    by_trial = {model.trial: model for model in models if model.role == "final"}
    single = next((m for m in models if m.best and len(m.test) == 1), None)
    told = []
    for k, chosen in enumerate(summary.final.chosen):
        model = by_trial.get(chosen.number) if chosen is not None else None
        model = single or model
        difference = model.differences[k] if model is not None else None
        if model is not None and difference is not None:
            told.append(
                f"{summary.labels[k]}: {model.name} of stage {model.stage} scores "
                f"{number(model.test[k].value)}, {signed_interval(difference)} against the "
                "best source model that the chain began with"
            )
    return told
