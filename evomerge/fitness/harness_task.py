"""HarnessTask: one lm-eval task, seen as items that can each be asked and scored alone."""

import copy
import hashlib
import inspect
import json
import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from numbers import Real
from typing import Any, Self

import numpy as np

from evomerge.core.digest import digest
from evomerge.core.errors import ConfigError, TrialError
from evomerge.core.streams import derived_seed, stream
from evomerge.fitness.item_bank import SPLITS, ItemBank, divide, overlaps
from evomerge.fitness.label_free import CHOICE, answer_code, choice_beliefs
from evomerge.fitness.reply_values import (
    available_metrics,
    choice_values,
    correctness_metric,
    gold_choices,
)

FEWSHOT_SEED = 1234
"""Keys the few-shot examples together with task and item; fixed, so that an item's prompt is
the same in every study and its responses can be shared."""

ChatTemplate = Callable[..., str]
"""Renders a list of messages; None where prompts are plain text."""

LmEvalTask = Any
"""A ``ConfigurableTask``; lm-eval has no types, and only ``harness`` imports it."""

Instance = Any
"""An lm-eval ``Instance``: one request to a model, with room for its replies."""

Sampler = Any
"""An lm-eval ``ContextSampler``, which draws few-shot examples."""

Document = Any
"""A row of the task's data set, usually a dict."""


