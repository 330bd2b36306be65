"""A chain of searches from its file to its last front."""

import json
import shutil

import pytest
from quickstart import ZOO
from staged_runs import STAGES, write_chain
from study_content import content

import evomerge
from evomerge.core.errors import CheckpointError, ConfigError, StoreError
from evomerge.experiment.export import export_trial
from evomerge.experiment.session import RunOptions
from evomerge.experiment.stages_kept import Handing, keep_models
from evomerge.experiment.stages_run import start_chain
from evomerge.merging.checkpoint import open_source
from evomerge.report.chain_page import chain_commands
from evomerge.report.ranking import ranked
from evomerge.report.study_facts import known_responses, read_facts
from evomerge.search.observer import Observer
from evomerge.store.chain_record import ChainRecord, read_kept
from evomerge.store.study_store import StudyStore


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chain")
    return evomerge.run(write_chain(folder), out=folder / "run")


@pytest.fixture
def copied(chain, tmp_path):
    """The run in another place; the first place is gone for it, since nothing names it."""
    return shutil.copytree(chain.path, tmp_path / "moved" / "elsewhere")


def responses(run_dir, name):
    with StudyStore.open(run_dir, read_only=True) as store:
        facts = read_facts(store)
        trial = next(t for t in facts.trials if t.name == name)
        return known_responses(store, facts, trial)


def test_every_stage_is_a_whole_run_of_its_own(chain):
    assert [*chain.stages] == ["ps", "dfs"]
    for name, folder in (("ps", "1-ps"), ("dfs", "2-dfs")):
        study = chain.stages[name]
        assert study.path == chain.path / folder
        assert study.summary().state == "finished"
        files = {"experiment.yaml", "resolved.yaml", "report.html", "front.csv", "front"}
        assert files <= {file.name for file in study.path.iterdir()}


def test_the_best_model_by_validation_is_handed_on_with_recipe_and_card(chain):
    (kept,) = read_kept(chain.path / "1-ps")
    with StudyStore.open(chain.path / "1-ps", read_only=True) as store:
        facts = read_facts(store)
        assert kept.trial == ranked(store, facts)[0].number
        number = max(
            facts.finalists["validation"],
            key=lambda n: validated(store, facts, n),
        )
    assert kept.trial == number
    folder = chain.path / "1-ps" / kept.folder
    assert kept.folder == "kept/1"
    assert {"recipe.yaml", "README.md", "model.safetensors"} <= {
        file.name for file in folder.iterdir()
    }
    with StudyStore.open(chain.path / "2-dfs", read_only=True) as store:
        sources = {source.name: source for source in store.trial(1).recipe.sources}
    assert sources["ps"].fingerprint == kept.fingerprint
    assert sources["ps"].fingerprint == open_source(str(folder)).fingerprint


def validated(store, facts, number):
    known = known_responses(store, facts, store.trial(number))
    means = []
    for task, items in facts.items["validation"].items():
        values = known[task].only(items).values["gold_logprob"]
        means.append(sum(values) / len(values))
    return sum(means)


def test_a_kept_model_scores_as_a_source_what_it_scored_as_a_candidate(chain):
    """On the same items: the seed divides them for all stages."""
    (kept,) = read_kept(chain.path / "1-ps")
    before = responses(chain.path / "1-ps", kept.name)
    after = responses(chain.path / "2-dfs", "ps")
    for task in ("sort", "town"):
        assert set(before[task].items) == set(after[task].items)
        items = before[task].items
        assert after[task].only(items).values["gold_logprob"] == pytest.approx(
            before[task].values["gold_logprob"], abs=1e-5
        )


def test_the_chain_is_judged_against_the_models_that_it_began_with(chain):
    summary = chain.summary()
    assert summary.state == "finished"
    assert summary.verdict.startswith("After 2 stages and 10 candidates: ")
    by_role = {}
    for model in summary.models:
        by_role.setdefault(model.role, []).append(model)
    assert {m.name for m in by_role["source"]} == {"base", "town", "sort"}
    assert {m.name for m in by_role["baseline"]} == {
        "uniform average",
        "task arithmetic",
        "ties",
    }
    assert all(m.stage == "dfs" for m in by_role["final"])
    best = next(m for m in by_role["source"] if m.trial == summary.best_sources[0].number)
    final = by_role["final"][0]
    assert final.differences[0].value == pytest.approx(final.test[0].value - best.test[0].value)
    items = [stage.summary.counts.item_evaluations for stage in summary.stages]
    assert final.spent == (10, sum(items))


