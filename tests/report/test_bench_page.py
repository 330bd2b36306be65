"""The comparison's tables, charts and page, from runs whose outcome is known."""

import json
import math
import re
import time

import numpy as np
import pytest
from chromium import NEEDS_CHROMIUM
from rich.console import Console

from evomerge.core.objectives import Objective
from evomerge.report.bench_charts import bench_charts
from evomerge.report.bench_page import render_bench_page
from evomerge.report.bench_results import BenchProblem, BenchRun, Stop
from evomerge.report.bench_summary import summarize_bench
from evomerge.report.bench_table import bench_table, runs_frame, table_frame
from evomerge.report.charts import figure_json

ONE = (Objective("accuracy", {"a": 1.0}),)
TWO = (Objective("accuracy", {"a": 1.0}), Objective("loss", {"b": 1.0}, "minimize"))


def one_objective(names=("ours", "theirs", "same"), seeds=10, name="field"):
    """``theirs`` is worse by about a tenth, ``same`` equal to ``ours`` on every seed."""
    problem = BenchProblem(name, ONE, (50, 100), ("Made up.",), best=0.95)
    runs = []
    for label in names:
        for seed in range(1, seeds + 1):
            top = 0.8 + 0.005 * seed - (0.1 + 0.001 * seed) * (label == names[1])
            stops = tuple(Stop(n, ((top - 1 / n,),), ((top - 1 / n,),)) for n in (10, 50, 100))
            runs.append(BenchRun(name, label, seed, stops, 100, "all done", 0.5, 2000))
    return problem, names, runs


def two_objectives():
    """Maximize the first, minimize the second; two seeds with fronts of one and two points."""
    problem = BenchProblem("pair", TWO, (20,), ("Made up.",), best_front=((0.9, 0.1),))
    fronts = {1: ((0.6, 0.3),), 2: ((0.4, 0.1), (0.8, 0.5))}
    runs = [
        BenchRun("pair", label, seed, (Stop(20, front),), 20, "done", 1.0, 9, {}, (0.0, 1.0))
        for label in ("ours", "theirs")
        for seed, front in fronts.items()
    ]
    return problem, ("ours", "theirs"), runs


def summary_of(problem, names, runs, against="ours"):
    return summarize_bench([problem], names, against, runs)


def page_of(summary):
    return render_bench_page(summary, [("seeds", "1 to 10")], "evomerge bench optimizers field")


def test_a_contestant_that_is_worse_on_every_seed_is_called_worse():
    (part,) = summary_of(*one_objective()).problems
    ours, theirs, same = part.at(100)
    assert ours.comparison is None
    assert theirs.comparison.judgement == "worse"
    assert theirs.comparison.effect.value == pytest.approx(-0.1055)
    assert same.comparison.judgement == "tied"
    assert part.sentences[-1] == (
        "After 100 candidates ours is best or tied: same is tied; theirs (by 0.105) is worse."
    )
    (turned,) = summary_of(*one_objective(), against="theirs").problems
    assert (
        "theirs is beaten: ours (by 0.105), same (by 0.105) are better." in turned.sentences[1]
    )


def test_few_seeds_are_said_to_tell_nothing():
    (part,) = summary_of(*one_objective(seeds=3)).problems
    assert part.too_few_seeds
    assert part.sentences == (
        "After 50 candidates nothing can be told from 3 seeds.",
        "After 100 candidates nothing can be told from 3 seeds.",
    )
    assert "needs at least 7 seeds" in part.notes[0]


def test_a_run_that_ended_early_keeps_what_it_had_and_is_noted():
    problem, names, runs = one_objective(seeds=8)
    first = runs[0]
    runs[0] = BenchRun(
        first.problem, "ours", 1, first.stops, 60, "pycma has converged", 0.5, 1200
    )
    (part,) = summary_of(problem, names, runs).problems
    (note,) = part.notes
    assert "ours ended before the budget with 1 of 8 seeds" in note
    assert "after 60 candidates (pycma has converged)" in note


def test_a_run_without_any_choice_counts_as_the_worst_source():
    problem, *_ = one_objective()
    run = BenchRun("field", "x", 1, (Stop(50, ()),), 50, "", 0.0, 0, {}, (), ((0.4,), (0.3,)))
    assert problem.score(run, ()) == 0.3
    pair, *_ = two_objectives()
    assert pair.score(run, ()) == 0.0


def test_hypervolume_counts_what_is_better_than_the_reference():
    problem, _, runs = two_objectives()
    # Reference: 0 of what is maximized, 1 of what is minimized.
    assert problem.score(runs[0], runs[0].stops[0].chosen) == pytest.approx(0.6 * 0.7)
    assert problem.score(runs[1], runs[1].stops[0].chosen) == pytest.approx(
        0.4 * 0.9 + 0.4 * 0.5
    )


