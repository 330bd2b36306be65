"""Passes that begin behind known layers give the logits of whole passes, bit for bit."""

import logging
import math
import types

import pytest
import torch
import transformers as hf

from evomerge.fitness.packed_choices import layout, packed_item
from evomerge.fitness.prefix_forward import PrefixForward

LAYERS = 5
SIZES = {
    "vocab_size": 46,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
GPT2 = {"vocab_size": 46, "n_embd": 32, "n_layer": LAYERS, "n_head": 4, "n_positions": 64}
MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
STACKS = {
    "Llama": (SIZES, "model.layers"),
    "GPT2": (GPT2, "transformer.h"),
    "OPT": ({**SIZES, "ffn_dim": 48, "word_embed_proj_dim": 32}, "model.decoder.layers"),
    "GPTNeoX": (SIZES, "gpt_neox.layers"),
    "Qwen3Moe": ({**SIZES, **MOE, "head_dim": 8}, "model.layers"),
    "Gemma2": ({**SIZES, "head_dim": 8, "sliding_window": 6}, "model.layers"),
}
ROOM = 2**22
PATHS = ((0, 1, 2, 3, 4), (0, 1, 2, 4, 4), (0, 1, 2, 3, 3), (1, 1, 2, 3, 4), (0, 1, 2, 4, 0))


def make(kind: str, dtype=torch.float32):
    sizes, stack = STACKS[kind]
    config = getattr(hf, f"{kind}Config")(**sizes)
    generator = torch.Generator().manual_seed(3)
    with torch.random.fork_rng():
        model = hf.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.25, generator=generator)
    return model.to(dtype), model.get_submodule(stack)


def batch(seed: int = 0, dtype=torch.float32) -> dict:
    """Packed rows, as the scorer makes them."""
    generator = torch.Generator().manual_seed(seed)

    def some(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(3, 46, (count,), generator=generator).tolist())

    tokens, positions, visible = layout(
        [packed_item(some(5 + 4 * k), (some(3), some(2), some(1))) for k in range(3)]
    )
    mask = torch.zeros(visible.shape, dtype=dtype)
    mask.masked_fill_(~visible, torch.finfo(dtype).min)
    return {
        "input_ids": tokens,
        "attention_mask": mask,
        "position_ids": positions,
        "use_cache": False,
        "logits_to_keep": 4,
    }


def put(model, stack, pool, path) -> None:
    """Make the model of these layers of the pool; one may stand in several places."""
    del stack[:]
    stack.extend([pool[k] for k in path])
    model.config.num_hidden_layers = len(path)


def whole(model, inputs) -> torch.Tensor:
    with torch.no_grad():
        return model(**inputs).logits


def said(path) -> list[str]:
    return [f"layer {k}" for k in path]


