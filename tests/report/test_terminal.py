import io

import pytest
from rich.console import Console

from evomerge.report.summary import summarize
from evomerge.report.terminal import baselines_table, front_table, status_lines
from evomerge.store.study_store import StudyStore


def shown(*renderables):
    console = Console(file=io.StringIO(), width=160)
    for renderable in renderables:
        console.print(renderable)
    return console.file.getvalue()


def summary_of(run_dir):
    with StudyStore.open(run_dir, read_only=True) as store:
        return summarize(store)


def test_the_front_table_shows_the_final_front_with_test_scores(build):
    summary = summary_of(build(candidates=40))
    text = shown(front_table(summary))
    assert "final front, test items" in text
    for row in summary.final.candidates:
        assert row.trial.name in text
        assert f"{row.test[0].value:.3f} ± {row.test[0].standard_error:.3f}" in text
    assert "most balanced" in text


def test_long_fronts_are_cut_and_the_rest_is_counted(build):
    summary = summary_of(build(objectives=5, candidates=120, finals=False))
    assert len(summary.result) > 20
    assert f"and {len(summary.result) - 20} more in front.csv" in shown(front_table(summary))


def test_baselines_show_names_as_they_are_even_with_markup_in_them(build):
    text = shown(baselines_table(summary_of(build(source_names=("[red]a[/red]", "b")))))
    assert "[red]a[/red]" in text
    assert "uniform average" in text


@pytest.mark.parametrize("state", ["running", "interrupted"])
def test_status_says_how_far_the_study_is_and_how_to_go_on(build, state):
    run_dir = build(candidates=20, failed=3, open=4, finals=False, state=state)
    summary = summary_of(run_dir)
    text = "\n".join(line.plain for line in status_lines(summary, run_dir, running=False))
    assert "three-skills: interrupted" in text
    assert "16 of 20 candidates done: 13 scored, 3 failed, 4 open" in text
    assert f"evomerge resume {run_dir}" in text
    assert summary.verdict in text
    running = [line.plain for line in status_lines(summary, run_dir, running=True)]
    assert running[0] == "three-skills: running"
    assert not any("evomerge resume" in line for line in running)


def test_tables_of_a_study_without_candidates_are_empty_not_errors(build):
    summary = summary_of(build(candidates=0, finals=False, state="running"))
    assert "no candidate has been scored" in shown(front_table(summary))
    assert "expert sort" in shown(baselines_table(summary))
