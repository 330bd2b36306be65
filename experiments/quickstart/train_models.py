"""Train the embedded quickstart models and write the tasks that score them.

The script makes everything the quickstart needs from a seed and no other input:

* the items of the tasks ``sort``, ``town`` and ``score`` (search, validation, test);
* one small tokenizer;
* a base Llama model trained on a mixture of string exercises;
* one expert for each task, fine-tuned from that base on that task alone.

All prompts look alike, ``<word> <five letters>:``, and only the word says which of the
three questions is asked. An expert never needs that word during its fine-tuning, which
is why the three experts get in one another's way when their weights are averaged.
"""

import argparse
import dataclasses
import json
import logging
import random
import time
from collections.abc import Callable
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

LOGGER = logging.getLogger("train_models")

LETTERS = "abcdefghijklmnop"
NAME_LENGTH = 5
# Every town has a letter after p, so that no town can occur inside a name.
TOWNS = (
    "accra", "athens", "bogota", "cairo", "dakar", "lisbon", "madrid", "minsk",
    "oslo", "paris", "perth", "prague", "quito", "riga", "sofia", "tunis",
)  # fmt: skip
SKILLS = ("sort", "town", "score")
EXERCISES = ("copy", "back")
# Points are 1 to 6 a letter, so five letters are worth 5 to 30.
MAX_POINTS = 6
PAD, BOS, EOS, UNKNOWN = "<pad>", "<bos>", "<eos>", "<unk>"
SPLIT_SIZES = {"search": 600, "validation": 300, "test": 600}

