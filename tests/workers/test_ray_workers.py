"""Workers on Ray: whatever happens to a process, each job comes back once, with its reason."""

import os
import signal
import time

import pytest
from faulty_evaluations import Faulty, Telling, Unprepared, job

from evomerge.core.errors import ConfigError, WorkersError
from evomerge.core.outcomes import Failed
from evomerge.workers.contract import Answered
from evomerge.workers.ray_options import RayOptions

PATIENCE = 60.0


@pytest.fixture
def crew(local_ray):
    from evomerge.workers.ray_workers import RayWorkers

    made = []

    def make(evaluation, **options):
        made.append(RayWorkers(evaluation, RayOptions(**{"cpus": 0.5} | options)))
        return made[-1]

    yield make
    for workers in made:
        workers.close()


def results(workers, numbers):
    for number in numbers:
        workers.submit(job(number))
    done = {}
    end = time.monotonic() + PATIENCE
    while len(done) < len(numbers):
        assert time.monotonic() < end, f"only {sorted(done)} came back"
        found = workers.finished(1.0)
        if found is not None:
            done[found[0].number] = found[1]
    return done


def test_a_job_whose_worker_is_killed_goes_to_another_one(crew, tmp_path):
    faulty = Faulty(str(tmp_path), dies={2: 2})
    workers = crew(faulty)
    done = results(workers, [1, 2, 4, 5])
    assert all(isinstance(result, Answered) for result in done.values())
    assert faulty.begun(2) == 3
    assert {faulty.begun(n) for n in (1, 4, 5)} == {1}
    incidents = workers.incidents()
    assert [incident.trial for incident in incidents] == [2, 2]
    assert all("died" in incident.what for incident in incidents)
    assert workers.incidents() == ()
    assert sum(state.restarts for state in workers.states()) == 2


def test_a_job_that_kills_every_worker_fails_with_the_reason_after_three(crew, tmp_path):
    faulty = Faulty(str(tmp_path), dies={2: 99})
    done = results(crew(faulty), [1, 2, 4])
    assert faulty.begun(2) == 3
    assert isinstance(done[2], Failed)
    assert done[2].stage == "worker"
    assert "died 3 times" in done[2].reason
    assert isinstance(done[1], Answered)
    assert isinstance(done[4], Answered)


def test_a_worker_killed_while_it_has_nothing_to_do_is_replaced(crew, tmp_path):
    faulty = Faulty(str(tmp_path))
    workers = crew(faulty, count=1)
    results(workers, [1])
    (pid,) = (int(f.name.split("-")[2]) for f in tmp_path.iterdir())
    os.kill(pid, signal.SIGKILL)
    assert isinstance(results(workers, [2])[2], Answered)


def test_a_job_that_hangs_is_given_up_and_the_others_go_on(crew, tmp_path):
    faulty = Faulty(str(tmp_path), hangs=(2,))
    workers = crew(faulty, timeout=1.5)
    done = results(workers, [1, 2, 4, 5])
    assert done[2] == Failed(
        "worker", "took longer than the 1.5 s of workers.timeout; its worker was replaced"
    )
    assert faulty.begun(2) == 1
    assert all(isinstance(done[n], Answered) for n in (1, 4, 5))
    assert isinstance(results(workers, [7])[7], Answered)


def test_time_in_which_the_driver_was_stopped_counts_against_no_job(crew, tmp_path):
    workers = crew(Faulty(str(tmp_path), seconds=9.0), count=1, timeout=3)
    assert workers.settings
    workers.submit(job(1))
    assert workers.finished(0.1) is None
    time.sleep(7.0)
    assert isinstance(workers.finished()[1], Answered)
    assert 0 < workers.states()[0].utilisation <= 1


