"""What every kind of workers must do."""

from collections.abc import Callable

import pytest

from evomerge.core.outcomes import Failed
from evomerge.core.recipe import Recipe, Rule, Source
from evomerge.core.responses import ItemResponses
from evomerge.workers.contract import Answered, Evaluate, Job, JobResult, Workers
from evomerge.workers.inline import InlineWorkers

RECIPE = Recipe((Source("a", "a"),), (Rule("linear", {"a": {}}),))
MAKERS = {"inline": InlineWorkers}


def job(number: int) -> Job:
    return Job(number, RECIPE, {"task": (number,)})


def answer(job: Job) -> JobResult:
    """Every third job fails."""
    if job.number % 3 == 0:
        return Failed("merge", f"job {job.number}")
    return Answered({"task": ItemResponses(job.items["task"], {"accuracy": (1.0,)})})


def drain(workers: Workers, count: int) -> list[tuple[Job, JobResult]]:
    return [workers.finished() for _ in range(count)]


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
class TestWorkers:
    @pytest.fixture
    def workers(self, make: Callable[[Callable[[], Evaluate]], Workers]):
        with make(lambda: answer) as made:
            yield made

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
        workers = make(lambda: answer)
        workers.submit(job(1))
        with pytest.raises(ZeroDivisionError), workers:
            raise ZeroDivisionError
        with pytest.raises(LookupError):
            workers.finished()

    def test_what_should_end_the_run_is_not_swallowed(self, make):
        def stopped(_: Job) -> JobResult:
            raise KeyboardInterrupt

        with make(lambda: stopped) as workers:
            workers.submit(job(1))
            with pytest.raises(KeyboardInterrupt):
                workers.finished()
