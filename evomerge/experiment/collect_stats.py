"""Collect a statistic of a model's weights on a file of examples, and write it to a file."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from evomerge.core.errors import CheckpointError, ConfigError, StoreError
from evomerge.core.recipe import Recipe, Rule, Source
from evomerge.fitness.json_lines import LineProblems, read_json_lines
from evomerge.merging.checkpoint import open_source
from evomerge.merging.collect_statistics import COLLECTORS, Collector, Example, collect
from evomerge.merging.engine import MergeEngine
from evomerge.merging.resident_model import places
from evomerge.merging.source_model import SourceModel
from evomerge.merging.statistics_files import (
    Collected,
    check_kind,
    check_replaceable,
    statistics_place,
    write_statistics,
)

_JSON_LINES = {".jsonl", ".json", ".ndjson"}
_NAME = "model"


@dataclass(frozen=True)
class CollectOptions:
    """What a collection may be told."""

    kind: str = "fisher"
    """A key of ``STATISTICS``."""

    out: Path | None = None
    """None is ``statistics/<kind>.safetensors`` in the model's folder, or the adapter's."""

    max_tokens: int = 512
    """Longer examples lose their end, or, where they have a target, their beginning."""

    dtype: str = "float32"
    """In which the model runs."""

    device: str = "cpu"
    offline: bool = False
    """Ask no hub for anything."""


@dataclass(frozen=True)
class Finished:
    """A statistics file that was written."""

    path: Path
    weights: int
    """How many weights have the statistic."""

    examples: int
    tokens: int
    size: int
    """Bytes."""


Passed = Callable[[Sequence[Example]], Iterable[Example]]
"""Wraps the examples as they are taken, e.g. to show progress."""


def collect_statistics(
    model: str,
    data: Path,
    options: CollectOptions = CollectOptions(),
    passed: Passed = iter,
    announce: Callable[[str], None] = lambda _: None,
) -> Finished:
    """Run a model over examples and write a statistic of its weights.

    Args:
        model: Folder, hub id or ``BASE+ADAPTER``.
        data: One example a line: plain text, or in a ``.jsonl`` file objects with ``text``,
            or with ``prompt`` and ``target``, of which only the target is predicted.
        options: See there.
        passed: Wraps the examples.
        announce: Is told how large the statistics will be before they are collected.

    Raises:
        ConfigError: The data, the kind or the device is wrong; every line that is.
        CheckpointError: The model is.
        TrialError: The statistic is not finite.
        StoreError: The file cannot be written, or something else lies in its place.
    """
    problem = check_kind(options.kind)
    if problem is not None:
        raise ConfigError(f"--kind: {problem}")
    texts, digest = read_examples(data)
    source = open_source(model, offline=options.offline)
    out = options.out or statistics_place(None, source.own_folder, options.kind)
    check_replaceable(out, source.fingerprint)
    examples = _tokenized(source, texts, options, data)
    collector = _collector(source, options)
    size = collector.size() / 1e6
    announce(f"{size:,.1f} MB of {options.kind} from {len(examples)} examples")
    tensors = collect(collector, examples, passed)
    tokens = sum(len(example.tokens) for example in examples)
    collected = Collected(options.kind, source.fingerprint, digest, len(examples), tokens)
    try:
        written = write_statistics(out, collected, tensors)
    except OSError as error:
        raise StoreError(
            f"{out}: cannot be written: {error.strerror or error}; choose another file with "
            "--out."
        ) from error
    return Finished(out, len(tensors), len(examples), tokens, written)


@dataclass(frozen=True)
class TextExample:
    """One example of a data file."""

    prompt: str
    """Empty where all of the example is predicted."""

    target: str


def read_examples(data: Path) -> tuple[list[TextExample], str]:
    """The examples of a file, and the digest of its content.

    Raises:
        ConfigError: It cannot be read, has no examples, or lines that are none.
    """
    try:
        content = data.read_bytes()
        if data.suffix.lower() in _JSON_LINES:
            found = _of_json_lines(data)
        else:
            lines = content.decode("utf-8-sig").splitlines()
            found = [TextExample("", line.strip()) for line in lines if line.strip()]
    except OSError as error:
        raise ConfigError(f"{data}: cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{data}: not UTF-8 text; save the file as UTF-8.") from error
    if not found:
        raise ConfigError(f"{data}: has no examples; expected one a line.")
    return found, hashlib.sha256(content).hexdigest()[:32]


def _of_json_lines(data: Path) -> list[TextExample]:
    problems = LineProblems(data)
    found = []
    for number, line in read_json_lines(data, problems):
        text, prompt, target = (line.get(key) for key in ("text", "prompt", "target"))
        if isinstance(text, str) and text.strip() and prompt is None and target is None:
            found.append(TextExample("", text))
        elif isinstance(prompt, str) and isinstance(target, str) and target and text is None:
            found.append(TextExample(prompt, target))
        else:
            problems.add(
                number,
                'expected {"text": …} or {"prompt": …, "target": …}, texts that are not empty',
                f"keys {sorted(line)}"[:80],
            )
    if problems:
        raise ConfigError(problems.sentences())
    return found


def _tokenized(
    source: SourceModel, texts: Sequence[TextExample], options: CollectOptions, data: Path
) -> list[Example]:
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            source.tokenizer_folder, trust_remote_code=False, local_files_only=True
        )
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{source.tokenizer_folder}: its tokenizer cannot be read: {error}"
        ) from error
    longest = min(options.max_tokens, source.config.get("max_position_embeddings") or 2**31)
    examples = [_example(tokenizer, text, longest) for text in texts]
    found = [example for example in examples if example.target < len(example.tokens)]
    if not found:
        raise ConfigError(f"{data}: no example has a token to predict.")
    return found


def _example(tokenizer: Any, text: TextExample, longest: int) -> Example:  # noqa: ANN401 - untyped
    if not text.prompt:
        return Example(tuple(tokenizer(text.target)["input_ids"][:longest]), 1)
    prompt = tokenizer(text.prompt)["input_ids"]
    target = tokenizer(text.target, add_special_tokens=False)["input_ids"]
    tokens = (prompt + target)[-longest:]
    return Example(tuple(tokens), max(1, len(tokens) - len(target)))


def _collector(source: SourceModel, options: CollectOptions) -> Collector:
    try:
        device = torch.device(options.device)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"--device: {options.device!r} cannot be used here: {str(error).splitlines()[0]}."
        ) from error
    engine = MergeEngine({_NAME: source})
    recipe = Recipe((Source(_NAME, str(source.folder)),), (Rule("passthrough", {_NAME: {}}),))
    dtype: torch.dtype = getattr(torch, options.dtype)
    model = engine.resident_model(recipe, dtype=dtype, device=device)
    engine.apply(recipe, model)
    shapes = {tensor.name: tensor.shape for tensor in engine.plan(recipe)}
    return COLLECTORS[options.kind](model, _names(places(model, shapes)))


def _names(targets: Mapping[str, Sequence[torch.Tensor]]) -> dict[int, str]:
    return {id(parameter): name for name, found in targets.items() for parameter in found}