def test_attainment_surfaces_are_those_of_the_best_and_of_all_runs():
    (part,) = summary_of(*two_objectives()).problems
    surfaces = part.attainment[0].surfaces
    assert surfaces["best"].tolist() == [[0.8, 0.5], [0.6, 0.3], [0.4, 0.1]]
    # Both runs: (0.6, 0.3) is passed by the second only up to its own points.
    assert surfaces["worst"].tolist() == [[0.6, 0.5], [0.4, 0.3]]
    assert surfaces["median"].tolist() == surfaces["best"].tolist()


def test_runs_survive_being_written_down():
    for _, _, runs in (one_objective(), two_objectives()):
        for run in runs:
            assert BenchRun.from_plain(json.loads(json.dumps(run.to_plain()))) == run


def test_the_terminals_table_fits_in_80_columns():
    names = ("nsga2:population=12:initial=false", "mergenetic_nsga2_25", "random")
    (part,) = summary_of(*one_objective(names), against=names[0]).problems
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(bench_table(part))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    assert "…\n" not in text.replace(" \n", "\n")
    assert re.search(r"mergenetic_nsga2_25 +100 +0\.71\d +0\.7\d\d … 0\.7\d\d +−0\.105", text)
    assert "worse" in text


def test_the_csv_tables_hold_every_comparison_and_every_stop():
    problem, names, runs = one_objective()
    table = table_frame(summary_of(problem, names, runs))
    assert len(table) == 2 * 3
    row = table[(table["optimizer"] == "theirs") & (table["candidates"] == 100)].iloc[0]
    assert row["judgement"] == "worse"
    assert row["p_holm"] == pytest.approx(2 * row["p"])
    assert row["seeds_worse"] == 10
    stops = runs_frame([problem], runs)
    assert len(stops) == 3 * 10 * 3
    assert stops["score"].notna().all()


@pytest.mark.parametrize("made", [one_objective, two_objectives])
def test_charts_hold_finite_numbers_and_every_contestant(made):
    summary = summary_of(*made())
    figures = bench_charts(summary.problems[0])
    assert ("attainment" in figures) == (made is two_objectives)
    for figure in figures.values():
        figure_json(figure)  # refuses NaN
    drawn = {trace["name"] for trace in figures["anytime"]["data"]}
    assert drawn >= set(summary.contestants)
    assert len(figures["final"]["data"]) == len(summary.contestants)


def test_the_staircase_of_a_surface_passes_its_corners():
    figures = bench_charts(summary_of(*two_objectives()).problems[0])
    best = next(t for t in figures["attainment"]["data"] if t["name"] == "ours, best")
    corners = list(zip(best["x"], best["y"], strict=True))
    assert (0.8, 0.5) in corners
    assert (0.4, 0.1) in corners
    assert all(math.isfinite(v) for corner in corners for v in corner)
    assert best["x"] == sorted(best["x"], reverse=True)


def test_names_are_text_in_the_page():
    nasty = "<script>window.broken = 1</script>"
    page = page_of(summary_of(*one_objective(name=nasty)))
    assert nasty not in page
    assert "http://" not in re.sub(r"(?s)<script>.*?</script>", "", page)
    assert "best or tied" in page


def drawn(browser, path, page):
    path.write_text(page, encoding="utf-8")
    browser.get(path.as_uri())
    end = time.monotonic() + 20
    script = "return [...document.querySelectorAll('.chart')].every(c => c._fullData)"
    while not browser.execute_script(script):
        assert time.monotonic() < end, "the charts never came"
        time.sleep(0.05)


@pytest.mark.browser
@NEEDS_CHROMIUM[1]
@pytest.mark.parametrize("made", [one_objective, two_objectives])
def test_the_page_draws_its_charts_in_a_browser_and_needs_nothing_else(browser, tmp_path, made):
    summary = summary_of(*made())
    drawn(browser, tmp_path / "report.html", page_of(summary))
    assert [e for e in browser.get_log("browser") if e["level"] == "SEVERE"] == []
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    charts = browser.execute_script("return document.querySelectorAll('.chart').length")
    assert charts == len(bench_charts(summary.problems[0]))
    traces = "return document.querySelectorAll('#chart-anytime-1 .scatterlayer .trace').length"
    assert browser.execute_script(traces) >= len(summary.contestants)
    fits = "return document.documentElement.scrollWidth <= innerWidth"
    assert browser.execute_script(fits)
    assert np.isfinite(browser.execute_script("return document.body.scrollHeight"))