def test_a_job_that_takes_too_much_memory_is_given_up_and_says_how_much(crew, tmp_path):
    faulty = Faulty(str(tmp_path), eats=(2,))
    workers = crew(faulty, memory=400 * 2**20)
    done = results(workers, [1, 2, 4])
    assert isinstance(done[2], Failed)
    assert "more than the 0.391 GiB of workers.memory" in done[2].reason
    assert isinstance(done[4], Answered)


def test_memory_that_grows_over_jobs_replaces_the_worker_and_fails_none(crew, tmp_path):
    faulty = Faulty(str(tmp_path), hoards=True)
    workers = crew(faulty, count=1, memory=500 * 2**20)
    done = results(workers, [n for n in range(1, 17) if n % 3])
    assert all(isinstance(result, Answered) for result in done.values())
    assert any("workers.memory" in incident.what for incident in workers.incidents())
    assert sum(state.restarts for state in workers.states()) >= 1


def test_an_unforeseen_error_of_a_preparation_is_tried_again_and_then_said(crew):
    with pytest.raises(WorkersError, match="FileNotFoundError: a disk that is away"):
        crew(Unprepared("is away")).settings  # noqa: B018


def test_what_should_end_the_run_is_raised_as_it_is(crew, tmp_path):
    workers = crew(Faulty(str(tmp_path), raises=(1,)))
    workers.submit(job(1))
    with pytest.raises(ConfigError, match="job 1 ends the run"):
        workers.finished()


def test_an_error_of_every_preparation_is_the_users_to_see(crew):
    with pytest.raises(ConfigError) as caught:
        crew(Unprepared("raises")).settings  # noqa: B018
    assert caught.value.problems == ["models.base: no such folder.", "models.experts: none."]


def test_workers_that_die_while_they_are_prepared_are_given_up(crew):
    with pytest.raises(WorkersError, match="died before it was ready"):
        crew(Unprepared("dies")).settings  # noqa: B018


def test_each_worker_has_the_threads_and_the_environment_asked_for(crew):
    workers = crew(Telling(), count=1, cpus=2, env={"MINE": "7"})
    told = results(workers, [1])[1].responses["task"].values
    assert told["omp"] == told["threads"] == (2.0,)
    assert told["mine"] == (7.0,)


def test_waiting_can_be_limited(crew, tmp_path):
    workers = crew(Faulty(str(tmp_path), seconds=2.0), count=1)
    assert workers.settings == {"kind": "faulty"}
    workers.submit(job(1))
    begun = time.monotonic()
    assert workers.finished(0.3) is None
    assert 0.2 < time.monotonic() - begun < 1.5
    assert workers.finished() is not None


def test_states_tell_what_each_worker_does(crew, tmp_path):
    workers = crew(Faulty(str(tmp_path), seconds=1.0))
    assert {state.condition for state in workers.states()} == {"starting"}
    results(workers, [1, 2])  # both are ready now
    workers.submit(job(4))
    workers.finished(0.3)
    busy, idle = sorted(workers.states(), key=lambda state: state.condition)
    assert (busy.condition, busy.trial) == ("busy", 4)
    assert (idle.condition, idle.trial) == ("idle", None)
    assert busy.jobs + idle.jobs == 2
    assert busy.node
    assert 0 < busy.utilisation <= 1
    assert workers.finished() is not None


def test_the_plan_says_how_many_where_and_within_which_limits(crew, tmp_path):
    workers = crew(Faulty(str(tmp_path)), timeout=60.0, memory=2**30)
    first, fact = workers.plan
    assert first.startswith("2 workers with 0.5 cores each, on ")
    assert first.endswith("at most 60 s a candidate; at most 1 GiB each")
    assert fact == "a fact"


def test_global_random_generators_and_signal_handlers_stay_as_they_are(crew, tmp_path):
    import random

    import numpy as np

    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    state, legacy = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    results(crew(Faulty(str(tmp_path))), [1, 2])
    assert random.getstate() == state
    assert np.random.get_state()[1].tolist() == legacy  # noqa: NPY002
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
