"""lm-eval's language model around a transformers model that stays in memory.

The answers are lm-eval's; how they are computed is not. Continuations of one context share
their forward pass (``packed_choices``) where the model can take that, which is tried out on
the first real questions. What cannot be packed goes through lm-eval's own code.
"""

import copy
import logging
from collections.abc import Sequence
from itertools import islice
from typing import Any

import torch
import transformers
from lm_eval.models.huggingface import HFLM

from evomerge.core.errors import ConfigError
from evomerge.fitness.generation_watch import RowsEnded, ScoresAreNumbers, StopTexts
from evomerge.fitness.packed_choices import (
    LogLikelihood,
    PackedChoices,
    PackedItem,
    Tokens,
    packed_items,
    why_not,
)
from evomerge.fitness.packing_check import disagreement, probes
from evomerge.fitness.prefix_forward import PrefixForward
from evomerge.fitness.scoring_settings import ScoringSettings

Request = tuple[tuple[str, str] | None, list[int], list[int]]
"""lm-eval's tokenised request: its texts, the context's tokens, the continuation's."""

_UNABLE = (RuntimeError, ValueError, TypeError, LookupError, AttributeError)
"""What a model raises that was not written for a mask of its own for each row."""

_TEXTS_KEPT = 4096
"""With their tokens; prompts of generation tasks are tokenised for every candidate."""

log = logging.getLogger(__name__)


