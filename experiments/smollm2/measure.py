"""Scores the base and the experts on every task with lm-eval, without evomerge.

    python experiments/smollm2/measure.py --out ~/.cache/evomerge/smollm2

writes ``OUT/measured.json``: for each model and task the accuracy on the test items
with its standard error, as lm-eval's own Hugging Face model gives them in bf16.
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path

import torch
import yaml
from experts import EXPERTS
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from paths import DEFAULT_OUT

METRICS = ("acc", "acc_stderr", "acc_norm", "acc_norm_stderr")

log = logging.getLogger(__name__)


def task_definition(file: Path) -> dict[str, object]:
    """Read a task's YAML with its data files as full paths, as lm-eval needs them."""
    definition = yaml.safe_load(file.read_text(encoding="utf-8"))
    named = definition["dataset_kwargs"]["data_files"]
    full = {split: str(file.parent / name) for split, name in named.items()}
    definition["dataset_kwargs"]["data_files"] = full
    return definition


def measure(model: Path, tasks: Path, batch: int) -> dict[str, dict[str, float]]:
    """Score one model folder on the test items of every task below a folder."""
    results = simple_evaluate(
        model=HFLM(pretrained=str(model), device="cpu", dtype="bfloat16", batch_size=batch),
        tasks=[task_definition(file) for file in sorted(tasks.glob("*/*.yaml"))],
        log_samples=False,
        bootstrap_iters=1,
    )["results"]
    return {
        task: {name: round(values[f"{name},none"], 4) for name in METRICS}
        for task, values in results.items()
    }


def main() -> None:
    """Score the models asked for and add them to ``measured.json``."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT)
    parser.add_argument("--model", choices=["base", *EXPERTS], action="append")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(args.threads)
    out = args.out.expanduser()
    file = out / "measured.json"
    table = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    for name in args.model or ["base", *EXPERTS]:
        table[name] = measure(out / name, out / "tasks", args.batch)
        log.info("%s: %s", name, table[name])
        file.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
