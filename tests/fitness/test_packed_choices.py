"""Packed choices answer as lm-eval's own model does, with far fewer tokens."""

import logging
import random
from pathlib import Path

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from evomerge.fitness.batch_plan import Limits, batches
from evomerge.fitness.harness import ScoringSettings, TaskSpec, load_tasks
from evomerge.fitness.packed_choices import layout, packed_item, packed_items
from evomerge.fitness.packing_check import disagreement, probes
from evomerge.fitness.resident_lm import ResidentLM

ROOT = Path(__file__).parents[2]
ZOO = ROOT / "experiments" / "quickstart" / "zoo"
STORIES = Path(__file__).parents[3] / "shared/models/stories260K"
LONGEST = 64

SIZES = {
    "vocab_size": 46,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": LONGEST,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
GPT2_SIZES = {
    "vocab_size": 46,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": LONGEST,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
PACKED = {
    "Llama": SIZES,
    "Llama with tied embeddings": {**SIZES, "tie_word_embeddings": True},
    "Qwen2": SIZES,
    "Qwen3": {**SIZES, "head_dim": 8},
    "Qwen3Moe": {
        **SIZES,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
    },
    "Gemma": {**SIZES, "head_dim": 8},
    "Gemma2": {**SIZES, "head_dim": 8, "sliding_window": 40},
    "Mistral": {**SIZES, "sliding_window": 40},
    "Phi": SIZES,
    "GPTNeoX": {**SIZES, "rotary_pct": 0.5},
    "GPT2": GPT2_SIZES,
    "OPT": {**SIZES, "ffn_dim": 48, "word_embed_proj_dim": 32},
    "Granite": {**SIZES, "logits_scaling": 2.0},
}
NOT_PACKED = {
    "Bloom": (GPT2_SIZES, "takes no position_ids"),
    "Falcon": ({**SIZES, "alibi": True, "new_decoder_architecture": False}, "Error"),
    "Lfm2": ({**SIZES, "full_attn_idxs": [1]}, "another kind than attention: conv"),
}


def random_model(kind: str, sizes: dict, seed: int = 0, dtype=torch.float32):
    """A model whose answers depend strongly on every token before them."""
    config = getattr(transformers, f"{kind.split(maxsplit=1)[0]}Config")(**sizes)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.25, generator=generator)
    return model.to(dtype)


def random_requests(seed: int = 0, items: int = 10, longest: int = 40) -> list:
    """Requests of one to four choices of one to six tokens, in a mixed order."""
    rng = random.Random(seed)

    def tokens(count: int) -> list[int]:
        return [rng.randrange(3, 46) for _ in range(count)]

    requests = []
    for _ in range(items):
        context = tokens(rng.randint(1, longest))
        common = tokens(rng.randint(0, 2))
        for _ in range(rng.choice([1, 2, 4])):
            requests.append((("", ""), context, common + tokens(rng.randint(1, 4))))
    rng.shuffle(requests)
    return requests


@pytest.fixture(autouse=True)
def quiet_lm_eval():
    log = logging.getLogger("lm_eval")
    before = log.level
    log.setLevel(logging.ERROR)
    yield
    log.setLevel(before)


def plain(model, tokenizer, requests: list, **options) -> list[tuple[float, bool]]:
    own = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4, **options)
    return own._loglikelihood_tokens(requests, disable_tqdm=True)


def resident(model, tokenizer, max_length=None, batch_size: int = 4) -> ResidentLM:
    return ResidentLM(model, tokenizer, ScoringSettings(batch_size, max_length=max_length))


def assert_same(ours: list, theirs: list, within: float = 1e-4) -> None:
    assert len(ours) == len(theirs)
    for (value, greedy), (expected, expected_greedy) in zip(ours, theirs, strict=True):
        assert value == pytest.approx(expected, abs=within)
        assert greedy == expected_greedy


