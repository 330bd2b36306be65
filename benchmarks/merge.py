"""Merging time of a candidate against mergekit, and against the pace of memory.

    python benchmarks/merge.py [--models FOLDER] [--candidates 7] [--rounds 1] [--threads 2]

Three experts and a base of 135 M parameters in bfloat16. mergekit merges from its YAML to a
folder, in this process and with as many threads; what it writes goes to memory (/dev/shm) where
there is such a place, and the least of its rounds counts. evomerge overwrites a resident model,
as a search does: the first candidate, which computes what the study shares, stands apart, and
then every candidate has other genes; the median of those counts. The copy loop reads the same
sources once and writes the result once, in blocks that stay in cache, on as many threads.

Bars: 20 times mergekit for ties, dare_ties, della and breadcrumbs; linear, slerp and task
arithmetic within 1.5 times the copy loop.
"""

import argparse
import logging
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import yaml
from transformers import LlamaConfig, LlamaForCausalLM

from evomerge.core.recipe import Recipe, Rule, Source
from evomerge.merging.checkpoint import open_source
from evomerge.merging.engine import MergeEngine

MODELS = Path("~/.cache/evomerge/smollm2").expanduser()
EXPERTS = ("sst2", "agnews", "svamp")
_BLOCK = 1 << 18


@dataclass(frozen=True)
class Case:
    """An operator with the genes that a search would vary."""

    operator: str
    whole: Callable[[float], Mapping[str, Any]]
    """Parameters of the merge as a whole at a gene's value in [0, 1]."""

    models: int = 3
    weight: bool = True
    density: bool = False
    base: bool = True
    bar: str = ""
    mergekit: bool = True
    """Whether mergekit has it."""

    def rule(self, gene: float) -> Rule:
        """The rule of a candidate."""
        own: dict[str, dict[str, float]] = {}
        for number, name in enumerate(EXPERTS[: self.models]):
            weight = round(0.3 + 0.2 * gene + 0.1 * number, 4)
            own[name] = {"weight": weight} if self.weight else {}
            if self.density:
                own[name]["density"] = round(0.4 + 0.2 * gene + 0.02 * number, 4)
        return Rule(self.operator, own, self.whole(gene))


def _nothing(gene: float) -> Mapping[str, Any]:
    del gene
    return {}


def _t(gene: float) -> Mapping[str, Any]:
    return {"t": round(0.2 + 0.5 * gene, 4)}


def _lambda(gene: float) -> Mapping[str, Any]:
    return {"lambda": round(0.5 + 0.5 * gene, 4)}


CASES = (
    Case("linear", _nothing, base=False, bar="copy"),
    Case("slerp", _t, models=2, weight=False, base=False, bar="copy"),
    Case("task_arithmetic", _nothing, bar="copy"),
    Case("ties", _nothing, density=True, bar="20"),
    Case("dare_linear", _nothing, density=True),
    Case("dare_ties", _nothing, density=True, bar="20"),
    Case("della", _nothing, density=True, bar="20"),
    Case("della_linear", _nothing, density=True),
    Case("breadcrumbs", _nothing, density=True, bar="20"),
    Case("breadcrumbs_ties", _nothing, density=True, bar="20"),
    Case("nuslerp", _nothing, models=2, base=False),
    Case("multislerp", _nothing, base=False),
    Case("karcher", _nothing, weight=False, base=False),
    Case("model_stock", _nothing, weight=False),
    Case("nearswap", lambda gene: {"t": round(1e-4 + 1e-3 * gene, 6)}, models=1, weight=False),
    Case("arcee_fusion", _nothing, models=1, weight=False),
    Case("sce", _nothing, weight=False),
    Case("consensus_ta", _lambda, mergekit=False),
    Case("emr", _lambda, mergekit=False),
    Case("widen", _lambda, weight=False, mergekit=False),
    Case("pcb", _lambda, mergekit=False),
    Case("star", _lambda, mergekit=False),
    Case("tsv_m", _lambda, mergekit=False),
    Case("iso_c", _lambda, weight=False, mergekit=False),
    Case("iso_cts", _lambda, weight=False, mergekit=False),
    Case("wudi", _lambda, mergekit=False),
    Case("dc_merge", _lambda, mergekit=False),
)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", type=Path, default=MODELS, help="base and experts")
    parser.add_argument("--candidates", type=int, default=7)
    parser.add_argument("--rounds", type=int, default=1, help="merges by mergekit a row")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--operators", default="", help="only these, separated by commas")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory(dir=_memory_folder()) as scratch:
        folder = arguments.models
        if not (folder / "base").exists():
            folder = synthetic(Path(scratch) / "models")
            print(f"no models in {arguments.models}: random ones of SmolLM2-135M's shapes\n")
        only = set(filter(None, arguments.operators.split(",")))
        cases = [case for case in CASES if not only or case.operator in only]
        print(
            "| operator | first candidate, s | candidate, s | mergekit, s | mergekit / ours | "
            "copy loop, s | ours / copy | bar |\n|---|--:|--:|--:|--:|--:|--:|---|"
        )
        for case in cases:
            row(case, folder, Path(scratch) / "out", arguments)


