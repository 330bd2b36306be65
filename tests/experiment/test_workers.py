"""The workers section: what it may say, what is planned, what workers are told."""

import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from quickstart import ROOT, ZOO, write_experiment

from evomerge.core.errors import ConfigError, EvomergeError, WorkersError
from evomerge.experiment.crew import WorkerSetup, make_workers
from evomerge.experiment.load import load_experiment, with_other_workers
from evomerge.experiment.places import local_places
from evomerge.experiment.plan import plan
from evomerge.experiment.prepare import prepare_file
from evomerge.search.budget import Budget
from evomerge.workers.contract import Answered, Job
from evomerge.workers.inline import InlineWorkers


def prepared(tmp_path, **changes):
    return prepare_file(write_experiment(tmp_path, **changes))[1]


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"kind": "inline", "count": 3}, "'inline' is one worker, found count 3; use 'ray'"),
        ({"timeout": 60}, "timeout only with workers in processes of their own"),
        ({"address": "auto", "memory": 2}, "address and memory only with workers in processes"),
        ({"count": 0}, "workers.count: must be greater than or equal to 1, found 0"),
        ({"count": 2, "gpus": 1.5}, "gpus must be a fraction or a whole number, found 1.5"),
        (
            {"count": 2, "cpus": 0},
            "workers.cpus: must be greater than or equal to 0.01, found 0",
        ),
        ({"count": 2, "env": {"A": [1]}}, "workers.env.A: must be text"),
        ({"count": 2, "env": {"A=B": "x"}}, "names must be letters, digits and _"),
        ({"count": 2, "address": "ray://x:1"}, "must be 'auto' or host:port of a cluster"),
        ({"count": 2, "timeout": 0.1}, "must be greater than or equal to 1, found 0.1"),
        ({"count": 2, "cuont": 1}, "unknown key 'cuont'; did you mean 'count'?"),
        ({"kind": "slurm"}, "workers.kind: must be 'inline' or 'ray', found 'slurm'"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(tmp_path, section, said):
    with pytest.raises(ConfigError, match="workers") as caught:
        load_experiment(write_experiment(tmp_path, workers=section))
    assert said in str(caught.value)


def test_a_gpu_that_workers_would_not_see_is_refused(tmp_path):
    file = write_experiment(tmp_path, workers={"count": 2}, evaluation={"device": "cuda"})
    with pytest.raises(ConfigError, match="workers have no GPU; say how many each gets"):
        load_experiment(file)


@pytest.mark.parametrize(
    ("workers", "device"),
    [({}, "cpu"), ({"gpus": 1}, "cuda"), ({"count": 2, "gpus": 0.5}, "cuda")],
)
def test_the_device_follows_from_what_workers_have(tmp_path, workers, device):
    assert load_experiment(write_experiment(tmp_path, workers=workers)).spec.device == device


def test_reading_an_experiment_loads_no_modelling_code():
    """A command that only checks or shows should not wait seconds for it."""
    code = "import sys, evomerge.experiment.build; print(*sys.modules, sep='\\n')"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    loaded = set(done.stdout.split())
    assert "evomerge.experiment.prepare" in loaded
    assert not loaded & {"transformers.modeling_utils", "torch._dynamo", "ray", "pymoo"}


def test_one_worker_is_this_process_and_never_loads_ray(tmp_path):
    file = write_experiment(tmp_path)
    code = (
        "import sys, evomerge; "
        f"evomerge.run({str(file)!r}, out={str(tmp_path / 'run')!r}); "
        "print([m for m in sys.modules if m == 'ray' or m.startswith('ray.')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_the_worker_of_this_process_takes_as_many_threads_as_it_has_cores(tmp_path):
    import torch

    before = torch.get_num_threads()
    try:
        for cpus, threads in ((1, 1), (2, 2), (0.5, 1)):
            one = prepared(tmp_path / str(cpus), workers={"cpus": cpus})
            with make_workers(one) as workers:
                assert isinstance(workers, InlineWorkers)
                assert workers.settings
                assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_the_plan_tells_of_idle_cores_and_of_waiting_at_the_end_of_generations(tmp_path):
    alone = "\n".join(plan(prepared(tmp_path / "a"), Budget(candidates=8)))
    cores = len(os.sched_getaffinity(0))
    if cores > 1:
        assert f"'workers.count: {cores}' uses all of them, with the same results" in alone
    four = "\n".join(plan(prepared(tmp_path / "b", workers={"count": 4}), Budget(8)))
    assert "up to 4 workers wait for the last outcomes that nsga2 needs" in four
    assert "'optimizer.ahead: 8' keeps them busy" in four
    busy = {"name": "nsga2", "population": 6, "ahead": 8}
    calm = plan(prepared(tmp_path / "c", workers={"count": 4}, optimizer=busy), Budget(8))
    assert "wait" not in "\n".join(calm)


# ---- what a worker somewhere else is told


def test_a_setup_sent_elsewhere_answers_as_the_driver_would(tmp_path):
    one = prepared(tmp_path)
    setup = pickle.loads(pickle.dumps(WorkerSetup.of(one, offline=True)))
    evaluation = setup({})
    with make_workers(one) as workers:
        assert evaluation.settings == workers.settings
        job = Job(1, one.space.baselines()[0].recipe, {"town": (0, 1, 2), "sort": (4, 5)})
        workers.submit(job)
        _, expected = workers.finished()
    result = evaluation.evaluate(job)
    assert isinstance(result, Answered)
    assert result.responses == expected.responses


def test_a_setup_is_plain_values_only(tmp_path):
    setup = WorkerSetup.of(prepared(tmp_path), offline=True)
    assert json.loads(json.dumps(setup.spec)) == setup.spec


def test_other_versions_are_refused_and_named(tmp_path):
    setup = WorkerSetup.of(prepared(tmp_path), offline=True)
    other = replace(setup, versions={**setup.versions, "torch": "1.0", "pymoo": "9"})
    with pytest.raises(
        WorkersError, match=r"torch .* here, 1.0 at the driver; pymoo"
    ) as caught:
        other({})
    assert "one container image" in str(caught.value)


def test_other_weights_and_tasks_at_the_same_path_are_refused(tmp_path):
    setup = WorkerSetup.of(prepared(tmp_path), offline=True)
    other = replace(
        setup,
        fingerprints={**setup.fingerprints, "town": "0"},
        banks={**setup.banks, "sort": "0"},
    )
    with pytest.raises(WorkersError) as caught:
        other({})
    assert "model 'town' has other weights" in str(caught.value)
    assert "task 'sort' is another one" in str(caught.value)
    assert "workers.sources: copy" in str(caught.value)


def test_copies_take_the_place_of_what_lies_at_the_driver_only(tmp_path):
    one = prepared(tmp_path)
    places = local_places(one.spec)
    assert {str(ZOO / name) for name in ("base", "town", "sort")} <= set(places)
    setup = WorkerSetup.of(one, offline=True)
    moved = {}
    for number, place in enumerate(places):
        moved[place] = str(tmp_path / "copies" / str(number))
        Path(moved[place]).parent.mkdir(exist_ok=True)
        Path(moved[place]).symlink_to(place)
    gone = replace(setup, spec=json.loads(json.dumps(setup.spec).replace(str(ROOT), "/gone")))
    with pytest.raises(EvomergeError, match="gone"):
        gone({})
    renamed = {place.replace(str(ROOT), "/gone"): copy for place, copy in moved.items()}
    assert gone(renamed).settings == setup({}).settings


# ---- other workers for a run that goes on


def test_a_resumed_run_may_have_other_workers_and_nothing_else(tmp_path):
    spec = load_experiment(write_experiment(tmp_path)).spec
    place = tmp_path / "resolved.yaml"
    found = with_other_workers(spec, place, ["workers.count=4", "workers.timeout=9"])
    assert (found.workers.count, found.workers.timeout) == (4, 9.0)
    assert found.model_copy(update={"workers": spec.workers}) == spec
    with pytest.raises(ConfigError) as caught:
        with_other_workers(spec, place, ["seed=3", "workers.count=2", "budget.candidates=9"])
    assert len(caught.value.problems) == 2
    assert "can only be given other workers" in caught.value.problems[0]
    with pytest.raises(ConfigError, match="did you mean 'count'"):
        with_other_workers(spec, place, ["workers.cuont=4"])
