"""ItemScorer: puts items of lm-eval tasks to one model in memory and scores its answers."""

import importlib.metadata
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformers

from evomerge.core.digest import canonical_json
from evomerge.core.errors import ConfigError, TrialError
from evomerge.core.near_names import unknown
from evomerge.core.responses import ItemResponses, Items, Responses
from evomerge.fitness.global_generators import untouched_generators
from evomerge.fitness.harness_task import ChatTemplate, HarnessTask, Instance
from evomerge.fitness.prefix_forward import PrefixForward
from evomerge.fitness.quiet_libraries import quiet
from evomerge.fitness.resident_lm import ResidentLM
from evomerge.fitness.scoring_settings import ScoringSettings
from evomerge.fitness.tokenizer_identity import tokenizer_digest
from evomerge.fitness.vllm_lm import VllmLM


@dataclass(frozen=True)
class _Question:
    """An item's requests, built once and asked of every candidate."""

    scored: list[Instance]
    gold: Instance | None


class ItemScorer:
    """Puts items to one model in memory and scores its answers.

    The model stays resident: its weights may be changed in place between calls. Global random
    generators are left as they were.

    Args:
        tasks: From ``load_tasks``.
        model: A transformers causal language model, on the device where it is to run.
        tokenizer: Its tokenizer; not modified.
        settings: How questions are put.
        metrics: Wanted metrics by task; None wants all. It decides whether generation tasks
            are also asked for ``gold_logprob``, which costs a forward pass an item; every
            other metric comes for free and is always returned.

    Raises:
        ConfigError: The settings do not fit the model, its tokenizer or a task.
    """

    def __init__(
        self,
        tasks: Mapping[str, HarnessTask],
        model: transformers.PreTrainedModel,
        tokenizer: transformers.PreTrainedTokenizerBase,
        settings: ScoringSettings = ScoringSettings(),  # noqa: B008 - a frozen value
        metrics: Mapping[str, Collection[str]] | None = None,
    ) -> None:
        if not isinstance(settings.batch_size, int) or settings.batch_size < 1:
            raise ConfigError(f"batch_size must be 1 or more, got {settings.batch_size!r}.")
        if settings.apply_chat_template and not tokenizer.chat_template:
            raise ConfigError("apply_chat_template: the tokenizer has no chat template.")
        self._tasks = tasks
        self._tokenizer_digest = tokenizer_digest(tokenizer)
        with untouched_generators(), quiet():
            kind = VllmLM if settings.backend == "vllm" else ResidentLM
            self._model: ResidentLM = kind(model, tokenizer, settings)
        self._chat: ChatTemplate | None = (
            self._model.apply_chat_template if settings.apply_chat_template else None
        )
        self._asks_gold = {
            name
            for name, task in tasks.items()
            if task.output_type == "generate_until"
            and (metrics is None or "gold_logprob" in metrics.get(name, ()))
        }
        self._questions: dict[tuple[str, int], _Question] = {}
        self._refuse_long_generations()

    @property
    def settings(self) -> dict[str, Any]:
        """What besides weights, tasks and items can change an answer, as plain JSON."""
        return {
            "backend": self._model.engine_name,
            "lm_eval": importlib.metadata.version("lm_eval"),
            "transformers": transformers.__version__,
            "torch": str(torch.__version__),
            "dtype": str(self._model.model.dtype).removeprefix("torch."),
            "log_softmax": "float32",
            "device": self._model.device.type,
            "batch_size": self._model.batch_size,
            "max_length": self._model.max_length,
            "apply_chat_template": self._chat is not None,
            "tokenizer": self._tokenizer_digest,
            "num_fewshot": {name: task.num_fewshot for name, task in self._tasks.items()},
        }

    def responses(self, items: Items) -> Responses:
        """The model's responses to some items.

        Args:
            items: Items by task; answers do not depend on which are asked together, up to
                rounding in the last digits of log-likelihoods.

        Raises:
            ConfigError: A task or item does not exist.
            TrialError: A log-likelihood or score is not finite.
        """
        for name in items:
            if name not in self._tasks:
                raise ConfigError(unknown("task", name, self._tasks))
        with untouched_generators(), quiet():
            asked = {
                name: {item: self._question(name, item) for item in chosen}
                for name, chosen in items.items()
            }
            truncated = self._ask([q for of_task in asked.values() for q in of_task.values()])
            return {name: self._scored(name, q, truncated) for name, q in asked.items()}

    @property
    def prefixes(self) -> PrefixForward:
        """To be told what layers the model has; only then those in common are shared."""
        return self._model.prefixes

    def _refuse_long_generations(self) -> None:
        limit = self._model.max_length
        for name, task in self._tasks.items():
            wanted = task.generated_tokens(default=self._model.max_gen_toks)
            if wanted >= limit:
                raise ConfigError(
                    f"task {name}: answers of up to {wanted} tokens (max_gen_toks) leave no "
                    f"room for a prompt; prompt and answer have {limit} tokens (max_length)."
                )

    def _question(self, name: str, item: int) -> _Question:
        if (name, item) not in self._questions:
            task = self._tasks[name]
            scored = task.requests(item, self._chat)
            gold = (
                task.gold_request(item, scored[0], self._chat)
                if name in self._asks_gold
                else None
            )
            self._questions[name, item] = _Question(scored, gold)
        return self._questions[name, item]

    def _ask(self, questions: Sequence[_Question]) -> dict[int, bool]:
        """Fill in the replies; returns which generations were cut off, by instance identity."""
        groups: dict[str, list[Instance]] = {}
        for question in questions:
            for instance in [*question.scored, *([question.gold] if question.gold else [])]:
                kind = instance.request_type
                if kind == "generate_until":
                    kind += canonical_json(instance.args[1])
                groups.setdefault(kind, []).append(instance)
        truncated = {}
        for instances in groups.values():
            self._model.truncated.clear()
            self._model.not_numbers.clear()
            ask = getattr(self._model, instances[0].request_type)
            for instance, reply in zip(
                instances, ask(instances, disable_tqdm=True), strict=True
            ):
                self._refuse_nan(instance, reply)
                # Greedy answers repeat themselves, so that one stands for all repeats.
                instance.resps = [reply] * max(1, instance.repeats)
                if isinstance(reply, str):
                    truncated[id(instance)] = self._model.truncated[instance.args[0]]
        return truncated

    def _refuse_nan(self, instance: Instance, reply: str | float | tuple[float, bool]) -> None:
        if isinstance(reply, str):
            finite, what = instance.args[0] not in self._model.not_numbers, "a generated score"
        else:
            value = reply[0] if isinstance(reply, tuple) else reply
            finite, what = math.isfinite(value), "gold_logprob, or that of another answer,"
        if not finite:
            raise TrialError(
                f"task {instance.task_name}, item {instance.doc_id}: {what} is not a finite "
                "number; the merged model's outputs are broken."
            )

    def _scored(
        self, name: str, questions: Mapping[int, _Question], truncated: Mapping[int, bool]
    ) -> ItemResponses:
        if not questions:
            return ItemResponses((), {})
        values = self._tasks[name].values({i: q.scored for i, q in questions.items()})
        for item, question in questions.items():
            if id(question.scored[0]) in truncated:
                values[item]["truncated"] = float(truncated[id(question.scored[0])])
            if question.gold is not None:
                values[item]["gold_logprob"] = float(question.gold.resps[0][0])
        metrics = list(next(iter(values.values())))
        return ItemResponses(
            tuple(values), {m: tuple(v[m] for v in values.values()) for m in metrics}
        )
