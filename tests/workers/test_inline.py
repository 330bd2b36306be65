"""The worker in this process: in order, one at a time, the model loaded late and once."""

import pytest

from evomerge.core.recipe import Recipe, Rule, Source
from evomerge.workers.contract import Answered, Evaluation, Job, JobResult
from evomerge.workers.inline import InlineWorkers

RECIPE = Recipe((Source("a", "a"),), (Rule("linear", {"a": {}}),))


class Log:
    """Builds an evaluator and notes what is done, in order."""

    def __init__(self) -> None:
        self.done: list[str | int] = []

    def make(self, _: object) -> Evaluation:
        self.done.append("loaded")
        return Evaluation(self.evaluate)

    def evaluate(self, job: Job) -> JobResult:
        self.done.append(job.number)
        return Answered({})


def test_jobs_are_done_in_the_order_of_their_submission():
    log = Log()
    with InlineWorkers(log.make) as workers:
        for number in (5, 2, 9):
            workers.submit(Job(number, RECIPE, {}))
        assert [workers.finished()[0].number for _ in range(3)] == [5, 2, 9]
    assert log.done == ["loaded", 5, 2, 9]


def test_nothing_is_loaded_or_done_before_a_result_is_asked_for():
    log = Log()
    with InlineWorkers(log.make) as workers:
        workers.submit(Job(1, RECIPE, {}))
        assert log.done == []
        assert workers.capacity == 1


def test_a_job_whose_evaluator_cannot_be_built_stays_open():
    attempts = iter([OSError("no model"), Log().evaluate])

    def make(_: object) -> Evaluation:
        found = next(attempts)
        if isinstance(found, OSError):
            raise found
        return Evaluation(found)

    workers = InlineWorkers(make)
    workers.submit(Job(1, RECIPE, {}))
    with pytest.raises(OSError, match="no model"):
        workers.finished()
    assert workers.finished()[0].number == 1
