"""Watches over a running generation: which rows have ended, and were all scores numbers."""

from collections.abc import Sequence

import torch
from transformers import LogitsProcessor, PreTrainedTokenizerBase, StoppingCriteria


class RowsEnded(StoppingCriteria):  # type: ignore[misc]
    """Ends each row at a stop text or an end token of its own.

    A row's answer then does not depend on the rows that happen to share its batch, and the
    batch is over with its longest answer.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        stop: Sequence[str],
        end_tokens: Sequence[int],
        prompt_length: int,
    ) -> None:
        self._tokenizer = tokenizer
        self._stop = [text for text in stop if text]
        self._end_tokens = torch.tensor(list(end_tokens), dtype=torch.long)
        self._prompt_length = prompt_length
        self._ended: torch.Tensor | None = None

    def __call__(
        self,
        input_ids: torch.Tensor,
        scores: object,  # noqa: ARG002 - the interface of transformers
        **_: object,
    ) -> torch.Tensor:
        """``(rows,)`` booleans: the rows that are over."""
        if self._ended is None:
            self._ended = torch.zeros(len(input_ids), dtype=torch.bool)
        tokens = input_ids[:, self._prompt_length :].cpu()
        ended = self._ended | torch.isin(tokens[:, -1], self._end_tokens)
        rows = (~ended).nonzero().flatten().tolist()
        texts = self._tokenizer.batch_decode(tokens[rows]) if rows else []
        for row, text in zip(rows, texts, strict=True):
            ended[row] = any(stop in text for stop in self._stop)
        self._ended = ended
        return ended.to(input_ids.device)

    def truncated(self) -> list[bool]:
        """By row, whether generation ran out of tokens before the answer ended."""
        return [] if self._ended is None else (~self._ended).tolist()


class ScoresAreNumbers(LogitsProcessor):  # type: ignore[misc]
    """Notes rows in which a score was NaN, since the likeliest token hides it."""

    def __init__(self) -> None:
        self._nan: torch.Tensor | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        """The scores, unchanged."""
        nan = scores.isnan().any(dim=-1)
        self._nan = nan if self._nan is None else self._nan | nan
        return scores

    def nan_rows(self) -> list[bool]:
        """By row, whether any score was NaN."""
        return [] if self._nan is None else self._nan.tolist()
