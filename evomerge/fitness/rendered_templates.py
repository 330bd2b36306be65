"""Texts, targets and choices of a task, rendered once for each document."""

from collections.abc import Callable
from typing import Any

_KEPT = 50_000
"""Rendered documents; few-shot examples, which are read anew each time, fill up the memory
at most this far."""

_TEMPLATES = ("doc_to_text", "doc_to_target", "doc_to_choice")


class RenderedOnce:
    """A method of a task from document to text that remembers what it gave.

    lm-eval compiles a template each time it renders one, which it does at every scoring of
    every candidate, and takes longer than a tiny model's answer.

    Args:
        render: The method. It must give the same for the same document.
    """

    def __init__(self, render: Callable[..., Any]) -> None:
        self._render = render
        self._known: dict[int, tuple[Any, Any]] = {}

    def __call__(self, doc: Any, *template: Any) -> Any:  # noqa: ANN401 - documents, texts, labels
        """What the method gives for a document, and only that very object's."""
        if template:
            return self._render(doc, *template)
        known = self._known.get(id(doc))
        if known is None or known[0] is not doc:
            if len(self._known) >= _KEPT:
                self._known.clear()
            # The document is kept, so that no other one can get its id.
            known = self._known[id(doc)] = doc, self._render(doc)
        return known[1]


def render_once(task: Any) -> None:  # noqa: ANN401 - an lm-eval task
    """Let a task's templates be rendered once for each document.

    Functions named in a task file, and names of columns, stay as they are.
    """
    for name in _TEMPLATES:
        template = getattr(task.config, name)
        if isinstance(template, str) and template not in task.features:
            setattr(task, name, RenderedOnce(getattr(task, name)))