class HarnessTask:
    """One lm-eval task with its item bank.

    Items are numbered through the documents in lm-eval's order. Where the task has training,
    validation and test documents, these are the search, validation and test splits, in this
    order. Otherwise the documents that lm-eval would evaluate on are divided at random, .5 to
    search, .2 to validation and .3 to test.

    Few-shot examples are drawn anew for each item from a seed of its own, and never are the
    item's own document, so that an item's prompt does not depend on what else is asked.

    Args:
        task: An lm-eval ``ConfigurableTask`` with its data loaded; taken over, not copied.
        seed: Decides a random division into splits, and nothing else.
    """

    def __init__(self, task: LmEvalTask, seed: int) -> None:
        self._task = task
        self.name: str = task.config.task
        self.output_type: str = task.OUTPUT_TYPE
        self._documents = _documents_by_split(task)
        self._starts = [0, *accumulate(len(docs) for _, docs in self._documents)]
        self._read: dict[int, Document] = {}  # a data set decodes a row anew at each access
        if task.config.num_fewshot:
            task.sampler = _ExamplesOfOthers(task.sampler, self.name)
        self.bank = _bank(task, self._documents, self._starts, seed)
        self._own = {
            name: bool(task.higher_is_better().get(name, True))
            for name, aggregation in task.aggregation().items()
            if getattr(aggregation, "__name__", "") == "mean"
        }
        self.metrics: Mapping[str, bool] = available_metrics(
            self.output_type, self._own, [f["name"] for f in task.config.filter_list or []]
        )
        """Metrics with one number an item, and whether higher is better."""
        self._count_tokens: Callable[[str], int] | None = None

    def counting(self, count_tokens: Callable[[str], int]) -> Self:
        """The same task, whose values tell how many tokens a generated answer's text has."""
        task = copy.copy(self)
        task._count_tokens = count_tokens
        return task

    @property
    def num_fewshot(self) -> int:
        """Examples before each question."""
        return self._task.config.num_fewshot or 0

    def generated_tokens(self, default: int) -> int:
        """The most tokens an answer may have; 0 where nothing is generated.

        Args:
            default: Where the task does not say.
        """
        if self.output_type != "generate_until":
            return 0
        options = self._task.config.generation_kwargs
        names = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
        return int(next((options[n] for n in names if options.get(n) is not None), default))

    def origin(self, item: int) -> tuple[str, int]:
        """The data split, as lm-eval names it, and the index in it that an item comes from.

        Raises:
            ConfigError: No such item.
        """
        if not 0 <= item < self.bank.count:
            raise ConfigError(
                f"task {self.name}: no item {item}; items are 0 to {self.bank.count - 1}."
            )
        split = bisect_right(self._starts, item) - 1
        return self._documents[split][0], item - self._starts[split]

    def document(self, item: int) -> Document:
        """The document of an item, after the task's ``process_docs``."""
        if item not in self._read:
            self.origin(item)
            split = bisect_right(self._starts, item) - 1
            self._read[item] = self._documents[split][1][item - self._starts[split]]
        return self._read[item]

    def fewshot_seed(self, item: int) -> int:
        """The seed from which an item's few-shot examples are drawn."""
        return derived_seed(FEWSHOT_SEED, "fewshot", self.name, item)

    def requests(self, item: int, chat: ChatTemplate | None) -> list[Instance]:
        """The lm-eval instances whose replies score an item.

        Raises:
            ConfigError: The few-shot examples do not suffice, or an answer is empty.
        """
        task, document = self._task, self.document(item)
        task.set_fewshot_seed(self.fewshot_seed(item))
        if task.config.num_fewshot:
            task.sampler.document = document
        context = task.fewshot_context(
            document,
            num_fewshot=self.num_fewshot,
            apply_chat_template=chat is not None,
            chat_template=chat,
            gen_prefix=task.doc_to_prefix(document),
        )
        made = task.construct_requests(
            doc=document,
            ctx=context,
            metadata=(self.name, item, task.config.repeats),
            apply_chat_template=chat is not None,
            chat_template=chat,
        )
        instances = made if isinstance(made, list) else [made]
        self._refuse_empty_answers(item, instances)
        return instances

    def gold_request(self, item: int, request: Instance, chat: ChatTemplate | None) -> Instance:
        """An instance for the log-likelihood of the right answer, for a generation request.

        The answer is the first target, after the same delimiter that few-shot examples have.
        """
        task, document = self._task, self.document(item)
        target = task.doc_to_target(document)
        if task.config.doc_to_choice is not None and isinstance(target, int):
            target = task.doc_to_choice(document)[target]
        if isinstance(target, list):
            target = target[0]
        prefix = task.config.gen_prefix
        plain = chat is None or (prefix and not prefix[-1].isspace())
        answer = f"{task.config.target_delimiter if plain else ''}{target}"
        gold = replace(
            request,
            request_type="loglikelihood",
            arguments=(request.args[0], answer),
            resps=[],
            filtered_resps={},
        )
        self._refuse_empty_answers(item, [gold])
        return gold

    def values(
        self, instances: Mapping[int, Sequence[Instance]]
    ) -> dict[int, dict[str, float]]:
        """The metric values of answered items.

        Args:
            instances: By item, the instances of ``requests`` with their ``resps`` filled.

        Returns:
            By item, the task's own metrics and those that follow from the same replies.

        Raises:
            ConfigError: The task gives no value for a metric that it lists, or an item's
                label is none of its choices.
            TrialError: A value is not finite.
        """
        flat = [instance for of_item in instances.values() for instance in of_item]
        self._task._instances = flat  # what apply_filters works on
        self._task.apply_filters()
        return {item: self._values_of(item, of_item) for item, of_item in instances.items()}

    def _values_of(self, item: int, instances: Sequence[Instance]) -> dict[str, float]:
        document = self.document(item)
        values: dict[str, float] = {}
        filters = list(instances[0].filtered_resps)
        for chosen in filters:
            replies = [instance.filtered_resps[chosen] for instance in instances]
            scored = self._task.process_results(document, replies)
            for name in self._own:
                value = self._number(item, name, scored)
                values.setdefault(name, value)
                if len(filters) > 1:
                    values[f"{name},{chosen}"] = value
        correctness = correctness_metric(self._own)
        if correctness is not None:
            values["accuracy"] = values[correctness]
        return values | self._likelihood_values(item, document, instances)

    def _number(self, item: int, name: str, scored: Mapping[str, Any]) -> float:
        value = scored.get(name)
        if not isinstance(value, Real | np.bool_):
            raise ConfigError(
                f"task {self.name}, item {item}: metric {name!r} of its metric_list has no "
                f"number, process_results gave {value!r}."
            )
        number = float(value)
        if not math.isfinite(number):
            raise TrialError(f"task {self.name}, item {item}: {name} is {number}.")
        return number

    def _likelihood_values(
        self, item: int, document: Document, instances: Sequence[Instance]
    ) -> dict[str, float]:
        if self.output_type == "generate_until":
            return self._answer_values(instances[0])
        replies = [instance.resps[0] for instance in instances]
        if self.output_type == "loglikelihood_rolling":
            return {"gold_logprob": float(replies[0])}
        if self.output_type == "loglikelihood":
            return {"gold_logprob": float(replies[0][0])}
        choices = self._task.doc_to_choice(document)
        asks_text = self._task.multiple_input
        gold = (self._task.doc_to_text if asks_text else self._task.doc_to_target)(document)
        positions = gold_choices(f"task {self.name}, item {item}", gold, choices)
        likelihoods = [float(r[0]) for r in replies[: len(choices)]]
        return choice_values(likelihoods, positions) | choice_beliefs(likelihoods, choices)

    def _answer_values(self, instance: Instance) -> dict[str, float]:
        """What a generated answer is as the first filter gives it, and its length."""
        values = {CHOICE: answer_code(next(iter(instance.filtered_resps.values())))}
        if self._count_tokens is not None:
            values["output_tokens"] = float(self._count_tokens(instance.resps[0]))
        return values

    def _refuse_empty_answers(self, item: int, instances: Sequence[Instance]) -> None:
        for instance in instances:
            if instance.request_type == "loglikelihood" and not instance.args[1]:
                raise ConfigError(
                    f"task {self.name}, item {item}: an answer is empty, which has no "
                    "log-likelihood; see doc_to_choice, doc_to_target and target_delimiter."
                )


