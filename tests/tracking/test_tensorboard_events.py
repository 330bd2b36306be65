"""TensorBoard's own reader finds every trial of a study."""

import pytest

pytest.importorskip("tensorboard", reason="needs the extra evomerge[tensorboard]")

from followed_searches import Killed, expected
from landscapes import LandscapeEvaluate
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def read(run_dir):
    read = EventAccumulator(
        str(run_dir / "logs" / "tensorboard"), size_guidance={"scalars": 0, "tensors": 0}
    )
    read.Reload()
    return read


def scalars(read):
    return {
        tag: [(e.step, e.value) for e in read.Scalars(tag)] for tag in read.Tags()["scalars"]
    }


def text(read, tag):
    return read.Tensors(tag)[-1].tensor_proto.string_val[0].decode()


def test_every_trials_values_are_read_back_under_its_number(followed):
    followed.loggers = {"tensorboard": {}}
    trials = followed.session(12)
    shown = scalars(read(followed.run_dir))
    for number, metrics in expected(trials).items():
        for tag, value in metrics.items():
            assert dict(shown[tag])[number] == pytest.approx(value, rel=1e-6)
    assert [step for step, _ in shown["search/item evaluations"]] == [t.number for t in trials]


def test_parameters_state_and_front_are_shown_as_texts(followed):
    followed.loggers = {"tensorboard": {}}
    followed.session(3)
    shown = read(followed.run_dir)
    assert "| optimizer | nsga2 |" in text(shown, "run/parameters")
    assert text(shown, "run/state") == "finished"
    assert text(shown, "run/front").splitlines()[2] == "| 9 | 0.75 |"


def test_a_resumed_study_goes_on_in_the_same_run_and_no_trial_is_there_twice(followed):
    followed.loggers = {"tensorboard": {}}

    def dies(job):
        if job.number == 14:
            raise Killed

    with pytest.raises(Killed):
        followed.session(12, LandscapeEvaluate(fails=dies))
    trials = followed.session(12)
    folder = followed.run_dir / "logs" / "tensorboard"
    assert len(list(folder.iterdir())) == 2
    shown = scalars(read(followed.run_dir))["search/item evaluations"]
    assert [step for step, _ in shown] == [t.number for t in trials]