def row(case: Case, folder: Path, out: Path, arguments: argparse.Namespace) -> None:
    """Measure one operator; contenders take turns."""
    first, ours = candidates(case, folder, arguments.candidates)
    rounds = arguments.rounds if case.mergekit else 0
    theirs = [by_mergekit(case, folder, out, arguments.threads) for _ in range(rounds)]
    names = ("base",) * case.base + EXPERTS[: case.models]
    copied = copy_loop([folder / name for name in names], arguments.threads)
    found = [seconds for seconds in theirs if seconds is not None]
    best = min(found) if found else None
    said = {"20": "≥ 20 × mergekit", "copy": "≤ 1.5 × copy"}.get(case.bar, "")
    kit = "–" if best is None else f"{best:.2f}"
    ratio = (
        "–"
        if best is None
        else f"**{best / ours:.1f}**"
        if case.bar == "20"
        else f"{best / ours:.1f}"
    )
    paced = f"**{ours / copied:.2f}**" if case.bar == "copy" else f"{ours / copied:.1f}"
    print(
        f"| {case.operator} | {first:.2f} | {ours:.3f} | {kit} | {ratio} | {copied:.3f} | "
        f"{paced} | {said} |",
        flush=True,
    )


def candidates(case: Case, folder: Path, count: int) -> tuple[float, float]:
    """Seconds of the first candidate, and the median of those after it."""
    names = ("base", *EXPERTS)
    engine = MergeEngine({name: open_source(str(folder / name)) for name in names})
    sources = tuple(Source(name, str(folder / name)) for name in names)
    model = engine.resident_model("base")
    seconds = []
    for number in range(count + 1):
        recipe = Recipe(
            sources, (case.rule(number / count),), base="base" if case.base else None
        )
        engine.forget(model)  # every tensor counts, whether or not its genes changed
        start = time.perf_counter()
        engine.apply(recipe, model)
        seconds.append(time.perf_counter() - start)
    return seconds[0], statistics.median(seconds[1:])


def by_mergekit(case: Case, folder: Path, out: Path, threads: int) -> float | None:
    """Seconds of the same merge by mergekit; None where it is not installed."""
    try:
        from mergekit.config import MergeConfiguration  # noqa: PLC0415 - optional
        from mergekit.merge import run_merge  # noqa: PLC0415 - optional
        from mergekit.options import MergeOptions  # noqa: PLC0415 - optional
    except ImportError as error:
        print(f"mergekit cannot be imported ({error})", file=sys.stderr)
        return None
    logging.getLogger("mergekit").setLevel(logging.ERROR)
    rule = case.rule(0.5)
    models = [
        {"model": str(folder / name), "parameters": dict(own)}
        for name, own in rule.models.items()
    ]
    config: dict[str, Any] = {
        "merge_method": case.operator,
        "models": models,
        "dtype": "bfloat16",
        "parameters": dict(rule.parameters),
    }
    if case.operator == "slerp":
        config["base_model"] = models[0]["model"]
    elif case.base:
        config["base_model"] = str(folder / "base")
    parsed = MergeConfiguration.model_validate(yaml.safe_load(yaml.safe_dump(config)))
    shutil.rmtree(out, ignore_errors=True)
    options = MergeOptions(copy_tokenizer=False, quiet=True, num_threads=threads)
    start = time.perf_counter()
    with open(os.devnull, "w") as quiet, redirect_stderr(quiet):  # noqa: PTH123
        run_merge(parsed, str(out), options)
    return time.perf_counter() - start


def copy_loop(folders: Sequence[Path], threads: int) -> float:
    """Least seconds in which all sources are read once and one is written."""
    opened = [open_source(str(folder)) for folder in folders]
    rows = {name: [s.read(name).view(-1) for s in opened] for name in opened[0].tensors}
    targets = {name: torch.empty_like(own[0]) for name, own in rows.items()}
    order = sorted(rows, key=lambda name: -rows[name][0].numel())

    def copy(name: str) -> None:
        own, target = rows[name], targets[name]
        buffer = torch.empty(min(_BLOCK, target.numel()), dtype=target.dtype)
        for start in range(0, target.numel(), _BLOCK):
            end = min(start + _BLOCK, target.numel())
            for source in own[:-1]:
                buffer[: end - start].copy_(source[start:end])
            target[start:end].copy_(own[-1][start:end])

    seconds = []
    pooled = torch.get_num_threads()
    torch.set_num_threads(1)
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(7):
            start = time.perf_counter()
            list(pool.map(copy, order))
            seconds.append(time.perf_counter() - start)
    torch.set_num_threads(pooled)
    return min(seconds)


def synthetic(folder: Path) -> Path:
    """A random base of SmolLM2-135M's shapes, and experts that differ a little from it."""
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    base = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for name in ("base", *EXPERTS):
        if name != "base":
            changed = {n: t + 1e-3 * torch.randn_like(t) for n, t in base.items()}
            model.load_state_dict(changed)
        model.to(torch.bfloat16).save_pretrained(folder / name)
        model.to(torch.float32)
    return folder


def _memory_folder() -> str | None:
    shared = Path("/dev/shm")
    free = shutil.disk_usage(shared).free if shared.exists() else 0
    return str(shared) if free > 3e9 else None


if __name__ == "__main__":
    main()
