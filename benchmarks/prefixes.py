"""What candidates save whose first layers were computed before, in generations as they come.

    python benchmarks/prefixes.py [--models FOLDER] [--candidates 60] [--rounds 2] [--cache GIB]

One thread. Genomes are random ones, and those that NSGA-II proposes in a search by the very
scores and sizes; the recipes are then put to the real scorer in their order, each with and
without sharing in turn, and every round begins with nothing shared. `saved` is the share of
layer evaluations (one for each layer and batch) that did not run. The ratios are wall time
without sharing over wall time with it, medians over the rounds: of scoring, in which telling
layers apart counts, and of merging and scoring. With `sort` some answers are written by the
model, which shares nothing. Scores have to be equal, bit for bit.
"""

import argparse
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
import yaml

from evomerge.core.outcomes import Scored
from evomerge.core.recipe import Recipe
from evomerge.core.responses import Items, Responses
from evomerge.core.streams import stream
from evomerge.experiment.custom_tasks import MergedModel
from evomerge.experiment.prepare import Prepared, prepare_file
from evomerge.experiment.varying_depth import first_recipe, resident_recipe
from evomerge.fitness.harness import ScoringSettings
from evomerge.fitness.item_scorer import ItemScorer
from evomerge.merging.engine import MergeEngine
from evomerge.merging.layer_identities import layer_identities
from evomerge.merging.resident_depth import ResidentDepth
from evomerge.optimizers.registry import make_optimizer
from evomerge.optimizers.search_problem import SearchProblem
from evomerge.spaces.genes import genome_from_unit
from evomerge.spaces.registry import SPACES

ROOT = Path(__file__).resolve().parent.parent
ZOO, TASKS = ROOT / "experiments" / "quickstart" / "zoo", ROOT / "fitness" / "tasks"
SMOLLM2 = Path("~/.cache/evomerge/smollm2").expanduser()
SPACES_ASKED = ("layer_moves", "layer_edit", "data_flow", "parameter")
POPULATION = 24
CHOICES = ["score", "town"]
LARGE = ("layer_moves",)
LARGE_CANDIDATES, LARGE_POPULATION, LARGE_ITEMS = 24, 6, 4


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", type=Path, default=SMOLLM2, help="SmolLM2's experts")
    parser.add_argument("--candidates", type=int, default=60)
    parser.add_argument("--large", type=int, default=LARGE_CANDIDATES, help="of SmolLM2")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--cache", type=float, default=0.25, help="GiB of hidden states")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    for name in ("lm_eval", "evomerge.fitness.resident_lm"):
        logging.getLogger(name).setLevel(logging.ERROR)
    transformers.utils.logging.disable_progress_bar()
    print(
        f"{'models, tasks, space':36s}{'genomes':8s}candidates  layers   saved  scoring  whole"
        "    MiB  scores",
        flush=True,
    )
    limit = int(asked.cache * 2**30)
    for kind in SPACES_ASKED:
        if kind not in SPACES:
            print(f"{kind}: there is no such space")
            continue
        prepared = experiment(quickstart(kind, CHOICES))
        rows(f"quickstart, choices, {kind}", prepared, asked.candidates, asked.rounds, limit)
    prepared = experiment(quickstart("layer_moves", ["sort", *CHOICES]))
    rows("quickstart, and sort, layer_moves", prepared, asked.candidates, asked.rounds, limit)
    for kind in LARGE:
        if not (asked.models / "tasks").is_dir():
            print(f"SmolLM2-135M: no models in {asked.models}; see experiments/smollm2.")
            break
        if kind in SPACES:
            prepared = experiment(smollm2(kind, asked.models))
            row(f"SmolLM2-135M, choices, {kind}", "nsga2", prepared, asked.large, 1, limit)


