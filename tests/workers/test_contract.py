"""What every kind of workers must do."""

import pytest
from faulty_evaluations import RECIPE, answer, job

from evomerge.core.errors import ConfigError
from evomerge.core.outcomes import Failed
from evomerge.workers.contract import Answered, Evaluation, Job, JobResult, Workers
from evomerge.workers.inline import InlineWorkers
from evomerge.workers.ray_options import RayOptions


def on_ray(make) -> Workers:
    from evomerge.workers.ray_workers import RayWorkers

    return RayWorkers(make, RayOptions(count=2, cpus=0.5))


MAKERS = {"inline": InlineWorkers, "ray": on_ray}


def drain(workers: Workers, count: int) -> list[tuple[Job, JobResult]]:
    return [workers.finished() for _ in range(count)]


@pytest.mark.parametrize("kind", MAKERS)
class TestWorkers:
    @pytest.fixture
    def make(self, kind, request):
        if kind == "ray":
            request.getfixturevalue("local_ray")
        return MAKERS[kind]

    @pytest.fixture
    def workers(self, make):
        with make(lambda _: Evaluation(answer, {"dtype": "float32"})) as made:
            yield made

    def test_the_settings_are_those_of_the_evaluation(self, workers):
        assert workers.settings == {"dtype": "float32"}

    def test_every_worker_is_told_of_and_counts_its_jobs(self, workers):
        workers.submit(job(1))
        workers.submit(job(2))
        drain(workers, 2)
        states = workers.states()
        assert len({state.name for state in states}) == len(states) >= 1
        assert sum(state.jobs for state in states) == 2
        assert workers.incidents() == ()

    def test_every_job_comes_back_exactly_once_with_its_own_result(self, workers):
        jobs = [job(number) for number in range(7)]
        for each in jobs:
            workers.submit(each)
        done = drain(workers, 7)
        assert sorted((j for j, _ in done), key=lambda j: j.number) == jobs
        assert all(result == answer(j) for j, result in done)
        with pytest.raises(LookupError):
            workers.finished()

    def test_jobs_may_be_submitted_while_others_are_open(self, workers):
        workers.submit(job(1))
        workers.submit(job(2))
        done = drain(workers, 1)
        workers.submit(job(4))
        done += drain(workers, 2)
        assert {j.number for j, _ in done} == {1, 2, 4}

    def test_a_failed_candidate_is_a_result_and_the_next_job_is_done(self, workers):
        workers.submit(job(3))
        workers.submit(job(4))
        results = {j.number: result for j, result in drain(workers, 2)}
        assert results[3] == Failed("merge", "job 3")
        assert isinstance(results[4], Answered)

    def test_the_same_trial_may_be_asked_again_for_other_items(self, workers):
        for items in ((1, 2), (3,)):
            workers.submit(Job(1, RECIPE, {"task": items}))
        assert {j.items["task"] for j, _ in drain(workers, 2)} == {(1, 2), (3,)}

    def test_waiting_with_no_job_open_is_an_error(self, workers):
        with pytest.raises(LookupError, match="no job is open"):
            workers.finished()

    def test_at_least_one_job_is_worth_having_open(self, workers):
        assert workers.capacity >= 1

    def test_closing_forgets_open_jobs_and_may_be_done_twice(self, workers):
        workers.submit(job(1))
        workers.close()
        workers.close()
        with pytest.raises(LookupError):
            workers.finished()

    def test_leaving_the_block_closes_also_after_an_error(self, make):
        workers = make(lambda _: Evaluation(answer))
        workers.submit(job(1))
        with pytest.raises(ZeroDivisionError), workers:
            raise ZeroDivisionError
        with pytest.raises(LookupError):
            workers.finished()

    def test_what_should_end_the_run_is_not_swallowed(self, make):
        def stopped(_: Job) -> JobResult:
            raise ConfigError("stop")

        with make(lambda _: Evaluation(stopped)) as workers:
            workers.submit(job(1))
            with pytest.raises(ConfigError, match="stop"):
                workers.finished()
