"""Scoring time against lm-eval's own HFLM, with the differences in what they answer.

    python benchmarks/scoring.py [--model FOLDER] [--items 12] [--repeats 3]

One thread. A round asks every contender once. A time is CPU seconds of the process, the least
over the rounds, since other processes only add to it; beside the ratio of these stand the
median over the rounds and the ratio of the least wall times. HFLM is run with several batch
sizes, of which the best counts. The bar is 3.5 times HFLM with 100-token contexts and 4 choices
of several tokens, in bfloat16.
"""

import argparse
import contextlib
import logging
import os
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml

from evomerge.fitness.harness import ScoringSettings, TaskSpec, load_tasks
from evomerge.fitness.item_scorer import ItemScorer
from evomerge.fitness.quiet_libraries import quiet
from evomerge.fitness.resident_lm import ResidentLM
from evomerge.fitness.task_files import find_task_files, with_local_data

ROOT = Path(__file__).resolve().parent.parent
MODEL = Path("~/.cache/evomerge/smollm2/base").expanduser()
BATCH_SIZES = (1, 4, 16)
CHOICES = 4
LENGTHS = {"1 token": (1, 1), "2–8 tokens": (2, 8)}
QUICKSTART = ("sort", "score", "town")

Request = tuple[tuple[str, str], list[int], list[int]]
Answers = list[tuple[float, bool]]
Seconds = tuple[float, float]
"""Of CPU and of wall time."""


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", type=Path, default=MODEL, help="folder of SmolLM2-135M")
    parser.add_argument("--items", type=int, default=12, help="four-choice items a row")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    transformers.utils.logging.disable_progress_bar()
    if arguments.model.exists():
        choices(arguments.model, arguments.items, arguments.repeats)
    else:
        print(f"No model at {arguments.model}; give --model FOLDER of SmolLM2-135M.")
    quickstart(3 * arguments.repeats)


def choices(folder: Path, count: int, repeats: int) -> None:
    """Four-choice items over pieces of text, by length of context and choices."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    models = {
        dtype: transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
        for dtype in (torch.bfloat16, torch.float32)
    }
    text = tokenizer((ROOT / "LICENSE").read_text(encoding="utf-8")).input_ids
    sizes = ", ".join(map(str, BATCH_SIZES))
    print(
        f"{folder}, bfloat16, {count} items of {CHOICES} choices; HFLM: best batch of {sizes}"
    )
    print("context  choices      HFLM s/item (batch)   ours s/item   ratio   median   wall")
    for context in (30, 100, 300):
        for name, (least, most) in LENGTHS.items():
            requests = pieces(text, count, context, (least, most))
            times, _ = raced(contenders(models[torch.bfloat16], tokenizer, requests), repeats)
            best = min((n for n in times if n != "ours"), key=lambda n: min(times[n])[0])
            theirs, ours = (min(times[n])[0] / count for n in (best, "ours"))
            print(
                f"{context:7d}  {name:11s}{theirs:12.3f} ({best:2s}){ours:16.3f}"
                f"{ratios(times[best], times['ours'])}",
                flush=True,
            )
    print("\nLargest differences of log-likelihoods, and items decided alike")
    for context in (30, 100):
        agreement(models, tokenizer, pieces(text, count, context, (2, 8)), context)


def pieces(
    text: Sequence[int], count: int, context: int, choice: tuple[int, int]
) -> list[Request]:
    """Pieces of a text, each with its own continuation and pieces from elsewhere."""
    rng = random.Random(context)
    requests = []
    for _ in range(count):
        length = round(context * rng.uniform(0.8, 1.2))
        start = rng.randrange(len(text) - length - choice[1])
        asked = list(text[start : start + length])
        for k in range(CHOICES):
            size = rng.randint(*choice)
            begin = start + length if k == 0 else rng.randrange(len(text) - size)
            requests.append((("", ""), asked, list(text[begin : begin + size])))
    return requests


def contenders(
    model: transformers.PreTrainedModel,
    tokenizer: transformers.PreTrainedTokenizerBase,
    requests: list[Request],
) -> dict[str, Callable[[], Answers]]:
    """HFLM with each batch size, under that size, and ours."""

    def scorer(language_model: HFLM) -> Callable[[], Answers]:
        return lambda: language_model._loglikelihood_tokens(requests, disable_tqdm=True)

    made = {
        str(size): scorer(HFLM(pretrained=model, tokenizer=tokenizer, batch_size=size))
        for size in BATCH_SIZES
    }
    return made | {"ours": scorer(ResidentLM(model, tokenizer, ScoringSettings(16)))}


def raced(
    made: Mapping[str, Callable[[], Answers]], repeats: int
) -> tuple[dict[str, list[Seconds]], dict[str, Answers]]:
    """CPU and wall seconds of each in every round, and what each answered.

    The first round is not timed; in it our model also tries out whether it can pack.
    """
    answers = {name: run() for name, run in made.items()}
    times: dict[str, list[Seconds]] = {name: [] for name in made}
    for _ in range(repeats):
        for name, run in made.items():
            cpu, wall = time.process_time(), time.perf_counter()
            run()
            times[name].append((time.process_time() - cpu, time.perf_counter() - wall))
    return times, answers


def ratios(theirs: Sequence[Seconds], ours: Sequence[Seconds]) -> str:
    """Of the least CPU times, the median over rounds, and of the least wall times."""
    cpu, wall = (min(t[k] for t in theirs) / min(t[k] for t in ours) for k in (0, 1))
    middle = statistics.median(a[0] / b[0] for a, b in zip(theirs, ours, strict=True))
    return f"{cpu:8.2f}{middle:9.2f}{wall:7.2f}"


def agreement(
    models: Mapping[torch.dtype, transformers.PreTrainedModel],
    tokenizer: transformers.PreTrainedTokenizerBase,
    requests: list[Request],
    context: int,
) -> None:
    """Print how far answers are from HFLM's in float32."""
    answers: dict[str, Answers] = {}
    for dtype, model in models.items():
        lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4)
        resident = ResidentLM(model, tokenizer, ScoringSettings(16))
        name = str(dtype).removeprefix("torch.")
        answers[f"HFLM {name}"] = lm._loglikelihood_tokens(requests, disable_tqdm=True)
        answers[f"ours {name}"] = resident._loglikelihood_tokens(requests)
    truth = answers.pop("HFLM float32")
    for name, given in answers.items():
        apart = max(abs(a - b) for (a, _), (b, _) in zip(given, truth, strict=True))
        alike = sum(a == b for a, b in zip(decided(given), decided(truth), strict=True))
        greedy = sum(a == b for (_, a), (_, b) in zip(given, truth, strict=True))
        print(
            f"{context:4d}-token contexts: {name:14s} against HFLM float32: {apart:8.2g} nats; "
            f"{alike} of {len(truth) // CHOICES} items, {greedy} of {len(truth)} is_greedy",
            flush=True,
        )


