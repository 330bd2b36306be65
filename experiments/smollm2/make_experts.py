"""Fine-tunes SmolLM2-135M-Instruct into three experts, saved as plain model folders.

    python experiments/smollm2/make_experts.py --data DATA --out ~/.cache/evomerge/smollm2

trains a LoRA adapter for each of SST-2, AG-News and SVAMP, adds it to the weights and
writes ``OUT/base``, ``OUT/sst2``, ``OUT/agnews`` and ``OUT/svamp``. Without access to
the hub, make the base with ``convert_base.py`` first and pass ``--base OUT/base``.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from experts import EXPERTS, Expert
from items import Item
from paths import DEFAULT_OUT, outside_checkout
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from torch.nn import functional
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

HUB_BASE = "HuggingFaceTB/SmolLM2-135M-Instruct"
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Training:
    """What decides the result of one training, besides the data."""

    examples: int
    learning_rate: float
    seed: int
    rank: int = 16
    alpha: int = 32
    batch: int = 16
    warmup: float = 0.05
    """Share of the steps."""

    max_norm: float = 1.0


@dataclass(frozen=True)
class Example:
    """Tokens of one question and, after them, its answer."""

    context: list[int]
    answer: list[int]

    @property
    def length(self) -> int:
        """Tokens of both."""
        return len(self.context) + len(self.answer)


def encode(items: Sequence[Item], tokenizer: PreTrainedTokenizerBase) -> list[Example]:
    """Tokenize as lm-eval does: the answer's tokens follow the context's."""
    examples = []
    for item in items:
        context = tokenizer(item.context, add_special_tokens=False).input_ids
        both = tokenizer(f"{item.context} {item.answer}", add_special_tokens=False)
        examples.append(Example(context, both.input_ids[len(context) :]))
    return examples


def batches(examples: Sequence[Example], size: int, rng: random.Random) -> list[list[Example]]:
    """Batches of similar length in random order, each example once."""
    order = list(examples)
    rng.shuffle(order)
    found: list[list[Example]] = []
    for at in range(0, len(order), size * 10):
        near = sorted(order[at : at + size * 10], key=lambda example: example.length)
        found += [near[start : start + size] for start in range(0, len(near), size)]
    rng.shuffle(found)
    return found


def answer_loss(model: PreTrainedModel, batch: Sequence[Example]) -> Tensor:
    """Mean cross entropy of the answer tokens.

    Padding stands on the right and attention is causal, so no mask is needed; the
    vocabulary projection runs only where an answer token is predicted.
    """
    longest = max(example.length for example in batch)
    tokens = torch.zeros(len(batch), longest, dtype=torch.long)
    rows, columns, targets = [], [], []
    for row, example in enumerate(batch):
        joined = example.context + example.answer
        tokens[row, : len(joined)] = torch.tensor(joined)
        rows += [row] * len(example.answer)
        columns += range(len(example.context) - 1, len(joined) - 1)
        targets += example.answer
    hidden = model.model(input_ids=tokens, use_cache=False).last_hidden_state
    logits = model.lm_head(hidden[rows, columns]).float()
    return functional.cross_entropy(logits, torch.tensor(targets))


def learning_rates(steps: int, training: Training) -> Iterator[float]:
    """Linear rise over the warm-up, then linear fall to zero."""
    warmup = max(1, round(steps * training.warmup))
    for step in range(1, steps + 1):
        share = step / warmup if step <= warmup else (steps - step) / (steps - warmup)
        yield training.learning_rate * share


def with_adapter(base: str, training: Training) -> PeftModel:
    """The base in bf16 with a fresh LoRA adapter, also in bf16, on every linear layer."""
    torch.manual_seed(training.seed)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    lora = LoraConfig(
        r=training.rank,
        lora_alpha=training.alpha,
        target_modules=TARGETS,
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, lora, autocast_adapter_dtype=False)


def fit(adapted: PeftModel, examples: Sequence[Example], training: Training) -> float:
    """Train the adapter for one pass; returns the mean loss of the last tenth."""
    weights = [weight for weight in adapted.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=training.learning_rate, weight_decay=0.0)
    order = batches(examples, training.batch, random.Random(training.seed))
    adapted.train()
    losses: list[float] = []
    for batch, rate in zip(order, learning_rates(len(order), training), strict=True):
        optimizer.param_groups[0]["lr"] = rate
        loss = answer_loss(adapted.get_base_model(), batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, training.max_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        if len(losses) % 10 == 0:
            recent = sum(losses[-10:]) / 10
            log.info("step %d of %d: loss %.3f", len(losses), len(order), recent)
    last = losses[-max(1, len(losses) // 10) :]
    return sum(last) / len(last)


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a bf16 folder; tied embeddings are stored once."""
    model.to(torch.bfloat16)
    model.config.dtype = torch.bfloat16
    model.tie_weights()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def make_expert(expert: Expert, training: Training, args: argparse.Namespace) -> None:
    """Train one expert and write its folder with ``training.json`` beside the weights."""
    tokenizer = AutoTokenizer.from_pretrained(args.base)
    items = expert.training_items(args.data, training.examples)
    adapted = with_adapter(args.base, training)
    start = time.monotonic()
    loss = fit(adapted, encode(items, tokenizer), training)
    minutes = (time.monotonic() - start) / 60
    # In float32, so that the sum is rounded to bf16 only once.
    merged = adapted.float().merge_and_unload()
    folder = args.out / expert.name
    save(merged, tokenizer, folder)
    facts = {
        **asdict(training),
        "examples": len(items),
        "steps": -(-len(items) // training.batch),
        "threads": args.threads,
        "minutes": round(minutes, 1),
        "last_loss": round(loss, 4),
    }
    text = json.dumps(facts, indent=2) + "\n"
    (folder / "training.json").write_text(text, encoding="utf-8")
    log.info("%s: %s", expert.name, facts)


def save_base(base: str, folder: Path) -> None:
    """Copy the base beside the experts, unless it is already there."""
    if (folder / "config.json").exists():
        return
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    save(model, AutoTokenizer.from_pretrained(base), folder)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="has sst2/, ag_news/, …")
    parser.add_argument("--base", default=HUB_BASE, help="hub id or folder")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT)
    parser.add_argument("--expert", choices=sorted(EXPERTS), action="append")
    parser.add_argument("--examples", type=int, help="instead of the expert's own number")
    parser.add_argument("--learning-rate", type=float, help="instead of the expert's own")
    parser.add_argument("--rank", type=int, default=Training.rank)
    parser.add_argument("--batch", type=int, default=Training.batch)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.out = outside_checkout(args.out)
    return args


def main() -> None:
    """Write the base and the experts asked for."""
    args = arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(args.threads)
    torch.use_deterministic_algorithms(mode=True)
    save_base(args.base, args.out / "base")
    for name in args.expert or EXPERTS:
        expert = EXPERTS[name]
        training = Training(
            examples=args.examples or expert.examples,
            learning_rate=args.learning_rate or expert.learning_rate,
            seed=args.seed,
            rank=args.rank,
            batch=args.batch,
        )
        make_expert(expert, training, args)


if __name__ == "__main__":
    main()
