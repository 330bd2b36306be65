"""Measure the embedded quickstart models and simple merges of them in lm-eval.

The script prints the Markdown tables of the README beside it: every model and some
standard merges on the test items of every task, the best merge of a short random
search on search items, and how long scoring takes. The merges here are written out in
a few lines each, so that the numbers do not depend on evomerge's own merge code.
"""

import argparse
import contextlib
import io
import json
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

# The JSON loader must not look for anything on the network.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")

import torch
import yaml
from lm_eval.api.task import Task
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from transformers import AutoModelForCausalLM, AutoTokenizer

SKILLS = ("sort", "town", "score")
METRICS = {"sort": "exact_match,strip", "town": "acc,none", "score": "acc,none"}
# Layers 0-1, layer 2 and layers 3-4 get weights of their own, the embedding too.
GROUPS = ("embedding", "early", "middle", "late")
DENSITIES = (0.2, 0.4, 0.6, 0.8, 1.0)

Weights = dict[str, torch.Tensor]
Genes = dict[str, object]
Accuracies = dict[str, float]


class Bench:
    """The models, the tasks and one work model that holds a merge while it is scored.

    Attributes:
        base: Weights of the base model.
        deltas: For each expert, its weights minus the base's.
    """

    def __init__(self, zoo: Path, tasks: Path) -> None:
        """Load everything.

        Args:
            zoo: Folder of the model folders.
            tasks: Folder of the task folders.
        """
        tokenizer = AutoTokenizer.from_pretrained(zoo / "base")
        self.base = self._weights(zoo / "base")
        self.deltas = {}
        for skill in SKILLS:
            expert = self._weights(zoo / skill)
            self.deltas[skill] = {
                name: expert[name] - tensor for name, tensor in self.base.items()
            }
        self._model = AutoModelForCausalLM.from_pretrained(
            zoo / "base", dtype=torch.float32
        ).eval()
        self._lm = HFLM(pretrained=self._model, tokenizer=tokenizer, batch_size=128)
        self._tasks = {
            split: {skill: self._task(tasks / skill, split) for skill in SKILLS}
            for split in ("search", "test")
        }

    @staticmethod
    def _weights(folder: Path) -> Weights:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        weights = dict(model.state_dict())
        # The output matrix is tied to the embedding.
        weights.pop("lm_head.weight", None)
        return weights

    @staticmethod
    def _task(folder: Path, split: str) -> Task:
        config = yaml.safe_load((folder / f"{folder.name}.yaml").read_text("utf-8"))
        files = config["dataset_kwargs"]["data_files"]
        config["dataset_kwargs"]["data_files"] = {
            name: str((folder / file).resolve()) for name, file in files.items()
        }
        # lm-eval scores the test split; point it at the split asked for.
        config["test_split"] = split
        return TaskManager(include_defaults=False).load([config])["tasks"][folder.name]

    def _evaluate(
        self, tasks: dict[str, Task], limit: int | None
    ) -> dict[str, dict[str, float]]:
        # The progress bars of hundreds of evaluations would bury the tables.
        with contextlib.redirect_stderr(io.StringIO()):
            results = evaluate(
                self._lm,
                tasks,
                limit=limit,
                bootstrap_iters=0,
                log_samples=False,
                verbosity="ERROR",
            )
        return results["results"]

    def score(self, weights: Weights, split: str, limit: int | None = None) -> Accuracies:
        """Score weights on every task.

        Args:
            weights: The weights, without the tied output matrix.
            split: ``search`` or ``test``.
            limit: Number of items of each task; None for all.

        Returns:
            Accuracy in per cent for each task, and ``mean``.
        """
        self._model.load_state_dict(weights, strict=False)
        results = self._evaluate(self._tasks[split], limit)
        scores = {skill: 100 * results[skill][METRICS[skill]] for skill in SKILLS}
        scores["mean"] = sum(scores.values()) / len(SKILLS)
        return scores

    def time_tasks(self, limit: int) -> dict[str, float]:
        """Time the scoring of each task.

        Args:
            limit: Number of items.

        Returns:
            Processor seconds for each task, the best of three runs.
        """
        seconds = {}
        for skill in SKILLS:
            runs = []
            for _ in range(3):
                start = time.process_time()
                self._evaluate({skill: self._tasks["search"][skill]}, limit)
                runs.append(time.process_time() - start)
            seconds[skill] = min(runs)
        return seconds

    def expert(self, skill: str) -> Weights:
        """Give one expert's weights.

        Args:
            skill: The expert.

        Returns:
            The weights.
        """
        return {name: self.base[name] + d for name, d in self.deltas[skill].items()}

    def merge(
        self,
        weight_of: Callable[[str, str], float],
        *,
        scale: float = 1.0,
        densities: dict[str, float] | None = None,
        elect_signs: bool = False,
    ) -> Weights:
        """Merge the experts into the base.

        Args:
            weight_of: Weight of an expert (first argument) in a tensor (second).
            scale: Factor on the merged delta.
            densities: Share of each expert's delta kept in each tensor, the largest
                entries first; None keeps all.
            elect_signs: Whether to elect one sign for each entry, as TIES does, and
                average only the deltas that agree with it, by their weights.

        Returns:
            The merged weights.
        """
        merged = {}
        for name, tensor in self.base.items():
            weights = torch.tensor([weight_of(skill, name) for skill in SKILLS])
            weights = weights.view(-1, *([1] * tensor.dim()))
            deltas = torch.stack(
                [
                    keep_largest(
                        self.deltas[skill][name],
                        densities[skill] if densities else 1.0,
                    )
                    for skill in SKILLS
                ]
            )
            weighted = weights * deltas
            if elect_signs:
                agrees = torch.sign(weighted) == torch.sign(weighted.sum(0))
                agrees &= weighted != 0
                total = (weights * agrees).sum(0).clamp(min=1e-8)
                delta = (weighted * agrees).sum(0) / total
            else:
                delta = weighted.sum(0)
            merged[name] = tensor + scale * delta
        return merged

    def merge_genes(self, genes: Genes) -> Weights:
        """Merge by the genes of the random search.

        Args:
            genes: ``weights`` (expert, group), ``scale``, ``densities``, ``signs``.

        Returns:
            The merged weights.
        """
        return self.merge(
            lambda skill, name: genes["weights"][skill][group_of(name)],
            scale=genes["scale"],
            densities=genes["densities"],
            elect_signs=genes["signs"],
        )


