"""Kinship of models against direct formulas, and the groups that follow from it."""

import json
import shutil

import numpy as np
import pytest
import torch
from merging.tiny_llamas import make_llama
from safetensors.torch import load_file, save_file

from evomerge.core.errors import CheckpointError
from evomerge.merging import pairwise_sums
from evomerge.merging.checkpoint import open_source
from evomerge.merging.kinship import kin_groups, kinship_matrix

MEASURES = ("cosine", "correlation", "distance", "sign_agreement", "similarity")


def opened(**folders):
    return {name: open_source(str(folder)) for name, folder in folders.items()}


def weights(folder):
    stored = load_file(folder / "model.safetensors")
    return {name: tensor.double().numpy() for name, tensor in stored.items()}


def changed(folder, change):
    stored = load_file(folder / "model.safetensors")
    change(stored)
    save_file(stored, folder / "model.safetensors")
    return folder


def random_like(stored, seed, scale=0.01):
    generator = torch.Generator().manual_seed(seed)
    return {n: scale * torch.randn(t.shape, generator=generator) for n, t in stored.items()}


def moved(llamas, folder, *steps):
    """The base plus multiples of directions: (direction's seed, multiple)."""
    shutil.copytree(llamas["base"], folder)

    def move(stored):
        for seed, multiple in steps:
            for name, step in random_like(stored, seed).items():
                stored[name] += multiple * step

    return changed(folder, move)


def by_formula(vectors):
    """Cosine, correlation, distance and sign agreement of the rows of a matrix."""
    count = len(vectors)
    cosine, distance, agreement = (np.ones((count, count)) for _ in range(3))
    for i, a in enumerate(vectors):
        for j, b in enumerate(vectors):
            cosine[i, j] = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
            distance[i, j] = np.linalg.norm(a - b)
            both = (a != 0) & (b != 0)
            agreement[i, j] = np.mean(np.sign(a[both]) == np.sign(b[both]))
    return {
        "cosine": cosine,
        "correlation": np.corrcoef(vectors),
        "distance": distance,
        "sign_agreement": agreement,
    }


def column_cosine(a, b):
    columns = torch.nn.functional.cosine_similarity(torch.tensor(a), torch.tensor(b), dim=0)
    return float(columns.mean())


def similarity(models):
    inner = [n for n, w in models[0].items() if "self_attn" in n or "mlp" in n]
    return [
        [np.mean([column_cosine(a[n], b[n]) for n in inner]) for b in models] for a in models
    ]


@pytest.mark.parametrize("block", [1, 500, 1 << 15], ids=["rows", "blocks", "whole"])
@pytest.mark.parametrize("stored", ["float32", "bfloat16"])
def test_task_vectors_are_compared_as_the_formulas_say(llamas, monkeypatch, stored, block):
    monkeypatch.setattr(pairwise_sums, "_BLOCK", block)
    names = (
        ("base", "a", "b", "c") if stored == "float32" else ("half_base", "half_a", "half_b")
    )
    base, *experts = (weights(llamas[name]) for name in names)
    vectors = np.stack(
        [np.concatenate([(e[n] - base[n]).ravel() for n in base]) for e in experts]
    )
    sources = opened(**{name: llamas[name] for name in names})
    found = kinship_matrix({n: sources[n] for n in names[1:]}, sources[names[0]])
    assert found.names == names[1:]
    assert found.entries == vectors.shape[1]
    norms = np.linalg.norm(vectors, axis=1)
    np.testing.assert_allclose(found.norms, norms, rtol=1e-12)
    below = np.linalg.norm(np.concatenate([w.ravel() for w in base.values()]))
    np.testing.assert_allclose(found.relative_norms, norms / below, rtol=1e-12)
    expected = by_formula(vectors) | {"similarity": similarity(experts)}
    for measure in MEASURES:
        values = getattr(found, measure)
        assert values.dtype == np.float64
        np.testing.assert_allclose(values, expected[measure], atol=1e-9, err_msg=measure)


