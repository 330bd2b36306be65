"""Watches over a running generation: which rows have ended, and were all scores numbers."""

from collections.abc import Sequence

import torch
from transformers import LogitsProcessor, PreTrainedTokenizerBase, StoppingCriteria


class StopTexts:
    """Texts that end an answer, with the tokens that can be the last of one.

    An answer is turned into text only when its newest token may have completed a stop text,
    so that long answers cost no more time a token than short ones.

    Args:
        tokenizer: Turns answers into text.
        texts: Empty ones never end anything.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._texts = [text for text in texts if text]
        # Twice, since a tokenizer may drop the space that an answer begins with. Half a
        # character, which shows as a replacement character, may be the end of anything.
        twice = tokenizer.batch_decode([[token, token] for token in range(len(tokenizer))])
        ends = {*"\ufffd", *(text[-1] for text in self._texts)}
        self._last = torch.tensor([not ends.isdisjoint(text) for text in twice])

    def may_end(self, tokens: torch.Tensor) -> torch.Tensor:
        """``(rows,)`` booleans: whether a row's newest token can complete a stop text.

        Args:
            tokens: ``(rows,)`` token ids; those that the tokenizer does not know can.
        """
        known = tokens < len(self._last)
        return ~known | self._last[tokens.where(known, 0)]

    def within(self, answers: Sequence[torch.Tensor]) -> list[bool]:
        """By answer, whether its text holds a stop text."""
        texts = self._tokenizer.batch_decode(list(answers)) if answers else []
        return [any(stop in text for stop in self._texts) for text in texts]


class RowsEnded(StoppingCriteria):  # type: ignore[misc]
    """Ends each row at a stop text or an end token of its own.

    A row's answer then does not depend on the rows that happen to share its batch, and the
    batch is over with its longest answer.
    """

    def __init__(
        self, stop: StopTexts, end_tokens: Sequence[int], prompt_length: int, rows: int
    ) -> None:
        self._stop = stop
        self._end_tokens = torch.tensor(list(end_tokens), dtype=torch.long)
        self._prompt_length = prompt_length
        self._ended = torch.zeros(rows, dtype=torch.bool)
        self._answers = torch.zeros(rows, 0, dtype=torch.long)

    def __call__(
        self,
        input_ids: torch.Tensor,
        scores: object,  # noqa: ARG002 - the interface of transformers
        **_: object,
    ) -> torch.Tensor:
        """``(rows,)`` booleans: the rows that are over."""
        self._answers = input_ids[:, self._prompt_length :].cpu()
        newest = self._answers[:, -1]
        self._ended = self._ended | torch.isin(newest, self._end_tokens)
        self._look(~self._ended & self._stop.may_end(newest))
        return self._ended.to(input_ids.device)

    def truncated(self) -> list[bool]:
        """By row, whether generation ran out of tokens before the answer ended."""
        self._look(~self._ended)
        return (~self._ended).tolist()

    def _look(self, doubtful: torch.Tensor) -> None:
        rows = doubtful.nonzero().flatten().tolist()
        found = self._stop.within([self._answers[row] for row in rows])
        ended = self._ended.clone()
        ended[rows] = torch.tensor(found, dtype=torch.bool)
        self._ended = ended


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