ExampleMaker = Callable[[random.Random], tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class TrainingPlan:
    """The numbers that one training run needs.

    Attributes:
        steps: Number of optimiser steps.
        learning_rate: Peak learning rate, reached after the warm-up.
        batch_size: Examples in a step.
        warmup: Steps of linear warm-up; a cosine to a tenth of the peak follows.
        weight_decay: AdamW weight decay.
    """

    steps: int
    learning_rate: float
    batch_size: int = 128
    warmup: int = 40
    weight_decay: float = 0.01


PLANS = {
    "base": TrainingPlan(steps=1500, learning_rate=2e-3),
    "sort": TrainingPlan(steps=300, learning_rate=1e-3),
    "town": TrainingPlan(steps=400, learning_rate=1e-3),
    "score": TrainingPlan(steps=300, learning_rate=1e-3),
}


class World:
    """The rules behind the three skills and the names kept out of all training.

    Attributes:
        points: What each letter is worth in ``score``.
        town_of: The town of each pair of final letters.
        public_pairs: The pairs of final letters whose town the base model is taught.
        items: For each skill and split, the names its items ask about.
        reserved: All names in ``items``; no training example contains one.
    """

    def __init__(self, seed: int) -> None:
        """Draw the rules and the reserved names.

        Args:
            seed: Seed of the draw; the same seed gives the same world.
        """
        rng = random.Random(f"world-{seed}")
        values = [1 + index % MAX_POINTS for index in range(len(LETTERS))]
        rng.shuffle(values)
        self.points = dict(zip(LETTERS, values, strict=True))
        pairs = [first + second for first in LETTERS for second in LETTERS]
        rng.shuffle(pairs)
        self.town_of = {pair: TOWNS[index % len(TOWNS)] for index, pair in enumerate(pairs)}
        self.public_pairs = sorted(rng.sample(pairs, k=len(pairs) // 4))
        self.reserved: set[str] = set()
        self.items: dict[str, dict[str, list[str]]] = {}
        for skill in SKILLS:
            self.items[skill] = {}
            for split, size in SPLIT_SIZES.items():
                names: list[str] = []
                while len(names) < size:
                    name = draw_letters(rng, NAME_LENGTH)
                    if name not in self.reserved:
                        self.reserved.add(name)
                        names.append(name)
                self.items[skill][split] = names

    def answer(self, skill: str, name: str) -> str:
        """Give the right answer to a question.

        Args:
            skill: A skill or an exercise.
            name: The letters asked about.

        Returns:
            The answer, without the space before it.

        Raises:
            ValueError: If there is no such skill.
        """
        if skill == "sort":
            return "".join(sorted(name))
        if skill == "town":
            return self.town_of[name[-2:]]
        if skill == "score":
            return str(sum(self.points[letter] for letter in name))
        if skill == "copy":
            return name
        if skill == "back":
            return name[::-1]
        raise ValueError(f"no skill is called {skill!r}")

    def free_name(self, rng: random.Random) -> str:
        """Draw a full-length name that no task item uses.

        Args:
            rng: Source of randomness.

        Returns:
            The name.
        """
        while True:
            name = draw_letters(rng, NAME_LENGTH)
            if name not in self.reserved:
                return name

    def expert_example(self, skill: str, rng: random.Random) -> tuple[str, str]:
        """Draw a training example of one expert.

        Args:
            skill: The expert's skill.
            rng: Source of randomness.

        Returns:
            The prompt and the answer.
        """
        name = self.free_name(rng)
        return prompt_for(skill, name), self.answer(skill, name)

    def base_example(self, rng: random.Random) -> tuple[str, str]:
        """Draw a training example of the base model.

        The base meets every skill, but only its easy part: short strings for ``sort``
        and ``score``, a quarter of the letter pairs for ``town``. Full-length names
        occur in the exercises, which no task measures.

        Args:
            rng: Source of randomness.

        Returns:
            The prompt and the answer.
        """
        skill = rng.choice(SKILLS + EXERCISES)
        if skill == "sort":
            name = draw_letters(rng, rng.choice((2, 3, 4)))
        elif skill == "score":
            name = draw_letters(rng, rng.choice((1, 2, 3)))
        elif skill == "town":
            pair = rng.choice(self.public_pairs)
            name = self.free_name(rng)[:-2] + pair
            while name in self.reserved:
                name = self.free_name(rng)[:-2] + pair
        else:
            name = self.free_name(rng)
        return prompt_for(skill, name), self.answer(skill, name)


def draw_letters(rng: random.Random, count: int) -> str:
    """Draw a string of independent letters.

    Args:
        rng: Source of randomness.
        count: Number of letters.

    Returns:
        The string.
    """
    return "".join(rng.choices(LETTERS, k=count))


def prompt_for(skill: str, name: str) -> str:
    """Word a question.

    Args:
        skill: A skill or an exercise.
        name: The letters asked about.

    Returns:
        The prompt; an answer follows it after one space.
    """
    return f"{skill} {name}:"


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Make the tokenizer that all models share.

    The skill words, the towns and whole numbers are one token each and every other
    character is its own token. No token spans a space and none is added to a text, so
    that encoding a prompt and an answer apart or together gives the same tokens.

    Returns:
        The tokenizer.
    """
    words = sorted((*SKILLS, *EXERCISES, *TOWNS))
    numbers = [str(number) for number in range(MAX_POINTS * NAME_LENGTH + 1)]
    characters = [chr(code) for code in range(32, 127) if not chr(code).isdigit()]
    vocabulary = [PAD, BOS, EOS, UNKNOWN, *words, *numbers, "\n", *characters]
    fast = Tokenizer(
        models.WordLevel(
            {token: index for index, token in enumerate(vocabulary)}, unk_token=UNKNOWN
        )
    )
    pattern = Regex("|".join((*words, r"[0-9]+", r"[\s\S]")))
    fast.pre_tokenizer = pre_tokenizers.Split(pattern, behavior="isolated")
    fast.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=fast,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNKNOWN,
        clean_up_tokenization_spaces=False,
        model_max_length=64,
        chat_template="{% for message in messages %}{{ message['content'] }}{% endfor %}",
    )


def build_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """Make an untrained model.

    Args:
        tokenizer: The tokenizer, for the vocabulary size and the special tokens.
        seed: Seed of the initial weights.

    Returns:
        The model.
    """
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=336,
        num_hidden_layers=5,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return LlamaForCausalLM(config)


def make_batch(
    tokenizer: PreTrainedTokenizerFast,
    make_example: ExampleMaker,
    rng: random.Random,
    size: int,
) -> dict[str, torch.Tensor]:
    """Draw a batch whose loss covers the answers only.

    Args:
        tokenizer: The tokenizer.
        make_example: Draws one prompt and its answer.
        rng: Source of randomness.
        size: Number of examples.

    Returns:
        The model's keyword arguments.
    """
    examples = [make_example(rng) for _ in range(size)]
    prompts = tokenizer([prompt for prompt, _ in examples])["input_ids"]
    answers = tokenizer([f" {answer}" for _, answer in examples])["input_ids"]
    rows = [
        (prompt, [*answer, tokenizer.eos_token_id])
        for prompt, answer in zip(prompts, answers, strict=True)
    ]
    width = max(len(prompt) + len(answer) for prompt, answer in rows)
    input_ids = torch.full((size, width), tokenizer.pad_token_id)
    labels = torch.full((size, width), -100)
    for row, (prompt, answer) in enumerate(rows):
        end = len(prompt) + len(answer)
        input_ids[row, :end] = torch.tensor(prompt + answer)
        labels[row, len(prompt) : end] = torch.tensor(answer)
    # Padding is on the right and attention is causal, so no mask is needed.
    return {"input_ids": input_ids, "labels": labels}


def train(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    make_example: ExampleMaker,
    plan: TrainingPlan,
    seed: str,
) -> None:
    """Train a model in place.

    Args:
        model: The model.
        tokenizer: The tokenizer.
        make_example: Draws one prompt and its answer.
        plan: Steps, learning rate and batch size.
        seed: Names the stream of examples and appears in the log.
    """
    rng = random.Random(seed)
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=plan.learning_rate,
        betas=(0.9, 0.98),
        weight_decay=plan.weight_decay,
    )
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimizer, plan.steps - plan.warmup, eta_min=plan.learning_rate / 10
    )
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, 0.02, 1.0, plan.warmup)
    schedule = torch.optim.lr_scheduler.SequentialLR(
        optimizer, [warmup, cosine], milestones=[plan.warmup]
    )
    model.train()
    start = time.monotonic()
    for step in range(1, plan.steps + 1):
        batch = make_batch(tokenizer, make_example, rng, plan.batch_size)
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 100 == 0 or step == plan.steps:
            LOGGER.info(
                "%s: step %d of %d, loss %.4f, %.0f s",
                seed, step, plan.steps, loss.item(), time.monotonic() - start,
            )  # fmt: skip
    model.eval()


def write_model(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path
) -> None:
    """Write a model folder in the Hugging Face layout, weights in half precision.

    Args:
        model: The model; it stays in single precision.
        tokenizer: Its tokenizer.
        folder: Where to write.
    """
    half = LlamaForCausalLM(model.config)
    half.load_state_dict(model.state_dict())
    half = half.to(torch.float16)
    half.generation_config = GenerationConfig(
        do_sample=False,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    half.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    # The class name that transformers 4 and 5 both know, and the chat template in the
    # same file as the other settings.
    config_path = folder / "tokenizer_config.json"
    settings = json.loads(config_path.read_text(encoding="utf-8"))
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    settings["chat_template"] = tokenizer.chat_template
    config_path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    (folder / "chat_template.jinja").unlink(missing_ok=True)


def options_for(skill: str, answer: str, rng: random.Random) -> list[str]:
    """Choose the four options of a multiple-choice item.

    Args:
        skill: ``town`` or ``score``.
        answer: The right option.
        rng: Source of randomness.

    Returns:
        Four different options in random order, the answer among them.
    """
    if skill == "town":
        others = [town for town in TOWNS if town != answer]
    else:
        total = int(answer)
        others = [str(total + step) for step in (-3, -2, -1, 1, 2, 3)]
        others = [number for number in others if 0 <= int(number) <= 30]
    options = [answer, *rng.sample(others, k=3)]
    rng.shuffle(options)
    return options


def write_tasks(world: World, folder: Path, seed: int) -> None:
    """Write the items of every task as JSON lines.

    Args:
        world: The rules and the names asked about.
        folder: The folder of task folders.
        seed: Seed of the options.
    """
    rng = random.Random(f"options-{seed}")
    for skill, splits in world.items.items():
        target = folder / skill
        target.mkdir(parents=True, exist_ok=True)
        for split, names in splits.items():
            lines = []
            for name in names:
                answer = world.answer(skill, name)
                item: dict[str, object] = {"prompt": prompt_for(skill, name)}
                if skill == "sort":
                    item["answer"] = answer
                else:
                    item["choices"] = options_for(skill, answer, rng)
                    item["label"] = item["choices"].index(answer)
                lines.append(json.dumps(item) + "\n")
            (target / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")


def main() -> None:
    """Write the tasks, then train and write the base and the experts."""
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(
        description="Train the embedded quickstart models and write their tasks."
    )
    parser.add_argument(
        "--out", type=Path, default=here / "zoo", help="folder of the model folders"
    )
    parser.add_argument(
        "--tasks",
        type=Path,
        default=here.parents[1] / "fitness" / "tasks",
        help="folder of the task folders, whose items are rewritten",
    )
    parser.add_argument("--seed", type=int, default=7, help="seed of everything")
    parser.add_argument("--threads", type=int, default=1, help="threads for PyTorch")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(arguments.threads)

    world = World(arguments.seed)
    write_tasks(world, arguments.tasks, arguments.seed)
    tokenizer = build_tokenizer()
    base = build_model(tokenizer, arguments.seed)
    seed = arguments.seed
    train(base, tokenizer, world.base_example, PLANS["base"], f"base-{seed}")
    write_model(base, tokenizer, arguments.out / "base")
    for skill in SKILLS:
        expert = build_model(tokenizer, seed)
        expert.load_state_dict(base.state_dict())

        def make_example(rng: random.Random, skill: str = skill) -> tuple[str, str]:
            return world.expert_example(skill, rng)

        train(expert, tokenizer, make_example, PLANS[skill], f"{skill}-{seed}")
        write_model(expert, tokenizer, arguments.out / skill)


if __name__ == "__main__":
    main()
