import json
import shutil

import pytest
import torch
from merging.tiny_adapters import make_adapter, merged_weights, peft
from merging.tiny_llamas import recipe_of
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from evomerge.core.errors import CheckpointError, ConfigError, StoreError
from evomerge.merging.checkpoint import open_source
from evomerge.merging.engine import MergeEngine
from evomerge.merging.low_rank.factors import Factors
from evomerge.merging.low_rank.merge_adapters import LowRankMethod, merge_adapters
from evomerge.merging.low_rank.spaces import in_core_space, in_knots

WEIGHTS = (0.7, 0.5, 0.4)


@pytest.fixture(scope="session")
def adapters(llamas, tmp_path_factory):
    """Three adapters of one base: other ranks, scales and modules."""
    root = tmp_path_factory.mktemp("adapters")
    options = [
        {"r": 2, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]},
        {"r": 4, "use_rslora": True, "target_modules": ["q_proj", "up_proj", "embed_tokens"]},
        {"r": 3, "target_modules": ["q_proj", "v_proj"], "rank_pattern": {"v_proj": 1}},
    ]
    for seed, given in enumerate(options):
        make_adapter(
            llamas["base"], root / f"{seed}", seed=seed, init_lora_weights=False, **given
        )
        weights = load_file(root / f"{seed}/adapter_model.safetensors")
        kept = {
            n: t for n, t in weights.items() if "lora_" in n
        }  # without peft's whole embedding
        save_file(kept, root / f"{seed}/adapter_model.safetensors")
    return [root / f"{seed}" for seed in range(3)]


def materialised(llamas, adapters, operator, parameters=None, own=None):
    """The full-size merge of base + adapter, by tensor."""
    sources = {"base": open_source(str(llamas["base"]))}
    for number, folder in enumerate(adapters):
        sources[f"{number}"] = open_source(f"{llamas['base']}+{folder}")
    models = {
        f"{number}": {"weight": weight, **(own or {})} for number, weight in enumerate(WEIGHTS)
    }
    recipe = recipe_of(models, operator, "base", parameters=parameters or {})
    return dict(MergeEngine(sources).tensors(recipe))


def over_base(llamas, adapter):
    source = open_source(f"{llamas['base']}+{adapter}")
    return {name: source.read(name) for name in source.tensors}


@pytest.mark.parametrize("space", ["linear", "knots", "core_space"])
def test_a_weighted_sum_is_that_of_the_full_matrices(llamas, adapters, tmp_path, space):
    merge_adapters(adapters, WEIGHTS, space, tmp_path / "out")
    ours = over_base(llamas, tmp_path / "out")
    expected = materialised(llamas, adapters, "task_arithmetic")
    base = open_source(str(llamas["base"]))
    changed = [n for n in expected if not torch.equal(expected[n], base.read(n))]
    assert len(changed) == 7
    for name, tensor in expected.items():
        torch.testing.assert_close(ours[name], tensor, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("space", ["linear", "knots", "core_space"])
def test_peft_loads_the_merged_adapter(llamas, adapters, tmp_path, space):
    operator = None if space == "linear" else "ties"
    merge_adapters(adapters, WEIGHTS, LowRankMethod(space, operator), tmp_path / "out")
    base = AutoModelForCausalLM.from_pretrained(llamas["base"])
    loaded = peft.PeftModel.from_pretrained(base, tmp_path / "out")
    ours = over_base(llamas, tmp_path / "out")
    theirs = merged_weights(loaded)
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name])


def random_tasks(ranks=(2, 4, 3), outputs=12, inputs=9):
    generator = torch.Generator().manual_seed(3)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    return [Factors(normal(outputs, rank), normal(rank, inputs)) for rank in ranks]


def test_knots_is_the_decomposition_of_the_full_matrices():
    tasks = random_tasks()
    full = torch.cat([task.b @ task.a for task in tasks], dim=1)
    u, sizes, v = torch.linalg.svd(full, full_matrices=False)
    seen = []

    def keep_large(parts):
        seen.extend(parts)
        return sum(part * (part.abs() > 0.1) for part in parts)

    merged = in_knots(tasks, keep_large)
    parts = [part[:9] for part in v.split(9, dim=1)]
    count = int((sizes > 1e-9).sum())
    for ours, theirs in zip(seen, parts, strict=True):
        torch.testing.assert_close(ours.abs(), theirs[:count].abs())  # signs are free
    expected = (u * sizes)[:, :count] @ sum(p[:count] * (p[:count].abs() > 0.1) for p in parts)
    torch.testing.assert_close(merged.b @ merged.a, expected)


def test_core_space_holds_all_of_each_change():
    tasks = random_tasks()
    for kept in range(3):
        merged = in_core_space(tasks, lambda matrices, kept=kept: matrices[kept])
        torch.testing.assert_close(merged.b @ merged.a, tasks[kept].b @ tasks[kept].a)
    shapes = []
    in_core_space(tasks, lambda matrices: shapes.append(matrices[0].shape) or matrices[0])
    assert shapes == [(9, 9)]


def test_a_change_merged_by_an_operator_lies_in_the_span_of_the_tasks(
    llamas, adapters, tmp_path
):
    method = LowRankMethod("core_space", "ties", {"density": 0.4, "normalize": True})
    merge_adapters(adapters, WEIGHTS, method, tmp_path / "out")
    tasks = []
    for folder in adapters:
        source = open_source(f"{llamas['base']}+{folder}")
        base = open_source(str(llamas["base"]))
        name = "model.layers.1.self_attn.v_proj.weight"
        tasks.append(source.read(name).double() - base.read(name).double())
    change = over_base(llamas, tmp_path / "out")[name].double() - base.read(name).double()
    u = torch.linalg.svd(torch.cat(tasks, 1))[0][:, :3]
    # all of the merged change lies in the span of the tasks' changes
    torch.testing.assert_close(u @ (u.T @ change), change, atol=1e-6, rtol=1e-4)
    assert not torch.allclose(
        change, sum(w * t for w, t in zip(WEIGHTS, tasks, strict=True)), atol=1e-3
    )


