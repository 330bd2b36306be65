"""The same language model, answering through vLLM.

Candidates are merged in the transformers model as always; what has changed is handed to an
engine in this process before it answers. vLLM is imported when the first model is made.
"""

import importlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import transformers
from lm_eval.api.instance import Instance
from lm_eval.models.utils import normalize_gen_kwargs, postprocess_generated_text

from evomerge.core.errors import ConfigError
from evomerge.fitness.packed_choices import LogLikelihood
from evomerge.fitness.resident_lm import Request, ResidentLM
from evomerge.fitness.scoring_settings import ScoringSettings

_UNREAD = 2
"""Tokens that vLLM wants room for beyond lm-eval's input: the last one of a continuation,
which it reads, and one that it generates."""

_GREEDY = {"do_sample", "temperature", "until", "max_gen_toks"}


class VllmLM(ResidentLM):
    """lm-eval's model whose answers vLLM computes.

    The engine holds a second copy of the weights, on the device that it finds. The
    transformers model, in which candidates are merged, may stay on the CPU.

    Args:
        model: The transformers model. Its weights may change in place between calls.
        tokenizer: Its tokenizer; not modified.
        settings: How questions are put; ``batch_size`` bounds the requests at work at once.

    Raises:
        ConfigError: vLLM is not installed, or cannot run the model.
    """

    def __init__(
        self,
        model: transformers.PreTrainedModel,
        tokenizer: transformers.PreTrainedTokenizerBase,
        settings: ScoringSettings,
    ) -> None:
        self._vllm = _imported()
        super().__init__(model, tokenizer, settings)
        positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        if positions is not None:
            self._max_length = min(self.max_length, positions - _UNREAD)
        self._seen: tuple[int, ...] | None = None
        with tempfile.TemporaryDirectory() as folder, _engine_in_this_process():
            model.config.save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)
            self._engine = self._started(Path(folder), settings)

    @property
    def engine_name(self) -> str:
        """The engine with its version."""
        return f"vllm {self._vllm.__version__}"

    def _started(self, folder: Path, settings: ScoringSettings) -> Any:  # noqa: ANN401
        try:
            return self._vllm.LLM(
                model=str(folder),
                # Weights come from the resident model.
                load_format="dummy",
                dtype=str(self.model.dtype).removeprefix("torch."),
                max_model_len=self.max_length + _UNREAD,
                max_num_seqs=settings.batch_size,
                trust_remote_code=False,
                seed=0,
            )
        except (RuntimeError, ValueError, ImportError, OSError) as error:
            raise ConfigError(
                f"evaluation.backend: vLLM cannot run {type(self.model).__name__} here: "
                f"{error}; use transformers."
            ) from error

    def _loglikelihood_tokens(
        self,
        requests: list[Request],
        disable_tqdm: bool = True,  # noqa: ARG002, FBT001, FBT002 - lm-eval's signature
        override_bs: int | None = None,  # noqa: ARG002
    ) -> list[LogLikelihood]:
        rows = [
            ((context + answer)[-(self.max_length + 1) :], len(answer))
            for _, context, answer in requests
        ]
        ask = self._vllm.SamplingParams(
            temperature=0, max_tokens=1, prompt_logprobs=1, detokenize=False
        )
        replies = self._generated([row for row, _ in rows], ask)
        return [
            continuation_loglikelihood(row, length, reply.prompt_logprobs)
            for (row, length), reply in zip(rows, replies, strict=True)
        ]

    def generate_until(
        self,
        requests: list[Instance],
        disable_tqdm: bool = False,  # noqa: ARG002, FBT001, FBT002 - lm-eval's signature
    ) -> list[str]:
        """Greedy answers; notes which were cut off and which scores were no numbers."""
        prompts, asked, stops = [], [], []
        for text, given in (request.args for request in requests):
            options = greedy_options(given, self.max_gen_toks)
            longest = options["max_tokens"]
            prompts.append(self.tok_encode(text)[-(self.max_length - longest) :])
            ends = {"stop_token_ids": self._end_tokens(), "logprobs": 0}
            asked.append(self._vllm.SamplingParams(temperature=0, **options, **ends))
            stops.append(options["stop"])
        answers = []
        for request, stop, reply in zip(
            requests, stops, self._generated(prompts, asked), strict=True
        ):
            text, (answer,) = request.args[0], reply.outputs
            self.truncated[text] = answer.finish_reason == "length"
            if answer.cumulative_logprob != answer.cumulative_logprob:
                self.not_numbers.add(text)
            made = self.tok_decode(list(answer.token_ids))
            answers.append(postprocess_generated_text(made, stop, None))
        return answers

    def _generated(self, prompts: Sequence[list[int]], ask: Any) -> list[Any]:  # noqa: ANN401
        self._take_weights()
        inputs = [{"prompt_token_ids": prompt} for prompt in prompts]
        replies: list[Any] = self._engine.generate(inputs, ask, use_tqdm=False)
        return replies

    def _take_weights(self) -> None:
        """Hand over the weights, unless no parameter was written to since the last time."""
        writes = tuple(parameter._version for parameter in self.model.parameters())
        if writes == self._seen:
            return
        weights = list(self.model.state_dict().items())
        self._engine.collective_rpc("reload_weights", kwargs={"weights_iterator": weights})
        # Keys and values of prompts that the last candidate has read.
        self._engine.reset_prefix_cache()
        self._seen = writes


def continuation_loglikelihood(
    row: Sequence[int], length: int, prompt_logprobs: Sequence[Mapping[int, Any] | None]
) -> LogLikelihood:
    """The log-likelihood of a row's last tokens, and whether each was the likeliest.

    Args:
        row: A context and its continuation.
        length: Tokens of the continuation.
        prompt_logprobs: vLLM's for the row: by position the log-probabilities of its token
            and of the likeliest one, None at the first.
    """
    total, greedy = 0.0, True
    for token, known in zip(row[-length:], prompt_logprobs[-length:], strict=True):
        if known is None:
            raise ConfigError("evaluation.backend: vLLM gave no log-probability for a token.")
        total += known[token].logprob
        greedy = greedy and known[token].logprob >= max(k.logprob for k in known.values())
    return total, greedy


def greedy_options(given: Mapping[str, Any], default_tokens: int) -> dict[str, Any]:
    """The engine's sampling options for a task's ``generation_kwargs``.

    Args:
        given: lm-eval's options.
        default_tokens: Longest answer where they name none.

    Raises:
        ConfigError: An option asks for more than greedy answers.
    """
    options = dict(normalize_gen_kwargs(dict(given), default_tokens))
    others = sorted(set(options) - _GREEDY)
    if others or options.get("do_sample"):
        raise ConfigError(
            f"generation_kwargs: {others or 'do_sample'} is not supported with "
            "evaluation.backend: vllm, which gives greedy answers; use transformers."
        )
    stop = [text for text in options["until"] if text]
    return {"max_tokens": options["max_gen_toks"], "stop": stop}


def _imported() -> Any:  # noqa: ANN401 - an optional library
    try:
        return importlib.import_module("vllm")
    except ImportError as error:
        raise ConfigError(
            f"evaluation.backend: vllm cannot be imported ({error}); install it with "
            "'pip install vllm' on a machine with a GPU, or use backend: transformers."
        ) from error


@contextmanager
def _engine_in_this_process() -> Iterator[None]:
    """Let vLLM start no process of its own, which would get a copy of every weight sent."""
    name = "VLLM_ENABLE_V1_MULTIPROCESSING"
    before = os.environ.get(name)
    os.environ[name] = "0"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