@pytest.mark.parametrize("kind", PACKED)
def test_architectures_that_take_packed_rows_answer_as_one_by_one(kind, tokenizer):
    model = random_model(kind, PACKED[kind])
    requests = random_requests()
    # Continuations that are the likeliest ones, so that greediness is not always false.
    for _, context, continuation in requests[::3]:
        for k in range(len(continuation)):
            so_far = torch.tensor([context + continuation[:k]])
            continuation[k] = int(model(so_far).logits[0, -1].argmax())
    expected = plain(model, tokenizer, requests)
    assert 0 < sum(greedy for _, greedy in expected) < len(expected)
    scorer = resident(model, tokenizer)
    assert_same(scorer._loglikelihood_tokens(requests), expected)
    assert scorer.packs


@pytest.mark.parametrize("kind", NOT_PACKED)
def test_architectures_that_cannot_be_packed_are_scored_one_by_one_and_say_why(
    kind, tokenizer, caplog
):
    sizes, reason = NOT_PACKED[kind]
    model = random_model(kind, sizes)
    scorer = resident(model, tokenizer)
    requests = random_requests()
    assert_same(
        scorer._loglikelihood_tokens(requests), plain(model, tokenizer, requests), within=1e-6
    )
    scorer._loglikelihood_tokens(requests)
    assert scorer.packs is False
    ours = [r for r in caplog.records if r.name == "evomerge.fitness.resident_lm"]
    assert len(ours) == 1
    assert reason in ours[0].getMessage()


class OwnPositions(transformers.LlamaForCausalLM):
    """A model that counts its columns, whatever it is told."""

    def forward(self, input_ids, attention_mask=None, position_ids=None, **options):
        return super().forward(input_ids, attention_mask=attention_mask, **options)


class OwnMask(transformers.LlamaForCausalLM):
    """A model that always looks at everything before."""

    def forward(self, input_ids, attention_mask=None, position_ids=None, **options):
        return super().forward(input_ids, position_ids=position_ids, **options)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", [OwnPositions, OwnMask])
def test_a_model_that_silently_ignores_what_it_is_told_is_found_out(
    kind, dtype, tokenizer, caplog
):
    llama = random_model("Llama", SIZES)
    model = kind(llama.config).eval()
    model.load_state_dict(llama.state_dict())
    model = model.to(dtype)
    scorer = resident(model, tokenizer)
    requests = random_requests()
    expected = plain(model, tokenizer, requests, softmax_dtype=torch.float32)
    assert_same(scorer._loglikelihood_tokens(requests), expected)
    assert scorer.packs is False
    assert "separate log-likelihoods differ by" in caplog.text


def test_eager_attention_packs_too(tokenizer):
    model = random_model("Llama", {**SIZES, "attn_implementation": "eager"})
    assert model.config._attn_implementation == "eager"
    scorer = resident(model, tokenizer)
    requests = random_requests(3)
    assert_same(scorer._loglikelihood_tokens(requests), plain(model, tokenizer, requests))
    assert scorer.packs


@pytest.mark.parametrize("max_length", [20, None])
def test_contexts_too_long_for_the_model_lose_their_beginning_as_in_lm_eval(
    tokenizer, max_length
):
    model = random_model("GPT2", GPT2_SIZES)  # which has no position beyond the last
    requests = random_requests(1, items=12, longest=100)
    lengths = [len(context) + len(answer) for _, context, answer in requests]
    limit = (max_length or LONGEST) + 1
    assert min(lengths) < limit < max(lengths)
    scorer = resident(model, tokenizer, max_length)
    assert_same(
        scorer._loglikelihood_tokens(requests),
        plain(model, tokenizer, requests, max_length=max_length),
    )
    assert scorer.packs


def test_items_longer_than_a_sliding_window_are_scored_one_by_one(tokenizer):
    sizes = {**SIZES, "head_dim": 8, "sliding_window": 16}
    model = random_model("Gemma2", sizes)
    requests = random_requests(2, items=14)
    assert max(len(context) for _, context, _ in requests) > 16
    scorer = resident(model, tokenizer)
    assert_same(scorer._loglikelihood_tokens(requests), plain(model, tokenizer, requests))


