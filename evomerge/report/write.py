"""Write a study's report into its run directory."""

from pathlib import Path

from evomerge.core.atomic_write import write_text
from evomerge.recipes.recipe_yaml import recipe_to_yaml
from evomerge.report import number_text
from evomerge.report.frames import frame_of_front
from evomerge.report.page import render_page
from evomerge.report.summary import Summary, summarize
from evomerge.store.study_store import StudyStore

_RECIPES = "front"
_SUFFIX = ".recipe.yaml"


def write_report(store: StudyStore, run_dir: Path) -> None:
    """Rebuild ``report.html``, ``front.csv`` and ``front/NN.recipe.yaml`` from the study.

    Each file is replaced whole; recipes of candidates that left the front are removed.

    Args:
        store: An open study; read-only is enough, and the search may be running.
        run_dir: Where to write.

    Raises:
        StoreError: The database holds no study of a search.
        OSError: The folder cannot be written.
    """
    summary = summarize(store)
    recipes = front_recipes(summary)
    _write_recipes(run_dir / _RECIPES, recipes)
    write_text(run_dir / "front.csv", frame_of_front(summary).to_csv(index=False))
    write_text(run_dir / "report.html", render_page(summary, run_dir, recipes))


def front_recipes(summary: Summary) -> list[str]:
    """The YAML of each member of the front to choose from, its scores in a comment."""
    tested = {row.trial.number: row.test for row in summary.final.rows} if summary.final else {}
    texts = []
    for member in summary.result:
        trial = member.trial
        scores = tested.get(trial.number, trial.estimates)
        items = " on test items" if trial.number in tested else " on search items"
        lines = [f"{summary.name}: trial {trial.number}, {trial.name}"]
        lines += [
            f"{label}: {number_text.estimate(score)}{items if objective.tasks else ''}"
            for label, objective, score in zip(
                summary.labels, summary.objectives, scores, strict=True
            )
        ]
        texts.append(recipe_to_yaml(trial.recipe, "\n".join(lines)))
    return texts


def _write_recipes(folder: Path, recipes: list[str]) -> None:
    folder.mkdir(exist_ok=True)
    digits = max(2, len(str(len(recipes))))
    names = [f"{rank:0{digits}d}{_SUFFIX}" for rank in range(1, len(recipes) + 1)]
    for name, text in zip(names, recipes, strict=True):
        write_text(folder / name, text)
    for stale in folder.glob(f"*{_SUFFIX}"):
        if stale.name not in names:
            stale.unlink()
