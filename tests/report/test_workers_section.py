"""What report and status tell of the workers of each session."""

from evomerge.core.worker_state import Incident, WorkerState
from evomerge.report.summary import summarize
from evomerge.report.terminal import status_lines
from evomerge.report.write import write_report
from evomerge.store.study_store import StudyStore

HOSTILE = "<img src=x onerror=alert(1)>"


def crewed(run_dir):
    with StudyStore.open(run_dir) as store:
        store.sessions.start({})
        store.sessions.note_workers(
            [
                WorkerState("worker 1", HOSTILE, "idle", None, 30, 2, 9.0, 10.0),
                WorkerState("worker 2", "node b", "lost", None, 4, 0, 1.0, 10.0),
            ],
            [Incident(1.0, "worker 1", f"its process has died {HOSTILE}", 17)],
        )
        store.sessions.end("done")
        write_report(store, run_dir)
        return summarize(store)


def test_each_worker_is_told_with_its_share_of_work_and_what_befell_it(build):
    run_dir = build(candidates=6)
    summary = crewed(run_dir)
    (crew,) = summary.facts.crews
    assert crew.utilisation == 0.5
    page = (run_dir / "report.html").read_text(encoding="utf-8")
    section = page[page.index('<section id="workers">') : page.index('<section id="settings">')]
    assert "2 workers, 50 % of the time at work. 1 incident." in section
    assert "90 %" in section
    assert "0, given up" in section
    assert "worker 1, trial 17: its process has died" in section
    assert "<img" not in section
    text = "\n".join(str(line) for line in status_lines(summary, run_dir, running=False))
    assert "2 workers, 50% of the time at work" in text


def test_a_study_without_workers_has_no_such_section(build):
    run_dir = build(candidates=6)
    with StudyStore.open(run_dir) as store:
        write_report(store, run_dir)
    page = (run_dir / "report.html").read_text(encoding="utf-8")
    assert '<section id="workers">' not in page


def test_the_history_follows_the_outcomes_and_not_the_clock(build):
    run_dir = build(candidates=12)
    with StudyStore.open(run_dir) as store:
        before = summarize(store).history.best
        told = [n for e in store.events() if e.kind == "tell" for n in e.trials]
        with store._transaction() as db:  # the clock was set back in the middle
            db.execute(
                "UPDATE trials SET finished_at = finished_at - 9999 WHERE number >= ?",
                (told[6],),
            )
        assert (summarize(store).history.best == before).all()