def quickstart(kind: str, tasks: Sequence[str]) -> dict[str, Any]:
    """Three experts of five layers; ten items of each task."""
    return {
        "name": "prefixes",
        "models": {
            "base": str(ZOO / "base"),
            "experts": {name: str(ZOO / name) for name in ("sort", "score", "town")},
        },
        "space": space(kind),
        "tasks": {"include": [str(TASKS)], "use": [*tasks]},
        "fitness": {"items": {"search": 20, "validation": 5, "test": 5}},
        "objectives": [
            {"maximize": "accuracy", "tasks": [*tasks]},
            {"minimize": "parameters"},
        ],
        "optimizer": {"name": "nsga2", "population": POPULATION},
        "budget": {"candidates": 96},
        "evaluation": {"dtype": "float32", "batch_size": 128},
    }


def smollm2(kind: str, folder: Path) -> dict[str, Any]:
    """Two experts of 30 layers, on a handful of items."""
    return quickstart(kind, ["smol_sst2", "smol_agnews"]) | {
        "models": {
            "base": str(folder / "base"),
            "experts": {name: str(folder / name) for name in ("sst2", "agnews")},
        },
        "tasks": {"include": [str(folder / "tasks")], "use": ["smol_sst2", "smol_agnews"]},
        "fitness": {"items": {"search": LARGE_ITEMS, "validation": 5, "test": 5}},
        "optimizer": {"name": "nsga2", "population": LARGE_POPULATION},
        "evaluation": {"dtype": "bfloat16", "batch_size": 16},
    }


def space(kind: str) -> dict[str, Any]:
    """The ready space of a kind."""
    name = "task_arithmetic_by_block" if kind == "parameter" else kind
    file = ROOT / "search_spaces" / f"{name}.yaml"
    return yaml.safe_load(file.read_text(encoding="utf-8")) if file.exists() else {"kind": kind}


def experiment(plain: dict[str, Any]) -> Prepared:
    """An experiment made ready."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "experiment.yaml"
        path.write_text(yaml.safe_dump(plain, sort_keys=False))
        return prepare_file(path, offline=True)[1]


class Parts:
    """A resident model, with a scorer that shares nothing and one that shares."""

    def __init__(
        self,
        prepared: Prepared,
        merged: MergedModel,
        tokenizer: transformers.PreTrainedTokenizerBase,
    ) -> None:
        self.prepared, self.merged, self.tokenizer = prepared, merged, tokenizer
        self.whole = self.scorer(0)

    @classmethod
    def of(cls, prepared: Prepared) -> "Parts":
        """As an experiment's worker has them."""
        engine = MergeEngine(prepared.sources)
        deepest = resident_recipe(prepared.models, prepared.space)
        dtype = getattr(torch, prepared.spec.evaluation.dtype)
        model = engine.resident_model(
            deepest, dtype=dtype, share_layers=prepared.space.most_layers is not None
        )
        recipe = first_recipe(prepared.models)
        depth = ResidentDepth(model, recipe, engine.sources) if deepest.slices else None
        merged = MergedModel(engine, model, recipe, depth)
        merged.merge(recipe)
        folder = prepared.sources[prepared.models.sources[0].name].folder
        return cls(prepared, merged, transformers.AutoTokenizer.from_pretrained(folder))

    def scorer(self, prefix_bytes: int) -> ItemScorer:
        """With so many bytes for states."""
        size = self.prepared.spec.evaluation.batch_size
        settings = ScoringSettings(size, prefix_bytes=prefix_bytes)
        wanted = dict.fromkeys(self.prepared.tasks, ("accuracy",))
        tasks, model = self.prepared.tasks, self.merged.model
        return ItemScorer(tasks, model, self.tokenizer, settings, wanted)

    def begin(self, limit: int) -> None:
        """Forget what was shared; what a scorer does once, packing tried out, is done."""
        self.shared = self.scorer(limit)
        self.shared.responses(self.prepared.items["search"])


@dataclass
class Round:
    """Seconds of all candidates."""

    merging: float = 0.0
    whole: float = 0.0
    shared: float = 0.0
    layers: int = 0
    equal: bool = True


def rows(title: str, prepared: Prepared, count: int, rounds: int, limit: int) -> None:
    """Print a line for random genomes and one for those of a search."""
    for genomes in ("random", "nsga2"):
        row(title, genomes, prepared, count, rounds, limit)