def test_bfloat16_answers_agree_up_to_its_rounding(tokenizer):
    model = random_model("Llama", SIZES, dtype=torch.bfloat16)
    requests = random_requests(4)
    expected = plain(model, tokenizer, requests, softmax_dtype=torch.float32)
    scorer = resident(model, tokenizer)
    ours = scorer._loglikelihood_tokens(requests)
    assert scorer.packs
    for (value, _), (other, _) in zip(ours, expected, strict=True):
        assert value == pytest.approx(other, rel=0.03, abs=0.1)


def test_a_models_first_answers_decide_nothing_if_they_are_no_numbers(tokenizer):
    model, good = (random_model("Llama", SIZES, seed) for seed in (0, 1))
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    scorer = resident(model, tokenizer)
    requests = random_requests()
    assert all(value != value for value, _ in scorer._loglikelihood_tokens(requests))
    assert scorer.packs is None
    model.load_state_dict(good.state_dict())
    assert_same(scorer._loglikelihood_tokens(requests), plain(good, tokenizer, requests))
    assert scorer.packs


def test_a_model_that_does_not_listen_decides_nothing(tokenizer):
    model = random_model("Llama", SIZES)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
    scorer = resident(model, tokenizer)
    requests = random_requests()
    assert_same(scorer._loglikelihood_tokens(requests), plain(model, tokenizer, requests))
    assert scorer.packs is None


def test_answers_do_not_depend_on_what_is_asked_together(tokenizer):
    model = random_model("Qwen2", SIZES)
    requests = random_requests(5, items=12)
    scorer = resident(model, tokenizer, batch_size=16)
    together = scorer._loglikelihood_tokens(requests)
    alone = [scorer._loglikelihood_tokens([request])[0] for request in requests]
    assert_same(alone, together)
    assert_same(scorer._loglikelihood_tokens(requests[::-1]), together[::-1])


def test_four_choices_cost_one_reading_of_their_context_and_few_outputs(tokenizer):
    model = random_model("Llama", SIZES)
    rng = random.Random(0)
    requests = []
    for _ in range(8):
        context = [rng.randrange(3, 46) for _ in range(40)]
        for first in (10, 20, 30, 40):
            requests.append((("", ""), context, [first, 7, first + 1]))
    scorer = resident(model, tokenizer, batch_size=16)
    scorer._loglikelihood_tokens(requests[:8])
    assert scorer.packs
    read, put_out = [], []
    model.model.embed_tokens.register_forward_hook(
        lambda _, ids, __: read.append(ids[0].numel())
    )
    model.lm_head.register_forward_hook(lambda _, x, __: put_out.append(x[0].shape[:2].numel()))
    scorer._loglikelihood_tokens(requests)
    assert sum(read) == 8 * (40 + 4 * 2)  # the last token of a choice is never read
    assert sum(put_out) == 8 * (1 + 4 * 2)


def test_one_token_choices_cost_no_more_than_their_context(tokenizer):
    model = random_model("Llama", SIZES)
    requests = [
        (("", ""), list(range(3, 13 + n)), [token]) for n in (0, 1) for token in (4, 5, 6)
    ]
    scorer = resident(model, tokenizer)
    assert_same(scorer._loglikelihood_tokens(requests), plain(model, tokenizer, requests))
    assert scorer.packs
    put_out = []
    model.lm_head.register_forward_hook(lambda _, x, __: put_out.append(x[0].shape[:2].numel()))
    scorer._loglikelihood_tokens(requests)
    assert sum(put_out) == 2


def test_rolling_loglikelihoods_of_long_and_short_texts_are_lm_evals(tokenizer):
    model = random_model("Llama", SIZES)
    texts = [
        " ".join(str((n * k) % 30) for k in range(1, length))
        for n, length in ((1, 200), (2, 300), (3, 9), (4, 2), (5, 64), (6, 65), (7, 66))
    ]
    requests = [Instance("loglikelihood_rolling", {}, (text,), 0) for text in texts]
    own = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4)
    expected = own.loglikelihood_rolling(requests, disable_tqdm=True)
    ours = resident(model, tokenizer).loglikelihood_rolling(requests, disable_tqdm=True)
    assert ours == pytest.approx(expected, abs=1e-3)


