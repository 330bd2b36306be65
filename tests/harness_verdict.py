"""What lm-eval itself says of an exported model, beside what its study has recorded."""

from pathlib import Path

import lm_eval
import numpy as np
import torch
import yaml
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from quickstart import TASKS
from transformers import AutoModelForCausalLM, AutoTokenizer

from evomerge.experiment.study import Study
from evomerge.fitness.task_files import with_local_data
from evomerge.store.study_store import StudyStore


def harness_scores(folder: Path, study: Study, split: str) -> dict[str, float]:
    """What lm-eval itself reports for a model folder on a study's items."""
    with StudyStore.open(study.path, read_only=True) as store:
        items = store.meta("items")[split]
        banks = store.meta("banks")
    tasks = []
    for name in ("sort", "town"):
        config = yaml.safe_load((TASKS / name / f"{name}.yaml").read_text())
        config = with_local_data(config, TASKS / name)
        if split == "search":  # lm-eval scores the test split; let it score this one
            config["test_split"] = "search"
        tasks.append(TaskManager(include_defaults=False).load([config])["tasks"][name])
    first = {
        name: {"search": 0, "test": banks[name]["search"] + banks[name]["validation"]}[split]
        for name in ("sort", "town")
    }
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    results = lm_eval.simple_evaluate(
        model=HFLM(
            pretrained=model, tokenizer=AutoTokenizer.from_pretrained(folder), batch_size=64
        ),
        tasks=tasks,
        samples={name: [item - first[name] for item in items[name]] for name in items},
        bootstrap_iters=0,
        random_seed=None,
        numpy_random_seed=None,
        torch_random_seed=None,
    )["results"]
    return {"sort": results["sort"]["exact_match,strip"], "town": results["town"]["acc,none"]}


def recorded_scores(study: Study, number: int, split: str) -> dict[str, float]:
    """Mean accuracy of a trial's recorded answers to a split's items, by task."""
    with StudyStore.open(study.path, read_only=True) as store:
        items = store.meta("items")[split]
        versions = {n: b["version"] for n, b in store.meta("banks").items()}
        known = store.responses(
            store.trial(number).recipe.digest, store.meta("settings_digest"), versions
        )
    return {
        name: float(np.mean(known[name].only(chosen).values["accuracy"]))
        for name, chosen in items.items()
    }
