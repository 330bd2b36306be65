"""The Python entry points over real models: run, resume, frames, export, lm-eval's verdict."""

import json
import random
import shutil

import numpy as np
import pytest
import torch
import yaml
from harness_verdict import harness_scores, recorded_scores
from quickstart import ROOT, ZOO, experiment, write_experiment
from transformers import AutoModelForCausalLM, AutoTokenizer

import evomerge
from evomerge.core.errors import ConfigError, StoreError
from evomerge.experiment.export import export_trial, merge_recipe
from evomerge.experiment.session import RunOptions, start
from evomerge.store.study_store import StudyStore

PLAIN = 6
"""Three sources and three baselines."""


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> evomerge.Study:
    folder = tmp_path_factory.mktemp("study")
    return evomerge.run(write_experiment(folder), out=folder / "run")


def test_trials_is_a_frame_with_every_source_baseline_and_candidate(study):
    frame = study.trials()
    assert list(frame["number"]) == list(range(1, PLAIN + 8 + 1))
    assert list(frame["kind"]) == ["source"] * 3 + ["baseline"] * 3 + ["candidate"] * 8
    assert set(frame["status"]) == {"complete"}
    assert frame["accuracy on sort"].between(0, 1).all()


def test_no_candidate_dominates_a_member_of_the_front(study):
    objectives = ["accuracy on sort", "gold_logprob on town"]
    candidates = study.trials().query("kind == 'candidate'")[objectives].to_numpy()
    for member in study.front()[objectives].to_numpy():
        better = (candidates >= member).all(axis=1) & (candidates > member).any(axis=1)
        assert not better.any()


def test_the_run_directory_holds_what_the_design_promises(study):
    names = {path.name for path in study.path.iterdir()}
    assert {"experiment.yaml", "resolved.yaml", "study.db", "report.html", "front.csv"} <= names
    front = study.front()
    assert len(list((study.path / "front").glob("*.recipe.yaml"))) == len(front)
    resolved = yaml.safe_load((study.path / "resolved.yaml").read_text())
    assert resolved["optimizer"] == {"name": "nsga2", "population": 6}
    assert resolved["evaluation"]["apply_chat_template"] is False


def test_two_runs_with_one_seed_give_the_same_trials(study, tmp_path):
    again = evomerge.run(write_experiment(tmp_path), out=tmp_path / "run")
    columns = [c for c in study.trials().columns if not c.startswith(("seconds", "asked"))]
    genes = [c for c in columns if c.startswith("gene") or "accuracy" in c or "logprob" in c]
    assert genes
    assert again.trials()[genes].equals(study.trials()[genes])


def test_a_run_leaves_the_global_random_generators_alone(tmp_path):
    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
    expected = (random.random(), np.random.rand(), torch.rand(1).item())  # noqa: NPY002
    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
    path = write_experiment(tmp_path, budget={"candidates": 7})
    evomerge.run(path, out=tmp_path / "run")
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected  # noqa: NPY002


def test_resume_with_more_candidates_goes_on_as_if_asked_for_them_at_first(study, tmp_path):
    path = write_experiment(tmp_path, budget={"candidates": 5})
    part = evomerge.run(path, out=tmp_path / "run")
    assert len(part.trials()) == PLAIN + 5
    whole = evomerge.resume(part.path, add=3)
    with (
        StudyStore.open(whole.path, read_only=True) as ours,
        StudyStore.open(study.path, read_only=True) as theirs,
    ):
        for mine, other in zip(ours.trials(), theirs.trials(), strict=True):
            assert (mine.genome, mine.estimates) == (other.genome, other.estimates)


def test_a_moved_run_and_moved_models_are_found_again(tmp_path):
    for name in ("base", "sort", "town"):
        shutil.copytree(ZOO / name, tmp_path / "here" / "zoo" / name)
    models = {"base": "zoo/base", "experts": {"sort": "zoo/sort", "town": "zoo/town"}}
    path = write_experiment(tmp_path / "here", models=models, budget={"candidates": 2})
    evomerge.run(path, out=tmp_path / "here" / "run")
    (tmp_path / "here").rename(tmp_path / "there")
    study = evomerge.resume(tmp_path / "there" / "run", add=1)
    assert len(study.trials()) == PLAIN + 3


def test_changed_weights_are_noticed_on_resume(tmp_path):
    for name in ("base", "sort", "town"):
        shutil.copytree(ZOO / name, tmp_path / "zoo" / name)
    models = {"base": "zoo/base", "experts": {"sort": "zoo/sort", "town": "zoo/town"}}
    path = write_experiment(tmp_path, models=models, budget={"candidates": 2})
    study = evomerge.run(path, out=tmp_path / "run")
    shutil.copy(ZOO / "score" / "model.safetensors", tmp_path / "zoo" / "sort")
    with pytest.raises(StoreError, match=r"the weights of model 'sort'.*have changed"):
        evomerge.resume(study.path, add=1)


def test_a_warm_start_proposes_the_old_front_first(study, tmp_path):
    path = write_experiment(tmp_path, seed=99)
    again = start(path, RunOptions(out=tmp_path / "run", warm_start=study.path))
    encoded_baseline = study.trial(PLAIN + 1).genome
    front = [study.trial(n).genome for n in study.front()["number"]]
    expected = [encoded_baseline, *(g for g in sorted(front, key=str) if g != encoded_baseline)]
    proposed = [again.trial(n).genome for n in range(PLAIN + 1, PLAIN + 1 + len(expected))]
    assert proposed[0] == encoded_baseline
    assert sorted(proposed[1:], key=str) == expected[1:]


