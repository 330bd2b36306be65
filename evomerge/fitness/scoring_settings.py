"""Which tasks are asked and how: plain values, free of torch and lm-eval."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class JsonlFiles:
    """The questions of a task in plain JSONL files."""

    places: Mapping[str, Path]
    """A file for each of ``search``, ``validation`` and ``test``, or one under another key,
    to be divided by the seed."""

    until: tuple[str, ...] | None = None
    """Written answers end before any of these; None: at the end of the line."""

    max_tokens: int | None = None
    """Longest written answer; None: 64 tokens."""

    ignore_case: bool | None = None
    """Whether upper and lower case of a written answer are the same; None: they are not."""

    @property
    def written_options(self) -> tuple[str, ...]:
        """The options given that only written answers have."""
        names = ("until", "max_tokens", "ignore_case")
        return tuple(name for name in names if getattr(self, name) is not None)


@dataclass(frozen=True)
class TaskSpec:
    """A task to use."""

    name: str

    num_fewshot: int | None = None
    """Examples before each question; None takes the task's own number."""

    jsonl: JsonlFiles | None = None
    """Where its questions are, if it is no lm-eval task."""

    samples: Path | None = None
    """A sample log of lm-eval whose requests are asked again, in place of the task."""

    @property
    def in_lm_eval(self) -> bool:
        """Whether lm-eval, or a task file for it, knows the task."""
        return self.jsonl is None and self.samples is None


@dataclass(frozen=True)
class ScoringSettings:
    """How questions are put to the model."""

    batch_size: int = 16
    """Rows in a forward pass; fixed, since it can change the last digits of an answer."""

    apply_chat_template: bool = False
    """Render prompts with the tokenizer's chat template."""

    max_length: int | None = None
    """Longest input in tokens, longer ones lose their beginning; None asks the model."""

    backend: Literal["transformers", "vllm"] = "transformers"
    """What computes the answers; vLLM is no dependency and has to be installed besides."""

    prefix_bytes: int = 0
    """Most bytes of hidden states kept from candidate to candidate, so that first layers which
    they have in common run once; changes no answer."""