def refuse_unsupported(name: str, task: LmEvalTask) -> None:
    """Refuse tasks that cannot be scored safely and repeatably.

    Raises:
        ConfigError: The task has images or audio, runs generated code, or samples.
    """
    if getattr(task, "MULTIMODAL", False):
        raise ConfigError(f"task {name}: images and audio are not supported.")
    if getattr(task, "UNSAFE_CODE", False):
        raise ConfigError(f"task {name}: it runs code that models write (unsafe_code).")
    generation = task.config.generation_kwargs or {}
    if generation.get("do_sample") or (
        generation.get("do_sample") is None and float(generation.get("temperature", 0)) > 0
    ):
        raise ConfigError(
            f"task {name}: it samples its answers ({generation}); only greedy answers are "
            "repeatable: set generation_kwargs.do_sample to false in a copy of the task."
        )


class _ExamplesOfOthers:
    """A few-shot sampler that never shows the document that is being asked.

    lm-eval's own samplers leave it out only where examples come from the test split.
    """

    def __init__(self, sampler: Sampler, task: str) -> None:
        self._sampler = sampler
        self._task = task
        self.document: Document = None

    def set_rnd(self, seed: int) -> None:
        """Start over from a seed."""
        self._sampler.set_rnd(seed)

    @property
    def pool(self) -> list[Document]:
        """Every document that may become an example."""
        return list(self._sampler.df)

    def sample(self, n: int, eval_doc: Document = None, **_: object) -> Sequence[Document]:
        """What lm-eval would draw, unless that shows the document itself."""
        size = len(self.pool)
        if n + (eval_doc is not None) <= size:
            drawn: Sequence[Document] = self._sampler.sample(n, eval_doc=eval_doc)
            if self.document not in drawn:
                return drawn
        others: list[Document] = []
        # One more than needed suffices unless the pool holds copies of the document.
        for count in (min(n + 1, size), size):
            others = [d for d in self._sampler.sample(count) if d != self.document][:n]
            if len(others) == n:
                return others
        raise ConfigError(
            f"task {self._task}: {n} few-shot examples asked, its data have {len(others)} "
            "besides the item itself; lower num_fewshot or name a larger fewshot_split."
        )


def _documents_by_split(task: LmEvalTask) -> list[tuple[str, Sequence[Document]]]:
    config = task.config
    if task.has_training_docs() and task.has_validation_docs() and task.has_test_docs():
        return [
            (config.training_split, task.training_docs()),
            (config.validation_split, task.validation_docs()),
            (config.test_split, task.test_docs()),
        ]
    split = config.test_split if task.has_test_docs() else config.validation_split
    return [(split, task.eval_docs)]


def _bank(
    task: LmEvalTask,
    documents: Sequence[tuple[str, Sequence[Document]]],
    starts: Sequence[int],
    seed: int,
) -> ItemBank:
    name = task.config.task
    contents = [_plain_digest(doc) for _, docs in documents for doc in docs]
    if len(documents) == 1:
        splits = divide(contents, stream(seed, "splits", name))
    else:
        splits = {
            split: tuple(range(start, end))
            for split, start, end in zip(SPLITS, starts[:-1], starts[1:], strict=True)
        }
    asked: dict[str, Any] = {"config": _configuration(task), "documents": contents}
    if task.config.num_fewshot:
        asked["fewshot"] = [_plain_digest(doc) for doc in task.sampler.pool]
    return ItemBank(
        task=name,
        version=digest(asked),
        count=len(contents),
        splits=splits,
        overlap=overlaps(name, splits, contents),
    )


def _configuration(task: LmEvalTask) -> dict[str, Any]:
    """What of a task's configuration can change an answer; where its files lie cannot."""
    plain = task.dump_config()
    plain.pop("dataset_kwargs", None)
    plain["metadata"] = {
        key: value
        for key, value in (plain.get("metadata") or {}).items()
        if key != "config_source"
    }
    return dict(json.loads(json.dumps(plain, default=_source)))


def _plain_digest(document: Document) -> str:
    text = json.dumps(document, sort_keys=True, ensure_ascii=False, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _source(value: object) -> str:
    """The source text of a function named in a task file, else its name."""
    if callable(value):
        try:
            return inspect.getsource(value)
        except (TypeError, OSError):
            return getattr(value, "__qualname__", type(value).__qualname__)
    return repr(value)
