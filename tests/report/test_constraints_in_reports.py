"""Studies with constraints: fronts, verdicts, tables and charts tell who keeps them."""

import csv
import io

import numpy as np
import pytest
from report.live_study import LiveStudy
from rich.console import Console

from evomerge.report import number_text
from evomerge.report.charts import charts
from evomerge.report.constraint_table import constraint_rows, misses_text
from evomerge.report.live_reader import LiveReader
from evomerge.report.live_terminal import line, screen
from evomerge.report.summary import summarize
from evomerge.report.terminal import baselines_table, front_table, status_lines
from evomerge.report.write import write_report
from evomerge.store.study_store import StudyStore

LABEL = "accuracy on sort at least"
SOME, NEVER = 0.6, 1.5


def summary_of(run_dir):
    with StudyStore.open(run_dir, read_only=True) as store:
        return summarize(store)


def printed(*renderables) -> str:
    console = Console(file=io.StringIO(), width=240)
    for each in renderables:
        console.print(each)
    return console.file.getvalue()


def test_only_candidates_that_keep_the_constraint_are_on_the_front_or_best(build):
    summary = summary_of(build(guard=SOME, candidates=60))
    candidates = summary.facts.complete("candidate")
    feasible = [t for t in candidates if t.violation == 0]
    assert 0 < len(feasible) < len(candidates)
    assert summary.counts.feasible == len(feasible)
    for member in summary.front:
        assert member.trial.values[0] >= SOME
    for k, best in enumerate(summary.bests):
        assert best.candidate.values[k] == max(t.values[k] for t in feasible)
        if best.baseline is not None:
            assert best.baseline.values[0] >= SOME
    assert all(trial.feasible for trial in summary.plain_on_front)


def test_infeasible_candidates_add_nothing_to_the_hypervolume(build):
    run_dir = build(guard=SOME, candidates=40)
    summary = summary_of(run_dir)
    points = [[-v for v in t.values] for t in summary.facts.complete("candidate") if t.feasible]
    assert summary.history.volumes[-1] == pytest.approx(summary.volume.of(np.array(points)))


def test_the_table_counts_who_meets_each_constraint(build):
    summary = summary_of(build(guard=SOME, candidates=40))
    (row,) = constraint_rows(summary)
    candidates = summary.facts.complete("candidate")
    assert row.label == f"{LABEL} {SOME:g}"
    assert row.met == sum(t.values[0] >= SOME for t in candidates)
    assert row.scored == len(candidates)


def test_without_a_feasible_candidate_the_nearest_are_shown_and_it_is_said(build):
    run_dir = build(guard=NEVER, candidates=20)
    summary = summary_of(run_dir)
    assert not summary.feasible
    assert summary.front == ()
    assert summary.result_kind == "least violating candidates"
    assert "meets all constraints" in summary.verdict
    told = printed(front_table(summary), baselines_table(summary))
    assert "no candidate meets the constraints" in told
    assert f"misses {LABEL} {NEVER:g} by" in told
    lines = [text.plain for text in status_lines(summary, run_dir, running=False)]
    assert "0 of 20 scored candidates meet all constraints" in lines


def test_tables_of_test_items_tell_by_how_much_those_items_are_missed(build):
    summary = summary_of(build(guard=NEVER, candidates=20))
    told = printed(front_table(summary), baselines_table(summary))
    rows = {row.trial.number: row for row in summary.final.rows}
    shown = [member.trial for member in summary.result] + list(summary.baselines)
    assert any(trial.number in rows for trial in shown)
    for trial in shown:
        (estimate,) = rows[trial.number].constraints if trial.number in rows else [None]
        if estimate is not None and estimate.value < NEVER:
            assert (
                f"misses {LABEL} {NEVER:g} by {number_text.number(NEVER - estimate.value)}"
                in told
            )


def test_tables_and_tips_tell_what_is_missed_on_the_items_of_their_scores(build):
    run_dir = build(guard=SOME, candidates=40, objectives=2)
    summary = summary_of(run_dir)
    with StudyStore.open(run_dir, read_only=True) as store:
        write_report(store, run_dir)
    page = (run_dir / "report.html").read_text()
    searched = page.partition('<section id="baselines">')[2].partition("</section>")[0]
    figure = charts(summary).final["test-scatter"]
    tips = {
        number: text
        for trace in figure["data"]
        if "customdata" in trace
        for number, text in zip(
            trace["customdata"], trace.get("hovertext", trace["text"]), strict=True
        )
    }
    told = 0
    for row in summary.final.rows:
        on_test = misses_text(summary, row.trial, "test").removeprefix("misses ")
        on_search = misses_text(summary, row.trial)
        if row.trial.kind != "candidate" and on_search:
            assert on_search in searched
        if row.trial.number in tips:
            told += bool(on_test)
            assert ("misses" in tips[row.trial.number]) == bool(on_test)
            assert on_test in tips[row.trial.number]
    assert told


