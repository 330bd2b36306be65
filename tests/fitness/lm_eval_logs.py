"""Sample logs as ``lm_eval --log_samples --output_path`` writes them, made by lm-eval itself."""

import json
import logging
from pathlib import Path

import lm_eval
import yaml
from lm_eval.loggers import EvaluationTracker
from lm_eval.tasks import TaskManager

METRICS = {
    name: {"metric": name, "aggregation": "mean", "higher_is_better": True}
    for name in ("acc", "acc_norm", "acc_mutual_info", "exact_match")
}


def metric_list(*names: str) -> list[dict]:
    return [METRICS[name] for name in names]


def write_lm_eval_task(folder: Path, name: str, documents: list[dict], **config) -> None:
    """A task file whose data are found from anywhere."""
    home = folder / name
    home.mkdir(parents=True, exist_ok=True)
    data = home / "test.jsonl"
    data.write_text("\n".join(map(json.dumps, documents)), encoding="utf-8")
    plain = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "num_fewshot": 0,
        "metadata": {"version": 1},
        **config,
    }
    (home / f"{name}.yaml").write_text(yaml.safe_dump(plain), encoding="utf-8")


def log_samples(model: Path, tasks: Path, names: list[str], out: Path, **options) -> Path:
    """Run lm-eval as its command line does; returns the folder of the model's logs."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        tracker = EvaluationTracker(output_path=str(out))
        results = lm_eval.simple_evaluate(
            model="hf",
            model_args={"pretrained": str(model), "dtype": "float32"},
            tasks=names,
            task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
            batch_size=16,
            device="cpu",
            bootstrap_iters=0,
            evaluation_tracker=tracker,
            log_samples=True,
            **options,
        )
        samples = results.pop("samples")
        tracker.save_results_aggregated(results=results, samples=samples)
        for name, rows in samples.items():
            tracker.save_results_samples(task_name=name, samples=rows)
    finally:
        logger.setLevel(level)
    return out / tracker.general_config_tracker.model_name_sanitized


def the_log(folder: Path, task: str) -> Path:
    """The newest log of a task in a model's folder."""
    return max(folder.glob(f"samples_{task}_*.jsonl"))


def rows_of(log: Path) -> list[dict]:
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]


def write_rows(log: Path, rows: list[dict]) -> Path:
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return log