def test_without_a_base_the_weights_are_compared(llamas):
    models = [weights(llamas[name]) for name in "abc"]
    vectors = np.stack([np.concatenate([w.ravel() for w in m.values()]) for m in models])
    found = kinship_matrix(opened(**{name: llamas[name] for name in "abc"}))
    assert found.relative_norms is None
    assert found.measure is found.similarity
    expected = by_formula(vectors) | {"similarity": similarity(models)}
    for measure in MEASURES:
        np.testing.assert_allclose(
            getattr(found, measure), expected[measure], atol=1e-9, err_msg=measure
        )


@pytest.mark.parametrize("based", [True, False], ids=["base", "no base"])
def test_the_measures_are_symmetric_and_do_not_depend_on_the_order(llamas, based):
    sources = opened(**{name: llamas[name] for name in "abc"})
    base = open_source(str(llamas["base"])) if based else None
    found = kinship_matrix(sources, base)
    turned = kinship_matrix({name: sources[name] for name in "cab"}, base)
    order = [turned.names.index(name) for name in found.names]
    for measure in MEASURES:
        values = getattr(found, measure)
        assert np.array_equal(values, values.T), measure
        other = getattr(turned, measure)[np.ix_(order, order)]
        np.testing.assert_allclose(other, values, atol=1e-12, err_msg=measure)


def test_the_numbers_are_the_same_for_any_number_of_threads(tmp_path):
    generator = torch.Generator().manual_seed(1)
    for name in "abc":
        stored = {
            f"layers.{k}.weight": torch.randn(700, 300, generator=generator) for k in range(3)
        }
        save_file(stored, tmp_path / f"{name}.safetensors")
    sources = opened(**{name: tmp_path / f"{name}.safetensors" for name in "ab"})
    base = open_source(str(tmp_path / "c.safetensors"))
    threads = torch.get_num_threads()
    made = []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            made.append(kinship_matrix(sources, base))
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    for measure in (*MEASURES, "norms"):
        assert np.array_equal(getattr(made[0], measure), getattr(made[1], measure))


def test_orthogonal_task_vectors_have_no_kinship_and_opposite_ones_a_negative_one(
    llamas, tmp_path
):
    def whole_numbers(stored):  # so that sums are exact
        for tensor in stored.values():
            tensor.ceil_()

    base = changed(shutil.copytree(llamas["base"], tmp_path / "base"), whole_numbers)
    models = {}
    for name, place, sign in (("up", 0, 1), ("down", 0, -1), ("aside", 1, 1)):

        def move(stored, place=place, sign=sign):
            for tensor in stored.values():
                tensor.view(-1)[place::2] += sign * 4

        models[name] = changed(shutil.copytree(base, tmp_path / name), move)
    found = kinship_matrix(opened(**models), open_source(str(base)))
    up, down, aside = range(3)
    assert found.cosine[up, down] == -1
    assert found.sign_agreement[up, down] == 0
    assert found.cosine[up, aside] == found.cosine[down, aside] == 0
    assert np.isnan(found.sign_agreement[up, aside])


def test_a_copy_of_a_model_is_in_its_group_at_no_distance(llamas, tmp_path):
    models = {name: llamas[name] for name in "abc"}
    models["again"] = shutil.copytree(llamas["b"], tmp_path / "again")
    for base in (None, open_source(str(llamas["base"]))):
        found = kinship_matrix(opened(**models), base)
        assert found.distance[1, 3] == 0
        assert found.cosine[1, 3] == pytest.approx(1, abs=1e-12)
        assert found.similarity[1, 3] == pytest.approx(1, abs=1e-12)
        assert (1, 3) in kin_groups(found.measure, 0.999)


def test_a_small_distance_between_large_weights_is_exact(llamas, tmp_path):
    near = changed(
        shutil.copytree(llamas["a"], tmp_path / "near"),
        lambda stored: stored["model.norm.weight"].view(-1)[:1].add_(2**-20),
    )
    found = kinship_matrix(opened(a=llamas["a"], near=near))
    assert found.distance[0, 1] == pytest.approx(2**-20, rel=0.1)