def test_what_only_the_test_items_find_missed_is_told_beside_their_scores(build):
    summary = summary_of(build(guard=SOME, candidates=60, seed=4))
    late = [row for row in summary.final.candidates if row.violation == 0]
    late = [row for row in late if row.constraints[0].value < SOME]
    assert late
    told = printed(front_table(summary))
    for row in late:
        missed = number_text.number(SOME - row.constraints[0].value)
        assert f"misses {LABEL} {SOME:g} by {missed}" in told


@pytest.mark.parametrize("guard", [SOME, None])
def test_the_axis_of_ranked_candidates_says_where_those_are_that_miss_a_constraint(
    build, guard
):
    summary = summary_of(build(guard=guard, candidates=40, objectives=1))
    (figure,) = charts(summary).front.values()
    title = figure["layout"]["xaxis"]["title"]["text"]
    assert title.startswith("candidates, best first")
    assert ("miss a constraint last" in title) == (guard is not None)


def test_a_running_study_without_a_feasible_candidate_names_the_nearest(build):
    summary = summary_of(build(guard=NEVER, candidates=10, finals=False, state="running"))
    nearest = min(summary.facts.complete("candidate"), key=lambda t: (t.violation, t.number))
    assert summary.verdict.startswith("So far none of 10 scored candidates")
    assert nearest.name in summary.verdict
    assert summary.balanced == nearest.number
    assert [m.violation for m in summary.result] == sorted(m.violation for m in summary.result)


@pytest.mark.parametrize("objectives", [1, 2, 3])
@pytest.mark.parametrize("guard", [SOME, NEVER])
def test_page_and_table_are_written_and_tell_of_the_constraint(build, objectives, guard):
    run_dir = build(guard=guard, candidates=30, objectives=objectives)
    with StudyStore.open(run_dir, read_only=True) as store:
        write_report(store, run_dir)
    html = (run_dir / "report.html").read_text()
    assert 'id="constraints"' in html
    assert f"{LABEL} {guard:g}" in html
    with (run_dir / "front.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows
    for row in rows:
        met = float(row[f"{LABEL} {guard:g}"]) >= guard
        assert row[f"{LABEL} {guard:g} met"] == str(met)
        assert float(row[f"{LABEL} {guard:g} bound"]) == guard
        assert (float(row["violation"]) == 0) == met


def test_a_study_without_constraints_says_nothing_of_them(build):
    run_dir = build(candidates=12)
    with StudyStore.open(run_dir, read_only=True) as store:
        write_report(store, run_dir)
    page = (run_dir / "report.html").read_text().partition("<script>")[0]
    assert 'id="constraints"' not in page
    assert "violation" not in (run_dir / "front.csv").read_text()
    assert "remark" not in printed(baselines_table(summary_of(run_dir)))


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_what_misses_is_drawn_hollow_and_its_tooltip_tells_by_how_much(build, objectives):
    summary = summary_of(build(guard=SOME, candidates=40, objectives=objectives))
    (figure,) = charts(summary).front.values()
    hollow = [t for t in figure["data"] if t.get("name") == "miss a constraint"]
    missing = {t.number: t for t in summary.facts.complete("candidate") if not t.feasible}
    assert hollow
    for trace in hollow:
        assert trace["marker"]["symbol"] == "circle-open"
        assert set(trace["customdata"]) == set(missing)
        for number, text in zip(trace["customdata"], trace["text"], strict=True):
            said = misses_text(summary, missing[number]).removeprefix("misses ")
            assert said in text
    elsewhere = [
        number
        for trace in figure["data"]
        if trace.get("mode") == "markers" and trace not in hollow
        for number in trace["customdata"]
    ]
    assert not set(missing) & set(elsewhere)


def test_the_live_view_keeps_to_what_is_feasible(tmp_path):
    with LiveStudy(tmp_path / "run", guard=SOME) as study:
        _check_live(study)


def _check_live(study):
    first, second, third = study.ask(3)
    study.finish(first, 0.9, 0.2, missed=0.3)
    reader = LiveReader(study.run_dir)
    view = reader.look()
    assert (view.feasible, view.front, view.nearest.number) == (0, (), first.number)
    assert "none meets the constraints" in line(view)
    assert "misses them by 0.300" in printed(screen(view, 50))
    study.finish(second, 0.4, 0.6, missed=0.0)
    study.finish(third, 0.95, 0.9, missed=0.1)
    view = reader.look()
    assert [point.number for point in view.front] == [second.number]
    assert view.courses[0].steps[-1].value == 0.4
    assert (view.feasible, view.nearest) == (1, None)
    assert "best" in printed(screen(view, 50))
