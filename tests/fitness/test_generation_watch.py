"""Rows end at their own stop text, found without reading every answer at every token."""

import random
from pathlib import Path

import pytest
import torch
import transformers

from evomerge.fitness.generation_watch import RowsEnded, StopTexts

ZOO = Path(__file__).parents[2] / "experiments" / "quickstart" / "zoo" / "base"
STORIES = Path(__file__).parents[3] / "shared/models/stories260K"


@pytest.fixture(params=[ZOO, STORIES, None], ids=["zoo", "stories", "words"])
def any_tokenizer(request, tokenizer):
    if request.param is None:
        return tokenizer
    if not request.param.exists():
        pytest.skip(f"{request.param} is not on this machine")
    return transformers.AutoTokenizer.from_pretrained(request.param)


def test_a_row_ends_with_the_first_token_that_completes_a_stop_text(any_tokenizer):
    rng = random.Random(0)
    size = len(any_tokenizer)
    answers = torch.tensor([[rng.randrange(3, size) for _ in range(12)] for _ in range(60)])
    texts = any_tokenizer.batch_decode(answers)
    # Pieces that do occur, across tokens and with spaces in them, and one that does not.
    stop = [text[k : k + n] for k, n in ((5, 4), (12, 5), (20, 3)) for text in texts[:2]]
    stop += ["no such text at all", ""]
    watch = RowsEnded(StopTexts(any_tokenizer, stop), [2], prompt_length=0, rows=60)
    ended = [0] * 60
    for length in range(1, 13):
        over = watch(answers[:, :length], None)
        read = any_tokenizer.batch_decode(answers[:, :length])
        expected = [any(s and s in text for s in stop) for text in read]
        assert over.tolist() == expected
        ended = [n + e for n, e in zip(ended, expected, strict=True)]
    assert watch.truncated() == [not over for over in expected]
    assert 0 < sum(n == 0 for n in ended) < 60


def test_only_answers_whose_newest_token_may_end_a_stop_text_are_read(tokenizer):
    watch = StopTexts(tokenizer, ["red\n", "Answer"])
    newest = tokenizer.convert_tokens_to_ids(["\n", "red", "Answer", "plus", "blue"])
    # "plus" and "blue" hold neither the end of a line nor the last letter of "Answer".
    assert watch.may_end(torch.tensor(newest)).tolist() == [True, True, True, False, False]
    assert watch.may_end(torch.tensor([len(tokenizer) + 5])).tolist() == [True]


def test_an_end_token_ends_its_row_only(tokenizer):
    watch = RowsEnded(StopTexts(tokenizer, []), [2, 7], prompt_length=1, rows=3)
    assert watch(torch.tensor([[2, 9], [2, 7], [7, 8]]), None).tolist() == [False, True, False]
    rest = torch.tensor([[2, 9, 2], [2, 7, 5], [7, 8, 9]])
    assert watch(rest, None).tolist() == [True, True, False]
    assert watch.truncated() == [False, False, True]
