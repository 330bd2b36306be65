"""The lm-eval adapter: its tasks as item banks, its language model as a scorer of items.

Only lm-eval's task and model classes are used. Its ``simple_evaluate`` re-seeds the global
random generators, and its response cache is not keyed by the model's weights.
"""

import copy
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import jinja2
import lm_eval
import torch
import transformers
import yaml
from lm_eval.api.task import ConfigurableTask
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml

from evomerge.core.digest import canonical_json
from evomerge.core.errors import ConfigError, TrialError
from evomerge.core.near_names import unknown
from evomerge.core.responses import ItemResponses, Items, Responses
from evomerge.fitness.generation_watch import RowsEnded, ScoresAreNumbers
from evomerge.fitness.global_generators import untouched_generators
from evomerge.fitness.harness_task import (
    ChatTemplate,
    HarnessTask,
    Instance,
    refuse_unsupported,
)
from evomerge.fitness.quiet_libraries import hub_access, quiet
from evomerge.fitness.scoring_settings import ScoringSettings, TaskSpec
from evomerge.fitness.task_files import find_task_files, with_local_data
from evomerge.fitness.tokenizer_identity import tokenizer_digest

__all__ = ["HarnessTask", "ItemScorer", "ScoringSettings", "TaskSpec", "load_tasks"]


_LOADING_ERRORS = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    ImportError,
    datasets.exceptions.DatasetsError,
    jinja2.TemplateError,
    yaml.YAMLError,
)
"""What a task file that is wrong, or whose data are not there, has been seen to raise."""


def load_tasks(
    use: Sequence[TaskSpec],
    include: Sequence[Path] = (),
    seed: int = 0,
    *,
    offline: bool = False,
) -> dict[str, HarnessTask]:
    """Load lm-eval tasks and their data.

    A name is looked up in the ``include`` folders first. Only if a name is not there are
    lm-eval's built-in tasks indexed, which takes seconds.

    Args:
        use: Tasks, in the order of the result.
        include: Folders of task YAMLs; relative data files are looked for beside the YAML.
        seed: Decides the splits of tasks that bring none of their own.
        offline: Ask no hub for anything.

    Raises:
        ConfigError: A task is unknown, cannot be loaded, or is of a kind that is not
            supported; every such problem is listed.
    """
    files = find_task_files(include)
    problems: list[str] = []
    tasks: dict[str, HarnessTask] = {}
    with untouched_generators(), quiet(), hub_access(allowed=not offline):
        built_in = TaskManager() if any(spec.name not in files for spec in use) else None
        for spec in use:
            try:
                task = _built(spec.name, files, built_in)
                _use_fewshot(task, spec.num_fewshot)
                tasks[spec.name] = HarnessTask(task, seed)
            except ConfigError as error:
                problems += error.problems
            except _LOADING_ERRORS as error:
                problems.append(
                    f"task {spec.name} cannot be loaded: {type(error).__name__}: {error}"
                )
    if problems:
        raise ConfigError(problems)
    return tasks


def _built(
    name: str, files: Mapping[str, Path], built_in: TaskManager | None
) -> ConfigurableTask:
    if name in files:
        config = with_local_data(load_yaml(files[name]), files[name].parent)
        loaded = TaskManager(include_defaults=False).load([config])["tasks"]
    elif built_in is None or name not in built_in.all_tasks:
        known = [*files, *(built_in.all_tasks if built_in else [])]
        listed = [*files, "and lm-eval's own"] if built_in else None
        raise ConfigError(unknown("task", name, known, listed))
    elif name not in built_in.all_subtasks:
        raise ConfigError(
            f"task {name!r} is a group or tag of lm-eval; name its tasks one by one "
            f"(lm-eval ls tasks lists them)."
        )
    else:
        loaded = built_in.load([name])["tasks"]
    task = loaded[name]
    if not isinstance(task, ConfigurableTask):
        raise ConfigError(f"task {name}: {type(task).__name__} is not a ConfigurableTask.")
    refuse_unsupported(name, task)
    return task


