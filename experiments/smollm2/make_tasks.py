"""Writes the three lm-eval tasks of the SmolLM2 experiment, outside the checkout.

    python experiments/smollm2/make_tasks.py --data DATA --out ~/.cache/evomerge/smollm2

gives ``OUT/tasks/smol_sst2/smol_sst2.yaml`` with ``search.jsonl``, ``validation.jsonl``
and ``test.jsonl`` beside it, and the same for ``smol_agnews`` and ``smol_svamp``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import yaml
from experts import EXPERTS
from items import Item
from paths import DEFAULT_OUT, outside_checkout

SPLITS = ("search", "validation", "test")


def definition(task: str) -> dict[str, object]:
    """The lm-eval YAML of a task; data file names are relative to the YAML's folder."""
    metrics = [
        {"metric": name, "aggregation": "mean", "higher_is_better": True}
        for name in ("acc", "acc_norm")
    ]
    return {
        "task": task,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {split: f"{split}.jsonl" for split in SPLITS}},
        "training_split": "search",
        "validation_split": "validation",
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{context}}",
        "doc_to_choice": "choices",
        "doc_to_target": "label",
        "target_delimiter": " ",
        "metric_list": metrics,
        "metadata": {"version": 1.0},
    }


def write_items(file: Path, items: Sequence[Item]) -> None:
    """Write one JSON object a line."""
    rows = (
        {"id": i.id, "context": i.context, "choices": list(i.choices), "label": i.label}
        for i in items
    )
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    file.write_text("".join(lines), encoding="utf-8")


def main() -> None:
    """Write the tasks."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="has sst2/, ag_news/, …")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT)
    args = parser.parse_args()
    out = outside_checkout(args.out)
    for expert in EXPERTS.values():
        folder = out / "tasks" / expert.task
        folder.mkdir(parents=True, exist_ok=True)
        splits = expert.splits(args.data)
        for name in SPLITS:
            write_items(folder / f"{name}.jsonl", getattr(splits, name))
        text = yaml.safe_dump(definition(expert.task), sort_keys=False)
        (folder / f"{expert.task}.yaml").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