def test_more_candidates_can_be_asked_for_where_another_limit_ended_the_search(tmp_path):
    path = write_experiment(tmp_path, budget={"item_evaluations": 6 * 20 + 3 * 20})
    ended = evomerge.run(path, out=tmp_path / "run")
    count = len(ended.trials())
    assert count < PLAIN + 8
    assert len(evomerge.resume(ended.path).trials()) == count
    assert len(evomerge.resume(ended.path, add=2).trials()) == count + 2
    assert len(evomerge.resume(ended.path).trials()) == count + 2


def test_an_expert_may_have_the_name_of_a_baseline(tmp_path):
    models = {"base": str(ZOO / "base"), "experts": {"ties": str(ZOO / "sort")}}
    path = write_experiment(tmp_path, models=models, budget={"candidates": 1})
    names = list(evomerge.run(path, out=tmp_path / "run").trials()["name"])
    assert names.count("ties") == 2


def test_a_run_directory_may_have_any_name(tmp_path):
    study = evomerge.run(write_experiment(tmp_path), out=tmp_path / "a [bold] run/of b")
    assert study.report().exists()


def test_an_override_wins_over_the_file(tmp_path):
    study = evomerge.run(
        write_experiment(tmp_path), out=tmp_path / "run", overrides={"budget.candidates": 1}
    )
    assert len(study.trials()) == PLAIN + 1
    assert (study.path / "experiment.yaml").read_text().startswith("# -o budget.candidates=1")


def test_a_run_directory_in_use_is_not_overwritten(study):
    before = (study.path / "study.db").read_bytes()
    with pytest.raises(StoreError, match="evomerge resume"):
        evomerge.run(study.path / "experiment.yaml", out=study.path)
    assert (study.path / "study.db").read_bytes() == before


@pytest.mark.parametrize("split", ["search", "test"])
def test_lm_eval_reports_for_the_exported_model_what_the_study_recorded(study, tmp_path, split):
    number = int(study.front()["number"].iloc[0])
    export_trial(study.path, number, tmp_path / "model")
    if split == "test":
        with StudyStore.open(study.path, read_only=True) as store:
            number = max(store.meta("finalists")["test"])
        shutil.rmtree(tmp_path / "model")
        export_trial(study.path, number, tmp_path / "model")
    ours = recorded_scores(study, number, split)
    assert harness_scores(tmp_path / "model", study, split) == pytest.approx(ours, abs=1e-12)


def test_an_exported_trial_is_a_whole_model_folder_with_its_scores(study, tmp_path):
    number = int(study.front()["number"].iloc[0])
    export_trial(study.path, number, tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert tokenizer.chat_template
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    card = (tmp_path / "model" / "README.md").read_text()
    assert "| accuracy on sort |" in card
    assert "task_arithmetic" in card
    assert json.loads((tmp_path / "model" / "config.json").read_text())["tie_word_embeddings"]


def test_a_front_recipe_merges_to_the_same_weights_as_its_trial(study, tmp_path):
    number = int(study.front()["number"].iloc[0])
    export_trial(study.path, number, tmp_path / "by_trial")
    merge_recipe(tmp_path / "by_trial" / "recipe.yaml", tmp_path / "by_recipe")
    weights = [tmp_path / n / "model.safetensors" for n in ("by_trial", "by_recipe")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_an_unknown_trial_exports_nothing(study, tmp_path):
    with pytest.raises(StoreError, match="no trial 99"):
        export_trial(study.path, 99, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_candidate_that_fails_is_a_failed_trial_and_the_run_goes_on(tmp_path):
    # Weights a million times too large overflow float16 when the candidate is merged.
    space = {
        "operator": "task_arithmetic",
        "experts": {"weight": {"choice": [0.5, 1e9]}},
    }
    path = write_experiment(tmp_path, space=space, budget={"candidates": 4})
    study = evomerge.run(path, out=tmp_path / "run")
    failed = study.trials().query("status == 'failed'")
    assert 0 < len(failed) < 4 + PLAIN
    assert failed["reason"].str.contains("too large for").all()


def test_one_expert_without_a_base_is_refused_where_the_operator_needs_one(tmp_path):
    models = {"experts": {"sort": str(ZOO / "sort")}}
    with pytest.raises(ConfigError, match="takes differences to a base"):
        evomerge.run(write_experiment(tmp_path, models=models), out=tmp_path / "run")


def test_a_linear_search_needs_no_base(tmp_path):
    models = {"experts": experiment()["models"]["experts"]}
    path = write_experiment(tmp_path, models=models, space="linear", budget={"candidates": 2})
    study = evomerge.run(path, out=tmp_path / "run")
    names = list(study.trials()["name"])
    assert names == ["town", "sort", "uniform average", "candidate 1", "candidate 2"]


@pytest.mark.slow
def test_the_quickstart_beats_every_baseline_by_more_than_the_interval(tmp_path):
    path = ROOT / "experiments" / "quickstart" / "experiment.yaml"
    study = evomerge.run(path, out=tmp_path / "run")
    final = study.summary().final
    assert final is not None
    assert len(final.comparisons) == 7 + 1
    assert all(comparison.difference.low > 0 for comparison in final.comparisons)