@pytest.fixture(scope="module")
def shipped_tasks():
    names = ("score", "town")
    return load_tasks(
        [TaskSpec(name) for name in names], [ROOT / "fitness" / "tasks"], offline=True
    )


@pytest.mark.parametrize("expert", ["base", "score", "town"])
def test_the_quickstarts_models_answer_its_tasks_as_in_lm_eval(expert, shipped_tasks):
    model = transformers.AutoModelForCausalLM.from_pretrained(ZOO / expert, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(ZOO / expert)
    own = HFLM(pretrained=model.eval(), tokenizer=tokenizer, batch_size=32)
    scorer = resident(model, transformers.AutoTokenizer.from_pretrained(ZOO / expert))
    for task in shipped_tasks.values():
        items = task.bank.items("search")[:30]
        asked = {item: task.requests(item, None) for item in items}
        flat = [instance for of_item in asked.values() for instance in of_item]
        theirs = own.loglikelihood(flat, disable_tqdm=True)
        ours = scorer.loglikelihood(flat, disable_tqdm=True)
        assert_same(ours, theirs, within=1e-3)
        decisions = []
        for replies in (ours, theirs):
            for instance, reply in zip(flat, replies, strict=True):
                instance.resps = [reply]
            values = task.values(asked)
            decisions.append([(v["acc"], v["acc_norm"]) for v in values.values()])
        assert decisions[0] == decisions[1]
    assert scorer.packs


@pytest.mark.skipif(not STORIES.exists(), reason=f"{STORIES} is not on this machine")
def test_a_trained_model_continues_stories_as_in_lm_eval():
    model = transformers.AutoModelForCausalLM.from_pretrained(STORIES, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(STORIES)
    names, things = ("Tom", "Lily", "Ben", "Mia"), ("a red ball", "his toy", "it", "the park")
    requests = [
        Instance(
            "loglikelihood",
            {},
            (f"Once upon a time, {n} had {t}. One day, {n} lost", f" {c}."),
            k,
        )
        for n in names
        for t in things
        for k, c in enumerate(things)
    ]
    own = HFLM(pretrained=model.eval(), tokenizer=tokenizer, batch_size=16)
    scorer = resident(model, transformers.AutoTokenizer.from_pretrained(STORIES))
    assert_same(
        scorer.loglikelihood(requests, disable_tqdm=True),
        own.loglikelihood(requests, disable_tqdm=True),
        within=1e-3,
    )
    assert scorer.packs


words = st.lists(st.integers(0, 3), min_size=1, max_size=5).map(tuple)


@given(context=words, continuations=st.lists(words, min_size=1, max_size=6))
def test_a_tree_holds_each_proper_beginning_once_and_shows_a_token_its_ancestors(
    context, continuations
):
    item = packed_item(context, tuple(continuations))
    beginnings = {c[:k] for c in continuations for k in range(1, len(c))}
    assert len(item.nodes) == len(beginnings)
    for path, continuation in zip(item.paths, continuations, strict=True):
        assert path[0] == 0
        nodes = [position - 1 for position in path[1:]]
        assert [item.nodes[node] for node in nodes] == list(continuation[:-1])
        for depth, node in enumerate(nodes):
            assert item.depths[node] == depth
            assert item.visible[node].nonzero().flatten().tolist() == sorted(nodes[: depth + 1])


@given(
    items=st.lists(
        st.tuples(words, st.lists(words, min_size=1, max_size=4)), min_size=1, max_size=4
    )
)
def test_a_row_reads_as_its_context_with_each_continuation(items):
    made = [packed_item(context, tuple(answers)) for context, answers in items]
    tokens, positions, visible = layout(made)
    width = max(len(context) for context, _ in items)
    for row, item in enumerate(made):
        for path, continuation in zip(item.paths, item.continuations, strict=True):
            last = width - 1 + path[-1]
            seen = visible[row, 0, last].nonzero().flatten()
            order = seen[positions[row, seen].argsort()]
            read = item.context + continuation[:-1]
            assert tokens[row, order].tolist() == list(read)
            assert positions[row, order].tolist() == list(range(len(read)))
    assert visible.diagonal(dim1=2, dim2=3).all()


@given(
    continuations=st.lists(st.integers(1, 300), min_size=1, max_size=12),
    context=st.integers(1, 400),
    longest=st.integers(300, 900),
)
def test_many_continuations_are_spread_over_rows_in_their_order(
    continuations, context, longest
):
    answers = [(n,) * length for n, length in enumerate(continuations)]
    items = packed_items((1,) * context, answers, longest)
    assert [a for item in items for a in item.continuations] == answers
    for item in items:
        if len(item.continuations) > 1:
            assert item.columns <= longest
            assert len(item.nodes) <= max(256, context)


shapes = st.lists(st.tuples(st.integers(1, 60), st.integers(0, 20)), max_size=40).map(tuple)
limits = st.builds(
    Limits, st.integers(1, 8), st.integers(10, 90), st.integers(5, 200), st.integers(1, 100)
)


@settings(deadline=None)
@given(shapes=shapes, limits=limits)
def test_batches_hold_every_item_once_within_the_limits(shapes, limits):
    plan = batches(shapes, limits)
    assert sorted(k for batch in plan for k in batch) == list(range(len(shapes)))
    space = limits.rows * max((sum(shape) for shape in shapes), default=0)
    for batch in plan:
        context, tree = (max(shapes[k][i] for k in batch) for i in (0, 1))
        if len(batch) > 1:
            assert context + tree <= limits.columns
            assert len(batch) * (context + tree) <= space
            assert len(batch) * (tree + 1) <= limits.outputs


@settings(deadline=None)
@given(shapes=shapes, limits=limits)
def test_batches_are_no_dearer_than_one_item_a_pass(shapes, limits):
    plan = batches(shapes, limits)
    padded = sum(
        len(b) * (max(shapes[k][0] for k in b) + max(shapes[k][1] for k in b)) for b in plan
    )
    alone = sum(map(sum, shapes)) + limits.pass_cost * len(shapes)
    assert padded + limits.pass_cost * len(plan) <= alone


def test_short_items_do_not_wait_for_long_ones():
    plan = batches(((500, 0),) * 2 + ((10, 0),) * 3, Limits(16, 9999, 9999, 25))
    assert sorted(map(sorted, plan)) == [[0, 1], [2, 3, 4]]


def test_probes_branch_at_once_and_have_contexts_of_two_lengths():
    groups = {(5, 6, 7, 8, 9): [(10, 11)], (5, 6): [(10,), (12, 13)]}
    made = probes(groups, longest=64)
    assert len({len(item.context) for item in made}) == 2
    assert len({item.continuations for item in made}) == 1
    (branches,) = {item.continuations for item in made}
    assert len({tokens[0] for tokens in branches}) == len(branches) >= 2
    assert all(len(tokens) > 1 for tokens in branches)
    assert max(item.columns for item in probes(groups, longest=15)) <= 15
    assert probes({(5,): [(6,)]}, longest=64) == ()


def test_packed_answers_that_are_wrong_are_told_from_rounding():
    right = [[-10.0, -7.0], [-14.0, -9.0]]
    near = [[-10.0002, -7.0], [-14.0, -9.0]]
    wrong = [[-10.0, -7.01], [-14.0, -9.0]]
    assert (
        disagreement(near, right, torch.float32) < 1 < disagreement(wrong, right, torch.float32)
    )
    assert disagreement(wrong, right, torch.bfloat16) < 1
    assert disagreement(right, [right[0], right[0]], torch.float32) is None
    assert disagreement(right, [[float("nan"), 0.0], right[1]], torch.float32) is None
    not_numbers = [[float("nan"), -7.0], right[1]]
    assert not disagreement(not_numbers, right, torch.float32) <= 1