def keep_largest(delta: torch.Tensor, density: float) -> torch.Tensor:
    """Zero all but the largest entries of a delta.

    Args:
        delta: The delta.
        density: Share of entries to keep.

    Returns:
        The trimmed delta.
    """
    if density >= 1:
        return delta
    kept = max(1, round(density * delta.numel()))
    order = delta.abs().flatten()
    threshold = order.kthvalue(delta.numel() - kept + 1).values
    return delta * (delta.abs() >= threshold)


def group_of(name: str) -> str:
    """Name the layer group of a tensor.

    Args:
        name: The tensor's name.

    Returns:
        One of ``GROUPS``; the final norm counts as late.
    """
    parts = name.split(".")
    if "layers" not in parts:
        return "embedding" if "embed_tokens" in parts else "late"
    layer = int(parts[parts.index("layers") + 1])
    return ("early", "early", "middle", "late", "late")[layer]


def draw_genes(rng: random.Random) -> Genes:
    """Draw random genes.

    Args:
        rng: Source of randomness.

    Returns:
        The genes.
    """
    return {
        "weights": {
            skill: {group: rng.uniform(0.0, 1.0) for group in GROUPS} for skill in SKILLS
        },
        "scale": rng.uniform(0.5, 2.0),
        "densities": {skill: rng.choice(DENSITIES) for skill in SKILLS},
        "signs": rng.random() < 0.5,
    }


def change_genes(genes: Genes, rng: random.Random) -> Genes:
    """Change genes a little.

    Args:
        genes: The genes; they stay as they are.
        rng: Source of randomness.

    Returns:
        The changed copy.
    """
    child = json.loads(json.dumps(genes))
    for weights in child["weights"].values():
        for group in GROUPS:
            if rng.random() < 0.5:
                weights[group] = min(1.2, max(0.0, weights[group] + rng.gauss(0.0, 0.15)))
    child["scale"] = min(2.0, max(0.3, child["scale"] + rng.gauss(0.0, 0.1)))
    if rng.random() < 0.3:
        child["densities"][rng.choice(SKILLS)] = rng.choice(DENSITIES)
    return child