def _use_fewshot(task: ConfigurableTask, asked: int | None) -> None:
    own = task.config.num_fewshot or 0
    task.set_config("num_fewshot", own if asked is None else asked)


class _ResidentModel(HFLM):  # type: ignore[misc]
    """lm-eval's model around a transformers model whose weights change between calls.

    Tokens are kept, since the same questions are asked of every candidate. What a generation
    tells beyond its text is kept until the next call.
    """

    def __init__(
        self,
        model: transformers.PreTrainedModel,
        tokenizer: transformers.PreTrainedTokenizerBase,
        settings: ScoringSettings,
    ) -> None:
        super().__init__(
            pretrained=model,
            # lm-eval adds a padding token; the caller's tokenizer stays as it is.
            tokenizer=copy.deepcopy(tokenizer),
            batch_size=settings.batch_size,
            max_length=settings.max_length,
        )
        self.truncated: dict[str, bool] = {}
        self.not_numbers: set[str] = set()
        self._pairs: dict[tuple[str, str], tuple[list[int], list[int]]] = {}
        self._contexts: list[str] = []

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        pair = (context, continuation)
        if pair not in self._pairs:
            self._pairs[pair] = super()._encode_pair(context, continuation)
        if not self._pairs[pair][1]:
            raise ConfigError(
                f"the answer {continuation!r} adds no token to a prompt that ends in "
                f"{context[-20:]!r}; see target_delimiter in the task's YAML, and the end of "
                "the chat template where one is applied."
            )
        return self._pairs[pair]

    def _loglikelihood_tokens(
        self,
        requests: list[tuple[tuple[str, str], list[int], list[int]]],
        disable_tqdm: bool = True,  # noqa: ARG002, FBT001, FBT002 - lm-eval's signature
        override_bs: int | None = None,
    ) -> list[tuple[float, bool]]:
        # The rolling log-likelihood insists on a progress bar.
        answers: list[tuple[float, bool]] = super()._loglikelihood_tokens(
            requests, disable_tqdm=True, override_bs=override_bs
        )
        return answers

    def tok_batch_encode(
        self,
        strings: Sequence[str],
        *args: object,
        **kwargs: object,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self._contexts = list(strings)
        encoded: tuple[torch.Tensor, torch.Tensor] = super().tok_batch_encode(
            self._contexts, *args, **kwargs
        )
        return encoded

    def _model_generate(
        self,
        context: torch.Tensor,
        max_length: int,
        stop: list[str],
        **options: object,
    ) -> torch.Tensor:
        options.pop("temperature", None)
        own_ends = self.model.generation_config.eos_token_id
        ends = own_ends if isinstance(own_ends, list) else [own_ends]
        end_tokens = sorted({e for e in [*ends, self.eot_token_id] if e is not None})
        watch = RowsEnded(self.tokenizer, stop, end_tokens, context.shape[1])
        numbers = ScoresAreNumbers()
        made: torch.Tensor = self.model.generate(
            input_ids=context,
            max_length=max_length,
            stopping_criteria=transformers.StoppingCriteriaList([watch]),
            logits_processor=transformers.LogitsProcessorList([numbers]),
            pad_token_id=self.tokenizer.pad_token_id,
            use_cache=True,
            **options,
        )
        self.truncated.update(zip(self._contexts, watch.truncated(), strict=True))
        nan_rows = zip(self._contexts, numbers.nan_rows(), strict=True)
        self.not_numbers.update(text for text, is_nan in nan_rows if is_nan)
        return made


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
            self._model = _ResidentModel(model, tokenizer, settings)
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
            "lm_eval": lm_eval.__version__,
            "transformers": transformers.__version__,
            "torch": str(torch.__version__),
            "dtype": str(self._model.model.dtype).removeprefix("torch."),
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
