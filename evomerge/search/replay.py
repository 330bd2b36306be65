"""Resume is replay: the recorded asks and tells, put to a fresh optimizer and checked."""

from collections.abc import Sequence

from evomerge.core.errors import StoreError
from evomerge.core.outcomes import Candidate, Outcome
from evomerge.optimizers.contract import Optimizer
from evomerge.search.item_scores import with_item_scores
from evomerge.search.scoring import Scoring
from evomerge.store.study_store import StudyStore
from evomerge.store.trials import Trial, outcome


def replay(store: StudyStore, optimizer: Optimizer, scoring: Scoring) -> dict[int, Candidate]:
    """Bring a fresh optimizer to where the study's history ends.

    Args:
        store: The study.
        optimizer: Made with the study's seed and settings, not used yet.
        scoring: The study's.

    Returns:
        Every candidate replayed, by trial number.

    Raises:
        StoreError: The optimizer proposes other genomes than the recorded ones.
    """
    trials = {trial.number: trial for trial in store.trials()}
    replayed: dict[int, Candidate] = {}
    for event in store.events():
        if event.kind == "ask":
            candidates = optimizer.ask(event.count)
            proposed = [dict(candidate.genome) for candidate in candidates]
            recorded = [dict(trials[number].genome or {}) for number in event.trials]
            if proposed != recorded:
                raise StoreError(_diverged(store, event.trials, proposed, recorded))
            replayed.update(zip(event.trials, candidates, strict=True))
        else:
            optimizer.tell(
                {
                    replayed[number].id: _told(store, optimizer, scoring, trials[number])
                    for number in event.trials
                }
            )
    return replayed


def _told(store: StudyStore, optimizer: Optimizer, scoring: Scoring, trial: Trial) -> Outcome:
    told = outcome(trial, scoring.objectives)
    if not optimizer.learns_from_items:
        return told
    known = store.responses(trial.recipe.digest, scoring.settings, scoring.versions)
    return with_item_scores(told, scoring.objectives, known, scoring.items["search"])


def _diverged(
    store: StudyStore,
    numbers: Sequence[int],
    proposed: Sequence[object],
    recorded: Sequence[object],
) -> str:
    first = next(
        (
            f"trial {number}: recorded {there}, proposed now {here}"
            for number, here, there in zip(numbers, proposed, recorded, strict=False)
            if here != there
        ),
        f"{len(recorded)} candidates were recorded, {len(proposed)} are proposed now",
    )
    sessions = store.sessions.all()
    versions = dict(sessions[0].versions) if sessions else {}
    return (
        f"{store.path}: the optimizer no longer proposes what is recorded ({first}). The study "
        f"was begun with {versions}; resume with those versions, or begin a new run with "
        "'evomerge run EXPERIMENT --warm-start RUN_DIR', which starts from this one's front."
    )
