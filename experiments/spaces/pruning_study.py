"""How much of the full models' score is left with two of five layers, searched and naively.

    python experiments/spaces/pruning_study.py --seeds 10 --out runs/pruning

Runs ``pruning.yaml`` with each seed and as many candidates drawn at random, and scores, on all
test items, the winner of each by validation, every source at full depth, and each source
without two layers that were chosen without looking: the last, the middle, evenly spaced ones.
"""

import argparse
from pathlib import Path

import numpy as np

import evomerge
from evomerge.core.recipe import Recipe
from evomerge.core.responses import ItemResponses
from evomerge.experiment.build import make_evaluation
from evomerge.experiment.prepare import Prepared, prepare_file
from evomerge.experiment.study import Study
from evomerge.spaces.layer_edit_removal import naive_removals
from evomerge.workers.contract import Answered, Job

HERE = Path(__file__).parent
CONTESTANTS = {"search": {}, "random": {"optimizer": {"name": "random"}}}
ALL = ("fitness.items.test=600",)


class Judge:
    """Mean accuracy over the tasks on all test items."""

    def __init__(self, prepared: Prepared) -> None:
        self._evaluate = make_evaluation(prepared).evaluate
        self._items = prepared.items["test"]

    def score(self, recipe: Recipe) -> float:
        """Of a recipe."""
        answered = self._evaluate(Job(1, recipe, self._items))
        if not isinstance(answered, Answered):
            raise SystemExit(f"{recipe.digest}: {answered.reason}")
        return float(np.mean([accuracy(part) for part in answered.responses.values()]))


def accuracy(answered: ItemResponses) -> float:
    """Share of right answers."""
    return float(np.mean(answered.values["accuracy"]))


def winner(seed: int, name: str, out: Path) -> Recipe:
    """The recipe that validation chose, of a search taken up where it stands."""
    place = out / f"{name}-{seed}"
    if (place / "study.db").exists():
        study = evomerge.resume(place)
    else:
        changes = {"seed": seed} | CONTESTANTS[name]
        study = evomerge.run(HERE / "pruning.yaml", out=place, overrides=changes)
    if not isinstance(study, Study):
        raise SystemExit(f"{place} is no single search")
    final = study.summary().final
    if final is None or final.chosen[0] is None:
        raise SystemExit(f"{place}: no candidate reached the end")
    return final.chosen[0].recipe


def main() -> None:
    """Run all and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("runs/pruning"))
    options = parser.parse_args()
    _, prepared = prepare_file(HERE / "pruning.yaml", ALL)
    judge = Judge(prepared)
    full = {
        each.name: judge.score(each.recipe)
        for each in prepared.space.baselines()
        if each.recipe.layer_count is None
    }
    sources = {source.name: full[source.name] for source in prepared.models.sources}
    best = max(sources, key=sources.__getitem__)
    bar = sources[best]
    for name, score in full.items():
        print(f"full depth, {name:<36} {score:.3f}  {score / bar:.1%} of {best}")
    for name, recipe in naive_removals(prepared.models, 2).items():
        score = judge.score(recipe)
        print(f"naive, {name:<41} {score:.3f}  {score / bar:.1%}", flush=True)
    for name in CONTESTANTS:
        scores = []
        for seed in range(1, options.seeds + 1):
            scores.append(judge.score(winner(seed, name, options.out)))
            print(f"{name}, seed {seed}: {scores[-1]:.3f}  {scores[-1] / bar:.1%}", flush=True)
        low, middle, high = np.quantile(scores, [0.25, 0.5, 0.75])
        print(
            f"{name}: median {middle:.3f} = {middle / bar:.1%}, quartiles {low / bar:.1%} … "
            f"{high / bar:.1%}, worst {min(scores) / bar:.1%}",
            flush=True,
        )


if __name__ == "__main__":
    main()