def test_a_lower_rank_is_the_nearest_matrix():
    wide = Factors(
        *(
            torch.cat([getattr(t, part) for t in random_tasks()], d)
            for part, d in (("b", 1), ("a", 0))
        )
    )
    full = wide.b @ wide.a
    u, sizes, v = torch.linalg.svd(full, full_matrices=False)
    cut = wide.truncated(4)
    assert cut.rank == 4
    torch.testing.assert_close(cut.b @ cut.a, (u[:, :4] * sizes[:4]) @ v[:4])
    assert wide.truncated(99) is wide


def test_the_merged_rank_is_bounded_where_asked(adapters, tmp_path):
    merge_adapters(adapters, WEIGHTS, LowRankMethod(rank=2), tmp_path / "out")
    weights = load_file(tmp_path / "out/adapter_model.safetensors")
    assert {t.shape[0] for n, t in weights.items() if "_A" in n} == {2}
    assert json.loads((tmp_path / "out/adapter_config.json").read_text())["r"] == 2


def test_masks_follow_the_seed(adapters, tmp_path):
    found = []
    for number, seed in enumerate((1, 1, 2)):
        method = LowRankMethod("core_space", "dare_ties", {"density": 0.5}, seed=seed)
        merge_adapters(adapters, WEIGHTS, method, tmp_path / f"{number}")
        found.append((tmp_path / f"{number}/adapter_model.safetensors").read_bytes())
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize(
    ("weights", "method", "message"),
    [
        ((1.0,), "linear", "one weight an adapter"),
        (WEIGHTS, "knotts", "did you mean 'knots'"),
        (WEIGHTS, LowRankMethod("knots", "tise"), "did you mean 'ties'"),
        (WEIGHTS, LowRankMethod("knots", "ties", {"densiti": 1}), "densiti"),
        (WEIGHTS, LowRankMethod("knots", "fisher"), "statistics"),
        (WEIGHTS, LowRankMethod(rank=0), "at least 1"),
        (
            WEIGHTS,
            LowRankMethod("linear", "ties"),
            "'linear' is the weighted sum, got operator",
        ),
        (WEIGHTS, LowRankMethod(parameters={"density": 0.1}), "parameter 'density'"),
        (WEIGHTS, LowRankMethod("knots", "sce"), "sce has no weights of models"),
    ],
    ids=[
        "weights",
        "space",
        "operator",
        "parameter",
        "statistics",
        "rank",
        "operator of a sum",
        "parameter of a sum",
        "weights without use",
    ],
)
def test_a_wrong_method_is_refused(adapters, tmp_path, weights, method, message):
    with pytest.raises(ConfigError, match=message):
        merge_adapters(adapters, weights, method, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("operator", "count"),
    [
        ("slerp", 1),
        ("slerp", 3),
        ("nuslerp", 1),
        ("nuslerp", 3),
        ("nearswap", 3),
        ("arcee_fusion", 3),
        ("passthrough", 3),
        ("model_stock", 1),
    ],
)
@pytest.mark.parametrize("space", ["knots", "core_space"])
def test_operators_merge_as_many_adapters_as_they_can(
    adapters, tmp_path, space, operator, count
):
    with pytest.raises(ConfigError, match=rf"{operator} merges .*models.*, got {count}\."):
        merge_adapters(
            adapters[:count], (1.0,) * count, LowRankMethod(space, operator), tmp_path / "out"
        )
    assert not (tmp_path / "out").exists()


def test_a_bias_of_any_module_is_refused(adapters, tmp_path):
    shutil.copytree(adapters[0], tmp_path / "biased")
    file = tmp_path / "biased/adapter_model.safetensors"
    weights = load_file(file)
    last = sorted(name for name in weights if name.endswith("lora_B.weight"))[-1]
    bias = last.replace("lora_B.weight", "lora_B.bias")
    save_file(weights | {bias: torch.ones(len(weights[last]))}, file)
    with pytest.raises(CheckpointError, match="is a bias") as refused:
        merge_adapters([adapters[1], tmp_path / "biased"], (1, 1), "linear", tmp_path / "out")
    assert bias in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_adapters_of_other_bases_or_with_whole_tensors_are_refused(llamas, adapters, tmp_path):
    make_adapter(
        llamas["base"], tmp_path / "saved", target_modules=["q_proj"], modules_to_save=["norm"]
    )
    make_adapter(llamas["wide"], tmp_path / "wide", target_modules=["embed_tokens"])
    with pytest.raises(CheckpointError) as refused:
        merge_adapters(
            [*adapters[:2], tmp_path / "saved", tmp_path / "wide"],
            [1.0] * 4,
            "linear",
            tmp_path / "out",
        )
    assert "no low-rank form" in str(refused.value)
    assert "embed_tokens changes a matrix of [32, 80]" in str(refused.value)


def test_a_folder_in_use_is_left_alone(adapters, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/notes").write_text("mine")
    with pytest.raises(StoreError, match="exists already"):
        merge_adapters(adapters, WEIGHTS, "linear", tmp_path / "out")
    assert [f.name for f in (tmp_path / "out").iterdir()] == ["notes"]