def search(
    bench: Bench, seconds: float, limit: int, seed: int
) -> Iterator[tuple[Genes, Accuracies]]:
    """Search for good genes: 40 random ones, then changes of the best few.

    Args:
        bench: The models and tasks.
        seconds: When to stop.
        limit: Search items of each task.
        seed: Seed of the search.

    Yields:
        Genes and their accuracies on the search items.
    """
    rng = random.Random(seed)
    seen: list[tuple[float, Genes]] = []
    start = time.monotonic()
    while time.monotonic() - start < seconds:
        if len(seen) < 40 or rng.random() < 0.1:
            genes = draw_genes(rng)
        else:
            best = sorted(seen, key=lambda pair: -pair[0])[:6]
            genes = change_genes(rng.choice(best)[1], rng)
        scores = bench.score(bench.merge_genes(genes), "search", limit)
        seen.append((scores["mean"], genes))
        yield genes, scores


def row(label: str, scores: Accuracies) -> str:
    """Format a table row.

    Args:
        label: First cell.
        scores: The accuracies.

    Returns:
        The row in Markdown.
    """
    cells = [f"{scores[name]:.1f}" for name in (*SKILLS, "mean")]
    return f"| {' | '.join((label, *cells))} |"


def main() -> None:
    """Print the tables."""
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(
        description="Measure the quickstart models and simple merges of them."
    )
    parser.add_argument("--zoo", type=Path, default=here / "zoo")
    parser.add_argument("--tasks", type=Path, default=here.parents[1] / "fitness" / "tasks")
    parser.add_argument("--search-seconds", type=float, default=170.0)
    parser.add_argument("--limit", type=int, default=100, help="search items a task")
    parser.add_argument("--seed", type=int, default=1, help="seed of the search")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(arguments.zoo, arguments.tasks)

    print("| model | sort | town | score | mean |\n|---|---|---|---|---|")
    print(row("base", bench.score(bench.base, "test")))
    for skill in SKILLS:
        print(row(f"expert `{skill}`", bench.score(bench.expert(skill), "test")))
    merges = {"uniform average": bench.merge(lambda *_: 1 / len(SKILLS))}
    for weight in (0.4, 0.6, 0.8, 1.0):
        merges[f"task arithmetic {weight}"] = bench.merge(lambda *_, w=weight: w)
    for density, scale in ((0.2, 0.5), (0.2, 1.0), (0.2, 1.5), (0.6, 0.5)):
        merges[f"TIES density {density} lambda {scale:g}"] = bench.merge(
            lambda *_: 1.0,
            scale=scale,
            densities=dict.fromkeys(SKILLS, density),
            elect_signs=True,
        )
    for label, weights in merges.items():
        print(row(label, bench.score(weights, "test")), flush=True)

    seen = list(search(bench, arguments.search_seconds, arguments.limit, arguments.seed))
    if seen:
        best, _ = max(seen, key=lambda pair: pair[1]["mean"])
        scores = bench.score(bench.merge_genes(best), "test")
        print(row("best of the random search", scores))
        print(f"\n{len(seen)} merges scored; genes of the best:\n")
        print(json.dumps(best, indent=1))
        front = [
            (genes, scores)
            for genes, scores in seen
            if not any(
                all(other[skill] >= scores[skill] for skill in SKILLS) and other != scores
                for _, other in seen
            )
        ]
        print(f"\n{len(front)} merges that no other beats on the search items:\n")
        print("| sort | town | score | mean |\n|---|---|---|---|")
        for _, scores in sorted(front, key=lambda pair: -pair[1]["mean"])[:15]:
            print("|" + row("", scores).removeprefix("|  |"))
    print(f"\nprocessor seconds to score {arguments.limit} items on one thread:")
    for skill, seconds in bench.time_tasks(arguments.limit).items():
        print(f"  {skill}: {seconds:.2f}")


if __name__ == "__main__":
    main()