def test_a_model_with_the_bases_weights_has_no_angle(llamas, tmp_path):
    same = shutil.copytree(llamas["base"], tmp_path / "same")
    base = open_source(str(llamas["base"]))
    found = kinship_matrix(opened(a=llamas["a"], same=same, b=llamas["b"]), base)
    assert found.norms[1] == 0
    assert np.isnan(found.cosine[1]).all()
    assert np.isnan(found.correlation[:, 1]).all()
    assert np.isfinite(found.cosine[np.ix_([0, 2], [0, 2])]).all()
    assert kin_groups(found.cosine, -1.0) == ((0, 2), (1,))


def test_the_rows_that_all_models_have_are_compared(llamas, tmp_path):
    """A fine-tune with added tokens differs from one without them in nothing else."""

    def lengthen(stored):
        rows = stored["model.embed_tokens.weight"]
        stored["model.embed_tokens.weight"] = torch.cat([rows, torch.full((6, 32), 9.0)])

    longer = changed(shutil.copytree(llamas["a"], tmp_path / "longer"), lengthen)
    config = json.loads((longer / "config.json").read_text())
    (longer / "config.json").write_text(json.dumps(config | {"vocab_size": 70}))
    base = open_source(str(llamas["base"]))
    plain = kinship_matrix(opened(a=llamas["a"], b=llamas["b"]), base)
    found = kinship_matrix(opened(a=longer, b=llamas["b"]), base)
    for measure in MEASURES:
        assert np.array_equal(getattr(plain, measure), getattr(found, measure)), measure
    assert found.shortened == {"model.embed_tokens.weight": 64}
    assert plain.shortened == {}
    for alone in (opened(a=longer, b=llamas["b"]), opened(b=llamas["b"], a=longer)):
        assert kinship_matrix(alone).entries == plain.entries


def test_an_output_head_of_its_own_is_compared_with_the_embedding_of_a_tied_model(llamas):
    sources = opened(a=llamas["a"], untied=llamas["untied"])
    forth = kinship_matrix(sources)
    back = kinship_matrix(dict(reversed(sources.items())))
    assert (
        forth.entries
        == back.entries
        == sum(i.entries for i in sources["untied"].tensors.values())
    )
    assert forth.distance[0, 1] == pytest.approx(back.distance[0, 1], rel=1e-12)


def test_tensors_that_not_all_models_have_are_left_out(llamas, copied):
    def add(stored):
        stored["v_head.weight"] = torch.ones(1, 32)

    added = changed(copied("a"), add)
    base = open_source(str(llamas["base"]))
    found = kinship_matrix(opened(a=added, b=llamas["b"]), base)
    plain = kinship_matrix(opened(a=llamas["a"], b=llamas["b"]), base)
    assert found.left_out == ("v_head.weight",)
    assert np.array_equal(found.cosine, plain.cosine)


def test_columns_that_are_zero_in_both_models_do_not_count(llamas, copied):
    name = "model.layers.0.mlp.down_proj.weight"

    def clear(stored):
        stored[name][:, :5] = 0

    pruned = changed(copied("a"), clear)
    again = shutil.copytree(pruned, pruned.parent / "again")
    found = kinship_matrix(opened(pruned=pruned, again=again, a=llamas["a"]))
    assert found.similarity[0, 1] == pytest.approx(1, abs=1e-12)
    matrices = 2 * 7
    assert found.similarity[0, 2] == pytest.approx(1 - 5 / 48 / matrices, abs=1e-9)


def test_a_stack_of_experts_is_compared_as_one_tall_matrix(tmp_path):
    generator = torch.Generator().manual_seed(1)
    name, stacks = "layers.0.experts.up_proj", {}
    for model in "ab":
        stacks[model] = torch.randn(4, 5, 3, generator=generator)
        save_file({name: stacks[model]}, tmp_path / f"{model}.safetensors")
    found = kinship_matrix(opened(**{m: tmp_path / f"{m}.safetensors" for m in "ab"}))
    tall = [stacks[model].double().reshape(20, 3).numpy() for model in "ab"]
    assert found.similarity[0, 1] == pytest.approx(column_cosine(*tall), abs=1e-12)