@pytest.mark.parametrize("kind", STACKS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_candidates_that_share_layers_get_the_logits_of_whole_passes(kind, dtype):
    model, stack = make(kind, dtype)
    pool, shared = list(stack), PrefixForward(model, ROOM)
    for path in (*PATHS, *PATHS[::-1]):
        if kind == "Gemma2" and path != tuple(sorted(path)):
            continue  # whose even layers look elsewhere than its odd ones
        put(model, stack, pool, path)
        shared.holds("embeddings", said(path))
        for seed in (1, 2):
            inputs = batch(seed, dtype)
            assert torch.equal(shared.logits(**inputs), whole(model, inputs))
        assert [*stack] == [pool[k] for k in path]
    assert shared.shares
    assert shared.statistics.saved > 0.3


@pytest.mark.parametrize("kind", ["Llama", "GPT2"])
def test_candidates_of_other_depths_share_as_well(kind):
    model, stack = make(kind)
    pool, shared = list(stack), PrefixForward(model, ROOM)
    deep = (0, 1, 2, 3, 3, 4, 0)
    for path in (
        deep[:5],
        deep[:3],
        deep,
        (0, 1, 4),
        (*deep[:6], 1),
        (0, 1, 2, 3, 1),
        (0, 1, 1),
    ):
        put(model, stack, pool, path)
        shared.holds("embeddings", said(path))
        assert torch.equal(shared.logits(**batch()), whole(model, batch()))
    assert shared.shares
    assert shared.statistics.saved > 0.2


def test_a_pass_with_a_cache_and_without_masks_is_shared_too():
    model, stack = make("Llama")
    pool, shared = list(stack), PrefixForward(model, ROOM)
    tokens, tried = batch()["input_ids"], 0
    for path in (
        (0, 1, 2, 3, 4),
        (0, 1, 3, 2, 4),
        (0, 1, 3, 4, 2),
    ):  # each in a place of its own
        put(model, stack, pool, path)
        shared.holds("embeddings", said(path))
        assert torch.equal(shared.logits(input_ids=tokens), whole(model, {"input_ids": tokens}))
        tried = tried or shared.statistics.run
    assert shared.shares
    assert shared.statistics.run - tried == 3 + 2  # behind two layers, and behind three


def test_the_head_may_differ_where_all_layers_are_shared():
    model, _ = make("Llama")
    shared = PrefixForward(model, ROOM)
    shared.holds("embeddings", said(range(LAYERS)))
    first = shared.logits(**batch())
    run = shared.statistics.run
    with torch.no_grad():
        model.lm_head.weight.mul_(2)
        model.model.norm.weight.add_(0.1)
    shared.unknown()
    shared.holds("embeddings", said(range(LAYERS)))
    second = shared.logits(**batch())
    assert torch.equal(second, whole(model, batch()))
    assert not torch.equal(first, second)
    assert shared.statistics.run == run


def test_nothing_is_shared_while_the_weights_are_not_known():
    model, stack = make("Llama")
    shared = PrefixForward(model, ROOM)
    shared.holds("embeddings", said(range(LAYERS)))
    shared.logits(**batch())
    shared.unknown()
    with torch.no_grad():
        stack[0].mlp.down_proj.weight.mul_(2)
    assert torch.equal(shared.logits(**batch()), whole(model, batch()))
    shared.holds("embeddings", ["another", *said(range(1, LAYERS))])
    with shared.unshared():
        held = shared.statistics.held
        shared.logits(**batch(9))
        assert shared.statistics.held == held
    assert torch.equal(shared.logits(**batch()), whole(model, batch()))


def test_a_batch_that_differs_in_one_input_shares_nothing():
    model, _ = make("Llama")
    shared = PrefixForward(model, ROOM)
    shared.holds("embeddings", said(range(LAYERS)))
    shared.logits(**batch())
    for name in ("input_ids", "position_ids", "attention_mask"):
        other = batch()
        other[name] = other[name].clone()
        other[name][0, ..., -1] += 1
        assert torch.equal(shared.logits(**other), whole(model, other)), name


def test_a_model_is_as_it_was_after_a_pass_that_fails():
    model, stack = make("Llama")
    pool, shared = list(stack), PrefixForward(model, ROOM)
    shared.holds("embeddings", said(range(LAYERS)))
    shared.logits(**batch())

    def fails(*_):
        raise RuntimeError("broken")

    handle = stack[4].register_forward_hook(fails)
    shared.holds("embeddings", [*said(range(4)), "another"])
    with pytest.raises(RuntimeError, match="broken"):
        shared.logits(**batch())
    handle.remove()
    assert [*stack] == pool
    assert not any(layer._forward_hooks for layer in pool)
    assert torch.equal(shared.logits(**batch()), whole(model, batch()))


def test_states_of_a_model_that_gives_nan_are_not_kept():
    model, stack = make("Llama")
    shared = PrefixForward(model, ROOM)
    with torch.no_grad():
        stack[2].mlp.down_proj.weight[0, 0] = math.nan
    shared.holds("embeddings", said(range(LAYERS)))
    assert shared.logits(**batch()).isnan().any()
    assert shared.statistics.held == 0
    assert shared.shares


class Toy(torch.nn.Module):
    """Three layers of which each may do what keeps it from being shared."""

    def __init__(self, layer) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(layer() for _ in range(3))
        self.device = torch.device("cpu")

    def forward(self, input_ids):
        carried = state = torch.nn.functional.one_hot(input_ids, 46).float()
        for layer in self.layers:
            given = layer(state, carried)
            state, carried = given if isinstance(given, tuple) else (given, state)
        return types.SimpleNamespace(logits=state)


class Layer(torch.nn.Module):
    """A linear map."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(46, 46) / 7)

    def forward(self, state, _):
        return torch.tanh(state @ self.weight)


class HandsOnMore(Layer):
    def forward(self, state, carried):
        return super().forward(state, carried), carried + 1


class LooksFurtherBack(Layer):
    """Takes what entered the layer before it."""

    def forward(self, state, carried):
        return super().forward(state + carried, carried)


class WritesInto(Layer):
    def forward(self, state, carried):
        made = super().forward(state, carried)
        state.zero_()
        return made


def answered_by(toy: Toy, shared: PrefixForward) -> list[bool]:
    """Whether each of three candidates of one path got the logits of whole passes."""
    tokens = torch.arange(6).reshape(2, 3)
    right = []
    for last in ("x", "x", "y"):
        shared.holds("embeddings", ["a", "b", last])
        right.append(torch.equal(shared.logits(input_ids=tokens), toy(tokens).logits))
    return right


@pytest.mark.parametrize(
    ("layer", "said"),
    [(HandsOnMore, "hand on more than"), (LooksFurtherBack, "depends on more than")],
)
def test_layers_that_need_more_than_a_state_are_not_shared_and_a_warning_says_why(
    layer, said, caplog
):
    with torch.random.fork_rng():
        toy = Toy(layer)
    shared = PrefixForward(toy, ROOM)
    with caplog.at_level(logging.WARNING):
        assert all(answered_by(toy, shared))
    assert not shared.shares
    assert not shared.asks
    assert len(caplog.messages) == 1
    assert said in caplog.text
    assert shared.statistics.held == 0


def test_layers_that_write_into_their_input_do_not_harm_what_is_kept():
    with torch.random.fork_rng():
        toy = Toy(WritesInto)
    shared = PrefixForward(toy, ROOM)
    assert all(answered_by(toy, shared))
    assert shared.statistics.saved > 0


class KnowsDepth(Layer):
    """Its scale depends on how many layers there are."""

    depth = 3

    def forward(self, state, _):
        return super().forward(state, _) / self.depth


def test_a_model_whose_first_layers_depend_on_its_depth_is_found_out(monkeypatch, caplog):
    with torch.random.fork_rng():
        toy = Toy(KnowsDepth)
    shared = PrefixForward(toy, ROOM)
    assert all(answered_by(toy, shared))
    assert shared.shares
    monkeypatch.setattr(KnowsDepth, "depth", 2)
    del toy.layers[2]
    tokens = torch.arange(6).reshape(2, 3)
    shared.holds("embeddings", ["a", "b"])
    assert torch.equal(shared.logits(input_ids=tokens), toy(tokens).logits)
    assert not shared.shares
    assert "depends on more than the layers before" in caplog.text


def test_models_with_several_stacks_share_nothing():
    sizes = {"vocab_size": 46, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_heads": 4}
    with torch.random.fork_rng():
        model = hf.T5ForConditionalGeneration(hf.T5Config(**sizes, num_layers=2)).eval()
    assert not PrefixForward(model, ROOM).shares


def test_states_stay_within_their_limit():
    model, stack = make("Llama")
    pool, limit = list(stack), 20_000
    shared = PrefixForward(model, limit)
    for path in (*PATHS, *PATHS):
        put(model, stack, pool, path)
        shared.holds("embeddings", said(path))
        for seed in range(4):
            inputs = batch(seed)
            assert torch.equal(shared.logits(**inputs), whole(model, inputs))
            assert shared.statistics.held <= limit
    assert 0 < shared.statistics.most_held <= limit