class ResidentLM(HFLM):  # type: ignore[misc]
    """lm-eval's model around a transformers model whose weights change between calls.

    Tokens and rows are kept, since the same questions are asked of every candidate. What a
    generation tells beyond its text is kept until the next call.

    Args:
        model: A causal language model, on the device where it is to run.
        tokenizer: Its tokenizer; not modified.
        settings: How questions are put.
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
            # As packed rows are; log-probabilities in bfloat16 have two or three digits.
            softmax_dtype=torch.float32,
        )
        self.truncated: dict[str, bool] = {}
        self.not_numbers: set[str] = set()
        self._pairs: dict[tuple[str, str], tuple[list[int], list[int]]] = {}
        self._texts: dict[str, list[int]] = {}
        self._contexts: list[str] = []
        self._stops: dict[tuple[str, ...], StopTexts] = {}
        self.prefixes = PrefixForward(model, settings.prefix_bytes)
        """Told what layers the model has, it runs those once that candidates share."""
        self._packed = PackedChoices(model, settings.batch_size, self.prefixes.logits)
        self._uncut: int = self.max_length + 1  # the last token is not read
        self._items: dict[tuple[Tokens, tuple[Tokens, ...]], list[PackedItem]] = {}
        self._packs: bool | None = None

    @property
    def engine_name(self) -> str:
        """What computes the answers."""
        return "transformers"

    @property
    def packs(self) -> bool | None:
        """Whether continuations of a context share a row; None until that has been tried."""
        return self._packs

    def tok_encode(self, string: str, *args: Any, **kwargs: Any) -> list[int]:  # noqa: ANN401
        """Tokens of a text; those of the texts last asked for are known."""
        if args or kwargs:
            tokens: list[int] = super().tok_encode(string, *args, **kwargs)
            return tokens
        if string not in self._texts:
            if len(self._texts) >= _TEXTS_KEPT:
                self._texts.clear()
            self._texts[string] = super().tok_encode(string)
        return self._texts[string]

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
        requests: list[Request],
        disable_tqdm: bool = True,  # noqa: ARG002, FBT001, FBT002 - lm-eval's signature
        override_bs: int | None = None,
    ) -> list[LogLikelihood]:
        asked = self._asked(requests)
        packed = [(item, numbers) for item, numbers in asked if self._fits(item)]
        if self._packs is None and packed:
            with self.prefixes.unshared():
                self._try_packing([item for item, _ in packed])
        answers: dict[int, LogLikelihood] = {}
        if self._packs:
            replies = self._packed.loglikelihoods([item for item, _ in packed])
            for (_, numbers), of_item in zip(packed, replies, strict=True):
                answers.update(zip(numbers, of_item, strict=True))
        rest = [number for number in range(len(requests)) if number not in answers]
        plain = self._plain([requests[number] for number in rest], override_bs)
        answers.update(zip(rest, plain, strict=True))
        return [answers[number] for number in range(len(requests))]

    def _asked(self, requests: Sequence[Request]) -> list[tuple[PackedItem, list[int]]]:
        """Items, each with the numbers of the requests that are its continuations."""
        groups: dict[Tokens, list[int]] = {}
        for number, (_, context, _) in enumerate(requests):
            groups.setdefault(tuple(context), []).append(number)
        asked = []
        for tokens, numbers in groups.items():
            left = iter(numbers)
            for item in self._rows(tokens, tuple(tuple(requests[k][2]) for k in numbers)):
                asked.append((item, [*islice(left, len(item.continuations))]))
        return asked

    def _rows(self, context: Tokens, continuations: tuple[Tokens, ...]) -> list[PackedItem]:
        key = (context, continuations)
        if key not in self._items:
            longest = self._packed.longest_row
            self._items[key] = packed_items(context, continuations, longest)
        return self._items[key]

    def _fits(self, item: PackedItem) -> bool:
        """Whether nothing of an item is cut off or out of some layer's sight."""
        tokens = len(item.context) + max(map(len, item.continuations))
        return item.columns <= self._packed.longest_row and tokens <= self._uncut

    def _plain(self, requests: list[Request], rows: int | None = None) -> list[LogLikelihood]:
        if not requests:
            return []
        # The rolling log-likelihood insists on a progress bar.
        answers: list[LogLikelihood] = super()._loglikelihood_tokens(
            requests, disable_tqdm=True, override_bs=rows
        )
        return answers

    def _model_call(
        self,
        inps: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
    ) -> torch.Tensor:
        if attn_mask is None and labels is None and self.mixed_precision_dtype is None:
            return self.prefixes.logits(input_ids=inps)
        logits: torch.Tensor = super()._model_call(inps, attn_mask, labels)
        return logits

    def _try_packing(self, items: Sequence[PackedItem]) -> None:
        """Compare packed and plain answers to made items, and decide for good if possible."""
        reason = why_not(self.model)
        if reason is not None:
            self._refuse_packing(reason)
            return
        groups = {item.context: item.continuations for item in items}
        made = probes(groups, min(self._packed.longest_row, self._uncut))
        if not made:
            return
        plain = [
            [value for value, _ in self._plain(_requests(item), len(item.continuations))]
            for item in made
        ]
        try:
            packed = [
                [value for value, _ in replies] for replies in self._packed.loglikelihoods(made)
            ]
        except torch.OutOfMemoryError:
            raise
        except _UNABLE as error:
            self._refuse_packing(f"{type(error).__name__}: {error}")
            return
        ratio = disagreement(packed, plain, self.model.dtype)
        if ratio is not None and not ratio <= 1:
            self._refuse_packing(
                f"packed and separate log-likelihoods differ by {ratio:.3g} times what "
                "rounding explains"
            )
        elif ratio is not None:
            self._packs = True

    def _refuse_packing(self, reason: str) -> None:
        self._packs = False
        log.warning(
            "%s: each answer is scored in a row of its own, which is slower: %s.",
            type(self.model).__name__,
            reason,
        )

    def tok_batch_encode(
        self,
        strings: Sequence[str],
        *args: object,
        **kwargs: object,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens and mask of a batch of prompts; notes which prompts these are."""
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
        rows, prompt_length = context.shape
        watch = RowsEnded(self._stop_texts(stop), self._end_tokens(), prompt_length, rows)
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

    def _stop_texts(self, stop: Sequence[str]) -> StopTexts:
        key = tuple(stop)
        if key not in self._stops:
            self._stops[key] = StopTexts(self.tokenizer, stop)
        return self._stops[key]

    def _end_tokens(self) -> list[int]:
        own = self.model.generation_config.eos_token_id
        ends = own if isinstance(own, list) else [own]
        return sorted({e for e in [*ends, self.eot_token_id] if e is not None})


def _requests(item: PackedItem) -> list[Request]:
    return [(None, [*item.context], [*tokens]) for tokens in item.continuations]