def test_the_best_by_validation_of_all_stages_is_named_and_offered_for_export(chain):
    """Here the first stage's: the second finds nothing better."""
    summary = chain.summary()
    means = {}
    for name, folder in (("ps", "1-ps"), ("dfs", "2-dfs")):
        with StudyStore.open(chain.path / folder, read_only=True) as store:
            facts = read_facts(store)
            candidates = [t.number for t in facts.of_kind("candidate")]
            for number in set(facts.finalists["validation"]) & set(candidates):
                means[name, number] = validated(store, facts, number)
    stage, number = max(means, key=means.get)
    assert stage == "ps"
    assert (summary.best.stage, summary.best.trial) == (stage, number)
    assert f"{summary.best.name} of stage ps, the chain's best on validation items" in (
        summary.verdict
    )
    assert any("stage dfs found nothing better than" in line for line in summary.details)
    commands = " ".join(command for _, command in chain_commands(summary, chain.path))
    assert f"export {chain.path} merged-model --stage ps --trial {number}" in commands


def test_the_index_names_every_stage_and_links_to_its_report(chain):
    page = (chain.path / "report.html").read_text()
    for folder in ("1-ps", "2-dfs"):
        assert f'href="{folder}/report.html"' in page
        assert (chain.path / folder / "report.html").exists()
    assert "http" not in page.replace("http-equiv", "")
    assert chain.summary().stages[0].summary.verdict.replace("+", "&#43;") in page.replace(
        "+", "&#43;"
    )


def test_a_chain_can_be_moved_and_its_last_stage_extended(chain, copied, monkeypatch, tmp_path):
    hidden = chain.path.rename(chain.path.with_name("hidden"))
    try:
        monkeypatch.chdir(tmp_path)
        evomerge.resume(copied, add=2)
    finally:
        hidden.rename(chain.path)
    with StudyStore.open(copied / "2-dfs", read_only=True) as store:
        assert store.meta("budget")["candidates"] == 7
        kept = store.meta("experiment")["models"]["experts"]["ps"]
        assert sum(trial.kind == "candidate" for trial in store.trials()) == 7
    assert str(chain.path) in kept  # what was recorded then is found from where it lies now
    assert content(copied / "1-ps") == content(chain.path / "1-ps")


def test_a_model_that_has_moved_and_other_workers_are_told_once_for_the_chain(copied, tmp_path):
    town = shutil.copytree(ZOO / "town", tmp_path / "town")
    with pytest.raises(ConfigError, match=r"the chain has no model \['twon'\]"):
        evomerge.resume(copied, models={"twon": town})
    evomerge.resume(copied, add=1, models={"town": str(town)}, overrides={"workers.cpus": 1})
    record = ChainRecord.read(copied)
    for stage in record.stages:
        assert stage.experiment["models"]["experts"]["town"] == str(town)
        assert stage.experiment["workers"]["cpus"] == 1
    assert record.stages[1].experiment["models"]["experts"]["ps"] == "stage:ps"
    with StudyStore.open(copied / "2-dfs", read_only=True) as store:
        assert store.meta("experiment")["models"]["experts"]["town"] == str(town)


def test_a_chain_that_was_stopped_before_its_last_stage_goes_on_there(copied, chain):
    shutil.rmtree(copied / "2-dfs")
    shutil.rmtree(copied / "1-ps" / "kept")
    (copied / "1-ps" / "kept.json").unlink()
    (copied / "1-ps" / "kept" / ".1.half").mkdir(parents=True)  # of an export that was killed
    with pytest.raises(ConfigError, match="extends the last stage, dfs, which has not begun"):
        evomerge.resume(copied, add=3)
    evomerge.resume(copied)
    assert content(copied / "2-dfs") == content(chain.path / "2-dfs")
    assert [*(copied / "1-ps" / "kept").iterdir()] == [copied / "1-ps" / "kept" / "1"]


def test_a_source_that_nothing_beats_is_handed_on_as_it_is(chain, copied):
    """Where the search's candidates are out of the way, here because they were not validated."""
    stage = ChainRecord.read(copied).stages[0]
    run_dir = copied / "1-ps"
    with StudyStore.open(run_dir) as store:
        numbers = [t.number for t in store.trials() if t.kind == "source"]
        store.set_meta("finalists", {"validation": numbers, "test": numbers})
    (run_dir / "kept.json").unlink()
    models = {name: str(ZOO / name) for name in ("base", "town", "sort")}
    (kept,) = keep_models(stage, run_dir, Handing(models))
    assert (kept.kind, kept.folder) == ("source", None)
    assert kept.fingerprint == open_source(models[kept.name]).fingerprint
    assert not (run_dir / "kept").exists()
    shutil.rmtree(copied / "2-dfs")
    resumed = evomerge.resume(copied)
    with StudyStore.open(copied / "2-dfs", read_only=True) as store:
        assert store.meta("experiment")["models"]["experts"]["ps"] == models[kept.name]
    said = " ".join(resumed.summary().details)
    assert f"the chain goes on with source {kept.name!r} itself" in said


