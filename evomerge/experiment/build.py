"""The composition root: a prepared experiment's parts, wired together."""

import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from transformers import AutoTokenizer

from evomerge.core.digest import digest
from evomerge.core.errors import CheckpointError, ConfigError
from evomerge.core.outcomes import Genome
from evomerge.core.streams import derived_seed
from evomerge.experiment.custom_tasks import MergedModel, answer_by_kind
from evomerge.experiment.fitness import calibration, is_calibrated, random_fitness
from evomerge.experiment.neighbourhood import (
    asks_per_item,
    neighbourhood,
    stability_settings,
)
from evomerge.experiment.objectives import recipe_value, wanted_metrics
from evomerge.experiment.prepare import Prepared
from evomerge.experiment.shared_prefixes import prefix_bytes, told, told_of_nothing
from evomerge.experiment.spec import ExperimentSpec
from evomerge.experiment.varying_depth import (
    first_recipe,
    resident_entries,
    resident_recipe,
    shared_entries,
)
from evomerge.fitness.custom_function import FunctionTask
from evomerge.fitness.estimate import MeanEstimator
from evomerge.fitness.harness import HarnessTask, ScoringSettings
from evomerge.fitness.item_bank import SPLITS
from evomerge.merging.compatibility import check_finite
from evomerge.merging.engine import MergeEngine
from evomerge.merging.placement import Placement, place_sources
from evomerge.merging.resident_depth import ResidentDepth
from evomerge.merging.safetensors_header import TORCH_NAMES
from evomerge.merging.study_memory import StudyMemory
from evomerge.optimizers.contract import Optimizer
from evomerge.optimizers.registry import make_optimizer
from evomerge.optimizers.search_problem import SearchProblem
from evomerge.search.evaluate import evaluator
from evomerge.search.scoring import Scoring
from evomerge.spaces.genes import ChoiceGene, Gene
from evomerge.spaces.splits_gene import SplitsGene
from evomerge.workers.contract import Evaluation

