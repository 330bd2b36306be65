"""Workers on a cluster of several nodes that come and go."""

import time
from pathlib import Path

import pytest
import ray
from faulty_evaluations import Faulty, Telling, Unprepared, job
from ray.cluster_utils import Cluster

from evomerge.workers.contract import Answered
from evomerge.workers.ray_options import RayOptions
from evomerge.workers.ray_workers import RayWorkers

TESTS = Path(__file__).resolve().parent.parent
PATIENCE = 90.0


@pytest.fixture
def cluster(monkeypatch):
    """A head that takes no workers; each test adds nodes of its own."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    made = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
    )
    yield made
    ray.shutdown()
    made.shutdown()


def drain(workers, count, until=lambda: True):
    """Results of jobs, submitted one after the other until ``until`` and ``count`` are met."""
    done = {}
    end = time.monotonic() + PATIENCE
    number = open_ = 0
    while len(done) < count or not until() or open_:
        assert time.monotonic() < end, f"{len(done)} came back, {workers.states()}"
        while open_ < 2 and not (len(done) + open_ >= count and until()):
            number += 1
            open_ += 1
            workers.submit(job(3 * number + 1))
        found = workers.finished(1.0)
        if found is not None:
            open_ -= 1
            done[found[0].number] = found[1]
    assert sorted(done) == [3 * k + 1 for k in range(1, number + 1)]
    return list(done.values())


def ready(workers):
    return sum(state.condition in {"idle", "busy"} for state in workers.states())


def test_jobs_of_a_removed_node_are_done_by_the_others_and_an_added_node_is_used(
    cluster, tmp_path
):
    first, _ = (cluster.add_node(num_cpus=1) for _ in range(2))
    faulty = Faulty(str(tmp_path), seconds=0.5)
    with RayWorkers(faulty, RayOptions(count=2, address=cluster.address)) as workers:
        drain(workers, 4, until=lambda: ready(workers) == 2)

        cluster.remove_node(first, allow_graceful=False)
        results = drain(workers, 4, until=lambda: ready(workers) < 2)
        assert all(isinstance(result, Answered) for result in results)
        told = [incident.what for incident in workers.incidents()]
        assert any("died" in what or "cannot be reached" in what for what in told), told
        conditions = {state.condition for state in workers.states()}
        assert "starting" in conditions  # there is no room for the second

        cluster.add_node(num_cpus=1)
        before = {state.name: state.jobs for state in workers.states()}
        drain(
            workers,
            6,
            until=lambda: all(s.jobs > before[s.name] for s in workers.states()),
        )
        assert ready(workers) == 2


@pytest.mark.slow
def test_a_node_that_cannot_take_part_is_left_out_and_the_others_go_on(cluster):
    cluster.add_node(num_cpus=1)
    cluster.add_node(num_cpus=1, env_vars={"ODD": "1"})
    for evaluation, said in (
        (Unprepared("raises", only_in="ODD"), "no such folder"),
        (Telling(), "would score otherwise"),
    ):
        with RayWorkers(evaluation, RayOptions(count=2, address=cluster.address)) as workers:
            assert workers.settings in ({}, {"odd": "no"}, {"odd": "1"})
            told = []

            def one_is_out(workers=workers, told=told, said=said) -> bool:
                told += workers.incidents()
                return any(said in incident.what for incident in told)

            results = drain(workers, 2, until=one_is_out)
            assert all(isinstance(result, Answered) for result in results)
            assert ready(workers) == 1
            good = {"ODD": "1"} if workers.settings == {"odd": "1"} else {}
            added = cluster.add_node(num_cpus=1, env_vars=good)
            drain(workers, 2, until=lambda workers=workers: ready(workers) == 2)
        ray.shutdown()
        cluster.remove_node(added, allow_graceful=False)


def test_what_lies_at_the_driver_only_is_copied_to_where_workers_are(cluster, tmp_path):
    cluster.add_node(num_cpus=2)
    model = tmp_path / "model"
    (model / "sub").mkdir(parents=True)
    (model / "config.json").write_text("{}")
    (model / "sub" / "weights").write_bytes(bytes(range(256)) * 1000)
    options = RayOptions(
        count=2,
        address=cluster.address,
        copies=(str(model),),
        env={"XDG_CACHE_HOME": str(tmp_path / "cache")},
    )
    with RayWorkers(Telling(), options) as workers:
        results = drain(workers, 4)
        assert {r.responses["task"].values["copied"] for r in results} == {(1.0,)}
    (copy,) = (f for f in (tmp_path / "cache/evomerge/copies").iterdir() if f.is_dir())
    there = copy / "copy"
    assert (there / "config.json").read_text() == "{}"
    assert (there / "sub" / "weights").read_bytes() == (model / "sub/weights").read_bytes()