def row(
    title: str, genomes: str, prepared: Prepared, count: int, rounds: int, limit: int
) -> None:
    """Print what the candidates of random genomes, or of a search, share."""
    if not count:
        return
    items = prepared.items["search"]
    parts = Parts.of(prepared)
    if genomes == "random":
        recipes = random_recipes(prepared, count)
    else:
        recipes = searched(prepared, parts, items, count)
    parts.merged.merge(recipes[0])
    parts.whole.responses(items)
    done = []
    for number in range(rounds):
        parts.begin(limit)
        done.append(replayed(parts, recipes, items, number))
    sharing = parts.shared.prefixes.statistics
    scoring = statistics.median(r.whole / r.shared for r in done)
    in_all = statistics.median((r.merging + r.whole) / (r.merging + r.shared) for r in done)
    same = "equal" if all(r.equal for r in done) else "DIFFERENT"
    print(
        f"{title:36s}{genomes:8s}{len(recipes):10d}{done[0].layers / len(recipes):8.1f}"
        f"{sharing.saved:8.1%}{scoring:9.2f}{in_all:7.2f}"
        f"{sharing.most_held / 2**20:7.1f}  {same}",
        flush=True,
    )


def random_recipes(prepared: Prepared, count: int) -> list[Recipe]:
    """Of genomes drawn uniformly."""
    rng, genes = stream(0, "benchmark", "prefixes"), prepared.space.genes
    units = (rng.random(len(genes)).tolist() for _ in range(count))
    return [prepared.space.decode(genome_from_unit(genes, unit)) for unit in units]


def searched(prepared: Prepared, parts: Parts, items: Items, count: int) -> list[Recipe]:
    """Of the genomes that NSGA-II proposes, in its order; equal recipes are asked once."""
    spec, space = prepared.spec.optimizer, prepared.space
    encoded = [space.encode(baseline.recipe) for baseline in space.baselines()]
    first = [genome for genome in encoded if genome is not None]
    problem = SearchProblem(space.genes, 2, 7, first, space.expressed)
    optimizer = make_optimizer(spec.name, spec.options, problem)
    losses: dict[str, Scored] = {}
    recipes: list[Recipe] = []
    while len(recipes) < count:
        for candidate in optimizer.ask(POPULATION):
            recipe = space.decode(candidate.genome)
            if recipe.digest not in losses:
                recipes.append(recipe)
                parts.merged.merge(recipe)
                score = accuracy(parts.whole.responses(items))
                size = parts.merged.engine.parameter_count(recipe)
                losses[recipe.digest] = Scored((-score, float(size)))
            optimizer.tell({candidate.id: losses[recipe.digest]})
    return recipes[:count]


def accuracy(responses: Responses) -> float:
    """The mean over tasks."""
    return statistics.fmean(statistics.fmean(r.values["accuracy"]) for r in responses.values())


def replayed(parts: Parts, recipes: Sequence[Recipe], items: Items, turn: int) -> Round:
    """Score the recipes in their order, each in both ways; which is first takes turns."""
    done = Round()

    def whole() -> Responses:
        return parts.whole.responses(items)

    def shared() -> Responses:
        parts.shared.prefixes.unknown()
        if parts.shared.prefixes.asks:
            made = layer_identities(recipe, parts.merged.engine.sources)
            parts.shared.prefixes.holds(made.before, made.layers)
        return parts.shared.responses(items)

    for number, recipe in enumerate(recipes):
        start = time.perf_counter()
        parts.merged.merge(recipe)
        done.merging += time.perf_counter() - start
        answers = {}
        for way in (whole, shared) if (number + turn) % 2 else (shared, whole):
            start = time.perf_counter()
            answers[way.__name__] = way()
            took = time.perf_counter() - start
            setattr(done, way.__name__, getattr(done, way.__name__) + took)
        done.equal &= answers["whole"] == answers["shared"]
        done.layers += len(parts.merged.model.get_submodule("model.layers"))
    return done


if __name__ == "__main__":
    main()