def test_models_of_another_architecture_are_refused_in_one_message_each(llamas, tmp_path):
    wide = make_llama(tmp_path / "wide", seed=1)
    changed(
        wide, lambda s: s.update({n: t.repeat(2, 1) for n, t in s.items() if "up_proj" in n})
    )
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text("{}")
    save_file({"net.0.weight": torch.ones(3, 3)}, other / "model.safetensors")
    sources = opened(a=llamas["a"], deep=llamas["deep"], wide=wide, other=other)
    with pytest.raises(CheckpointError) as refused:
        kinship_matrix(sources, open_source(str(llamas["base"])))
    deep, wide_said, other_said = str(refused.value).splitlines()
    assert deep.startswith("deep: has 3 layers, the base has 2")
    assert "wide: model.layers.0.mlp.up_proj.weight has shape [96, 32]" in wide_said
    assert other_said.startswith("other: has 0 of the ")


def test_quantized_and_damaged_weights_are_refused_by_name(llamas, copied):
    def quantize(stored):
        stored["model.layers.0.mlp.up_proj.weight"] = torch.ones(48, 32, dtype=torch.int8)

    quantized = changed(copied("a"), quantize)
    with pytest.raises(CheckpointError, match=r"q: model\.layers\.0\.mlp\.up_proj.* is I8"):
        kinship_matrix(opened(b=llamas["b"], q=quantized))

    def damage(stored):
        stored["model.norm.weight"][3] = float("nan")

    damaged = changed(copied("b"), damage)
    with pytest.raises(CheckpointError) as refused:
        kinship_matrix(opened(a=llamas["a"], d=damaged), open_source(str(llamas["base"])))
    assert str(refused.value).startswith("d: model.norm.weight holds NaN")
    assert len(str(refused.value).splitlines()) == 1
    with pytest.raises(CheckpointError, match=r"^the base: model\.norm\.weight holds NaN"):
        kinship_matrix(opened(a=llamas["a"]), open_source(str(damaged)))


def test_a_source_may_be_called_as_messages_call_the_base(llamas):
    sources = opened(**{"the base": llamas["a"], "b": llamas["b"]})
    found = kinship_matrix(sources, open_source(str(llamas["base"])))
    plain = kinship_matrix(
        opened(a=llamas["a"], b=llamas["b"]), open_source(str(llamas["base"]))
    )
    assert np.array_equal(found.cosine, plain.cosine)


def test_groups_are_of_close_kin_and_hold_every_model_once(llamas, tmp_path):
    models = {
        "left": moved(llamas, tmp_path / "left", (1, 1), (11, 0.1)),
        "right": moved(llamas, tmp_path / "right", (2, 1), (12, 0.1)),
        "left2": moved(llamas, tmp_path / "left2", (1, 2), (13, 0.1)),
        "alone": moved(llamas, tmp_path / "alone", (3, 1)),
        "right2": moved(llamas, tmp_path / "right2", (2, 0.5), (14, 0.05)),
    }
    found = kinship_matrix(opened(**models), open_source(str(llamas["base"])))
    assert kin_groups(found.measure, 0.9) == ((0, 2), (1, 4), (3,))
    assert kin_groups(found.measure, 1.0) == ((0,), (1,), (2,), (3,), (4,))
    assert kin_groups(found.measure, -1.0) == ((0, 1, 2, 3, 4),)


def test_the_ends_of_a_chain_are_not_joined_by_what_lies_between_them():
    """A merge of two unrelated models is near to both; they stay unrelated."""
    half = np.sqrt(0.5)
    chain = np.array([[1, half, 0], [half, 1, half], [0, half, 1]])
    assert len(kin_groups(chain, 0.7)) == 2


def test_progress_adds_up_to_all_weights(llamas):
    shares = []
    kinship_matrix(opened(a=llamas["a"], b=llamas["b"]), advance=shares.append)
    assert len(shares) > 1
    assert sum(shares) == pytest.approx(1)