_DTYPES = {"F64": "float32", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_RECORDED = ("torch", "transformers", "lm_eval", "numpy", "pymoo", "cma", "moocore")


def make_evaluation(prepared: Prepared) -> Evaluation:
    """Load the resident model and build the scorer; takes seconds.

    Raises:
        ConfigError: The evaluation settings do not fit the model or this machine.
    """
    # Loads all of transformers' modelling code, seconds that only who scores should wait.
    from evomerge.fitness.item_scorer import ItemScorer  # noqa: PLC0415

    device = _device(prepared.spec)
    # The same for every kind and number of workers: sums depend on how threads share them.
    threads = max(1, int(prepared.spec.workers.cpus))
    torch.set_num_threads(threads)
    placement = _placement(prepared, device)
    cache = StudyMemory(int(prepared.spec.workers.merge_cache * 2**30))
    kept, statistics = placement.kept if placement else (), prepared.spec.models.statistics
    engine = MergeEngine(prepared.sources, kept, cache, statistics)
    reference = prepared.models.sources[0].name
    recipe = first_recipe(prepared.models)
    deepest = resident_recipe(prepared.models, prepared.space)
    model = engine.resident_model(
        deepest,
        dtype=_dtype(prepared),
        device=device,
        share_layers=_shares_layers(prepared),
    )
    depth = ResidentDepth(model, recipe, engine.sources) if deepest.slices else None
    merged = MergedModel(engine, model, recipe, depth)
    # A configuration that does not fit its weights shows here, not in a trial.
    merged.merge(recipe)
    tokenizer = AutoTokenizer.from_pretrained(
        prepared.sources[reference].tokenizer_folder,
        trust_remote_code=False,
        local_files_only=True,
    )

    def count_tokens(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    tasks = prepared.tasks.items()
    scorer = ItemScorer(
        {n: task.counting(count_tokens) for n, task in tasks if isinstance(task, HarnessTask)},
        model,
        tokenizer,
        _scoring_settings(prepared),
        wanted_metrics(prepared.quantities),
    )
    answer = answer_by_kind(scorer.responses, prepared.tasks, merged, tokenizer)
    neighbours = neighbourhood(prepared, engine, model)
    merge = told(merged.merge, scorer.prefixes, engine.sources)
    return Evaluation(
        evaluator(merge, answer, neighbourhood=told_of_nothing(neighbours, scorer.prefixes)),
        scorer.settings | stability_settings(prepared) | {"threads": threads},
        (placement.described(),) if placement else (),
    )


def _scoring_settings(prepared: Prepared) -> ScoringSettings:
    spec = prepared.spec.evaluation
    return ScoringSettings(
        spec.batch_size,
        spec.apply_chat_template,
        spec.max_length,
        spec.backend,
        prefix_bytes(prepared),
    )


def check_sources_finite(prepared: Prepared) -> None:
    """Read every source once and refuse NaN and infinities.

    Raises:
        CheckpointError: Naming each tensor that is not finite.
    """
    problems = [
        f"models.{name}: {problem}"
        for name, source in prepared.sources.items()
        for problem in check_finite(source)
    ]
    if problems:
        raise CheckpointError("\n".join(problems))


def make_scoring(prepared: Prepared, settings: Mapping[str, Any]) -> Scoring:
    """How this study's responses are identified and turned into objectives."""
    spec, banks = prepared.spec, prepared.banks
    sizes = {
        name: len(bank)
        for name, bank in banks.items()
        if not prepared.tasks[name].bank.whole  # whose items are a sample of nothing
    }
    calibrated = is_calibrated(spec.fitness)
    return Scoring(
        objectives=prepared.objectives,
        estimator=MeanEstimator(sizes),
        items=prepared.items,
        versions={name: task.bank.version for name, task in prepared.tasks.items()},
        settings=digest(dict(settings)),
        finalists=spec.fitness.finalists,
        fitness=None
        if calibrated
        else random_fitness(spec, banks, MeanEstimator(sizes, cautious=True)),
        calibration=calibration(spec, banks, prepared.quantities, prepared.calibration)
        if calibrated
        else None,
        confidence=spec.fitness.confidence,
        derived=MeanEstimator(sizes),
        recipe_value=recipe_value(MergeEngine(prepared.sources)),
        constraints=prepared.constraints,
        asks=asks_per_item(prepared),
    )


def search_problem(prepared: Prepared, seed: int, initial: Sequence[Genome]) -> SearchProblem:
    """What an optimizer is given of an experiment."""
    space = prepared.space
    return SearchProblem(space.genes, len(prepared.objectives), seed, initial, space.expressed)


def make_study_optimizer(prepared: Prepared, initial: Sequence[Genome]) -> Optimizer:
    """The study's optimizer, fresh.

    Args:
        prepared: The experiment.
        initial: What it proposes first; recorded with the study, since a replay needs it.
    """
    spec = prepared.spec
    name, options = spec.optimizer.name, spec.optimizer.options
    seed = derived_seed(spec.seed, "optimizer", name)
    return make_optimizer(name, options, search_problem(prepared, seed, initial))


def study_meta(
    prepared: Prepared, settings: Mapping[str, Any], initial: Sequence[Genome]
) -> dict[str, Any]:
    """What is written once into a new study."""
    spec = prepared.spec
    return {
        "name": spec.name,
        "seed": spec.seed,
        "evomerge": importlib.metadata.version("evomerge"),
        "experiment": spec.model_dump(mode="json"),
        "objectives": [objective.to_plain() for objective in prepared.objectives],
        "constraints": [constraint.to_plain() for constraint in prepared.constraints],
        "genes": [gene_facts(gene) for gene in prepared.space.genes],
        "items": prepared.items,
        "banks": {
            name: {"version": task.bank.version}
            | {split: len(task.bank.items(split)) for split in SPLITS}
            for name, task in prepared.tasks.items()
        },
        "asks": asks_per_item(prepared),
        "calibration": calibration_digest(prepared),
        "settings": dict(settings),
        "settings_digest": digest(dict(settings)),
        "sources": {
            name: {
                "model": prepared.spec.models.all[name],
                "fingerprint": source.fingerprint,
                "statistics": statistics_of(prepared, name),
                "parameters": sum(info.entries for info in source.tensors.values()),
            }
            for name, source in prepared.sources.items()
        },
        "budget": spec.budget.model_dump(mode="json"),
        "initial": [dict(genome) for genome in initial],
        "state": "running",
    }


def statistics_of(prepared: Prepared, name: str) -> str | None:
    """Identity of the statistics of a source; None where the search needs none."""
    found = {source.name: source.statistics_fingerprint for source in prepared.models.sources}
    return found[name]


def calibration_digest(prepared: Prepared) -> str:
    """Digest of the calibration file's content; empty without one."""
    if prepared.calibration is None:
        return ""
    content = [
        [task, metric, matrix.models, matrix.items, matrix.values.tobytes().hex()]
        for (task, metric), matrix in prepared.calibration.matrices.items()
    ]
    return digest(content)


def gene_facts(gene: Gene) -> dict[str, Any]:
    """A gene as plain JSON."""
    if isinstance(gene, ChoiceGene):
        return {"name": gene.name, "kind": "choice", "options": list(gene.options)}
    if isinstance(gene, SplitsGene):
        return {"name": gene.name, "kind": "splits", "options": list(gene.seeds)}
    kind = type(gene).__name__.removesuffix("Gene").lower()
    return {"kind": kind, **asdict(gene)}  # type: ignore[call-overload]


def versions() -> dict[str, str]:
    """Versions of everything that can change a result."""
    found = {"python": platform.python_version()}
    for package in ("evomerge", *_RECORDED):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _dtype(prepared: Prepared) -> torch.dtype:
    asked = prepared.spec.evaluation.dtype
    if asked == "auto":
        on_cpu = torch.device(prepared.spec.device).type == "cpu"
        reference = prepared.sources[prepared.models.sources[0].name]
        stored = [info.dtype for info in reference.tensors.values()]
        asked_name = _DTYPES.get(max(dict.fromkeys(stored), key=stored.count), "float32")
        if asked_name == "float16" and on_cpu:
            asked_name = "float32"  # which a CPU computes faster
    else:
        asked_name = asked
    dtype: torch.dtype = getattr(torch, asked_name)
    return dtype


def _placement(prepared: Prepared, device: torch.device) -> Placement | None:
    """What a worker's GPU holds; None on a CPU, which maps the sources."""
    if device.type != "cuda":
        return None
    gpus = prepared.spec.workers.gpus
    free, total = torch.cuda.mem_get_info(device)
    share = int(total * gpus) if 0 < gpus < 1 else total
    torch.cuda.set_per_process_memory_fraction(share / total, device)
    stored = {name: source.size for name, source in prepared.sources.items()}
    deepest = resident_recipe(prepared.models, prepared.space)
    sources, dtype, states = prepared.sources, _dtype(prepared), prefix_bytes(prepared)
    shares = _shares_layers(prepared)
    entries = resident_entries(deepest, sources, prepared.space if shares else None)
    placed = place_sources(stored, entries * dtype.itemsize, free, share, states)
    stored_as = {i.dtype for source in sources.values() for i in source.tensors.values()}
    dtypes = {TORCH_NAMES.get(name) for name in stored_as} | {prepared.models.dtype}
    if shares and (placed.streamed or dtypes - {None} != {str(dtype).removeprefix("torch.")}):
        entries += shared_entries(deepest, sources)
        placed = place_sources(stored, entries * dtype.itemsize, free, share, states)
    return placed


def _shares_layers(prepared: Prepared) -> bool:
    """Whether layers that candidates take whole need no copies.

    A user's function may write into weights, which must then be nobody else's.
    """
    functions = any(isinstance(task, FunctionTask) for task in prepared.tasks.values())
    return prepared.space.most_layers is not None and not functions


def _device(spec: ExperimentSpec) -> torch.device:
    try:
        device = torch.device(spec.device)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"evaluation.device: {spec.device!r} cannot be used here: "
            f"{str(error).splitlines()[0]}; use cpu."
        ) from error
    return device