def decided(answers: Answers) -> list[int]:
    """The likeliest choice of each item."""
    values = [value for value, _ in answers]
    groups = [values[k : k + CHOICES] for k in range(0, len(values), CHOICES)]
    return [group.index(max(group)) for group in groups]


def quickstart(repeats: int) -> None:
    """One candidate's 300 items of the quickstart: lm-eval's evaluate against ours."""
    zoo, folder = (
        ROOT / "experiments" / "quickstart" / "zoo" / "base",
        ROOT / "fitness" / "tasks",
    )
    with quiet():
        model = transformers.AutoModelForCausalLM.from_pretrained(zoo, dtype=torch.float32)
        tokenizer = transformers.AutoTokenizer.from_pretrained(zoo)
        own = HFLM(pretrained=model.eval(), tokenizer=tokenizer, batch_size=128)
        tasks = load_tasks([TaskSpec(name) for name in QUICKSTART], [folder], offline=True)
        metrics = dict.fromkeys(QUICKSTART, ("accuracy",))
        settings = ScoringSettings(batch_size=128)
        resident = ItemScorer(
            tasks, model, transformers.AutoTokenizer.from_pretrained(zoo), settings, metrics
        )
        files = find_task_files([folder])
        theirs = {}
        for name in QUICKSTART:
            config = with_local_data(load_yaml(files[name]), files[name].parent)
            theirs |= TaskManager(include_defaults=False).load([config])["tasks"]
        print(f"\n{zoo.relative_to(ROOT)}, float32, 100 test items a task, one candidate")
        print("tasks                lm_eval.evaluate s   ours s   ratio   median   wall")
        for names in ([name] for name in QUICKSTART):
            quickstart_row(names, (own, theirs), (resident, tasks), repeats)
        quickstart_row(QUICKSTART, (own, theirs), (resident, tasks), repeats)


def quickstart_row(names: Sequence[str], theirs: tuple, ours: tuple, repeats: int) -> None:
    """Print one row; the accuracies have to be equal."""
    (lm, lm_tasks), (scorer, tasks) = theirs, ours
    samples = {name: list(range(100)) for name in names}
    items = {name: tuple(tasks[name].bank.items("test")[:100]) for name in names}

    def by_lm_eval() -> list[float]:
        results = evaluate(
            lm,
            {name: lm_tasks[name] for name in names},
            samples=samples,
            bootstrap_iters=0,
            log_samples=False,
        )["results"]
        keys = {name: "exact_match,strip" if name == "sort" else "acc,none" for name in names}
        return [results[name][keys[name]] for name in names]

    def by_evomerge() -> list[float]:
        answered = scorer.responses(items)
        return [sum(answered[name].values["accuracy"]) / 100 for name in names]

    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stderr(nowhere):
        times, answers = raced({"lm_eval": by_lm_eval, "ours": by_evomerge}, repeats)
    same = "equal" if answers["lm_eval"] == answers["ours"] else f"DIFFERENT {answers}"
    print(
        f"{' + '.join(names):20s}{min(times['lm_eval'])[0]:18.3f}{min(times['ours'])[0]:11.3f}"
        f"{ratios(times['lm_eval'], times['ours'])}   accuracies {same}",
        flush=True,
    )


if __name__ == "__main__":
    main()