def test_a_kept_model_of_another_depth_ends_the_chain_with_the_reason(copied):
    with StudyStore.open(copied / "2-dfs", read_only=True) as store:
        deeper_or_not = next(
            trial.number
            for trial in store.trials()
            if trial.recipe.layer_count not in (None, 5) and trial.status == "complete"
        )
    shutil.rmtree(copied / "1-ps" / "kept")
    export_trial(copied / "2-dfs", deeper_or_not, copied / "1-ps" / "kept" / "1")
    shutil.rmtree(copied / "2-dfs")
    with pytest.raises(CheckpointError) as refused:
        evomerge.resume(copied)
    told = str(refused.value).splitlines()
    assert any("layers" in line for line in told), told
    assert "stage dfs cannot begin with the models that it was given" in told[-1]
    assert not (copied / "2-dfs" / "study.db").exists()


def test_values_of_an_earlier_stage_stay_fixed(tmp_path):
    ties = {"operator": "ties", "merge": {"lambda": 1.0}}
    first = {
        "name": "denoise",
        "space": ties | {"experts": {"density": [0.1, 1.0], "weight": 0.5}},
        "budget": {"candidates": 3},
    }
    second = {
        "name": "scale",
        "space": ties | {"experts": {"density": [0.1, 1.0], "weight": [-0.5, 1.5]}},
        "fix": {"from": "denoise", "parameters": "density"},
        "budget": {"candidates": 2},
    }
    chain = write_chain(tmp_path, stages=[first, second], optimizer={"name": "random"})
    done = evomerge.run(chain, out=tmp_path / "run")
    assert not (tmp_path / "run" / "1-denoise" / "kept").exists()
    with StudyStore.open(done.path / "1-denoise", read_only=True) as store:
        best = next(t for t in ranked(store, read_facts(store)) if t.kind == "candidate")
    rule = best.recipe.rules[0]
    wanted = {name: rule.models[name]["density"] for name in ("town", "sort")}
    with StudyStore.open(done.path / "2-scale", read_only=True) as store:
        candidates = [t for t in store.trials() if t.kind == "candidate"]
    assert candidates
    for trial in candidates:
        models = trial.recipe.rules[0].models
        assert {name: models[name]["density"] for name in wanted} == wanted
    assert len({trial.recipe.rules[0].models["town"]["weight"] for trial in candidates}) > 1
    held = ", ".join(f"{name}.density = {value:.4g}" for name, value in wanted.items())
    said = (
        f"stage scale holds density as {best.name} (trial {best.number}) of stage denoise has "
        f"it: {held}."
    )
    assert said in done.summary().details
    page = (done.path / "report.html").read_text()
    assert said in page
    assert f"density of {best.name} (trial {best.number}) to scale" in page
    compared = [(m.role, m.stage, m.trial) for m in done.summary().models]
    assert ("best", "denoise", best.number) in compared


class StoppedEarly(Observer):
    """Stops the chain in the midst of its first stage, as Ctrl-C does."""

    def __init__(self):
        self.announced = []
        self._heard = 0

    def announce(self, announcement):
        self.announced.append(announcement)

    def progress(self, progress):
        self._heard += 1
        if self._heard == 7:
            raise KeyboardInterrupt


def test_whoever_watches_hears_of_the_whole_chain_which_is_what_to_resume(tmp_path):
    out, observer = tmp_path / "run", StoppedEarly()
    with pytest.raises(KeyboardInterrupt):
        start_chain(write_chain(tmp_path), RunOptions(out, observer=observer))
    assert {each.run_dir for each in observer.announced} == {out}
    whole, first = observer.announced
    assert whole.plan[0] == "small: 2 stages, ps then dfs; 10 candidates in all"
    assert first.plan[0] == "stage 1 of 2, ps"
    assert "Stage 1 of 2, ps, is interrupted." in (out / "report.html").read_text()


def test_a_folder_that_holds_a_chain_is_not_begun_anew(chain, tmp_path):
    with pytest.raises(StoreError, match="holds a chain already; continue it with"):
        evomerge.run(write_chain(tmp_path), out=chain.path)


def test_a_chain_that_cannot_begin_leaves_nothing_in_the_way(tmp_path):
    stages = [STAGES[0] | {"evaluation": {"device": "cuda:7", "dtype": "float32"}}, STAGES[1]]
    out = tmp_path / "run"
    with pytest.raises(ConfigError, match=r"evaluation\.device"):
        evomerge.run(write_chain(tmp_path, stages=stages), out=out)
    evomerge.run(
        write_chain(tmp_path, stages=[STAGES[0] | {"budget": {"candidates": 1}}]), out=out
    )
    assert json.loads((out / "chain.json").read_text())["stages"][0]["name"] == "ps"
