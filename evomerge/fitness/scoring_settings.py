"""Which tasks are asked and how: plain values, free of torch and lm-eval."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TaskSpec:
    """A task to use."""

    name: str

    num_fewshot: int | None = None
    """Examples before each question; None takes the task's own number."""


@dataclass(frozen=True)
class ScoringSettings:
    """How questions are put to the model."""

    batch_size: int = 16
    """Rows in a forward pass; fixed, since it can change the last digits of an answer."""

    apply_chat_template: bool = False
    """Render prompts with the tokenizer's chat template."""

    max_length: int | None = None
    """Longest input in tokens, longer ones lose their beginning; None asks the model."""
