import json
import re
from html.parser import HTMLParser

import plotly.graph_objects as go
import pytest

from evomerge.recipes.recipe_yaml import read_recipe
from evomerge.report.charts import charts, plotly_script
from evomerge.report.summary import summarize
from evomerge.report.write import write_report
from evomerge.store.study_store import StudyStore

PLANS = {
    "one": {"objectives": 1},
    "two": {"failed": 3},
    "three": {"objectives": 3, "extra_genes": 20},
    "five": {"objectives": 5},
    "seven": {"objectives": 7},
    "parameters": {"parameters": True},
    "running": {"finals": False, "state": "running", "open": 2},
    "no candidates": {"candidates": 0, "finals": False, "state": "running"},
    "all failed": {"candidates": 6, "failed": 6, "finals": False},
    "one candidate": {"candidates": 1},
    "only sources": {"only_sources": True},
}
EVERY_STUDY = pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS.keys())

NASTY = "<script>alert(1)</script>"


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, key, value or "") for key, value in attrs]


def written(run_dir):
    with StudyStore.open(run_dir, read_only=True) as store:
        write_report(store, run_dir)
        html = (run_dir / "report.html").read_text()
        assert plotly_script() in html
        return summarize(store), html.replace(plotly_script(), "")  # 5 MB less to look through


def figures(html):
    return [
        json.loads(text)
        for text in re.findall(
            r'<script type="application/json" class="figure"[^>]*>(.*?)</script>', html
        )
    ]


@EVERY_STUDY
def test_every_study_gets_a_page_whose_figures_plotly_accepts(build, plan):
    _, html = written(build(**plan))
    for figure in figures(html):
        go.Figure(figure)


@EVERY_STUDY
def test_the_page_loads_nothing_from_elsewhere(build, plan):
    _, html = written(build(**plan))
    page = Page(html)
    loads = [(t, k, v) for t, k, v in page.attributes if k in ("src", "href", "data", "action")]
    assert all(v.startswith("#") for _, _, v in loads), loads
    assert not {"link", "img", "iframe", "object", "embed", "base"} & set(page.tags)
    assert "default-src 'none'" in html
    assert "@import" not in html.split("<script")[0]


def test_names_are_shown_and_never_become_tags(build):
    run_dir = build(
        name=NASTY,
        tasks=(NASTY, "b&amp;</script>"),
        source_names=(NASTY, "<b>bold</b>"),
        failed=1,
    )
    _, html = written(run_dir)
    page = Page(html)
    assert NASTY not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert len([t for t in page.tags if t == "script"]) == 2 + len(figures(html))
    assert "alert(1)" in json.dumps(figures(html))
    assert NASTY not in json.dumps(figures(html)), "plotly reads tags in its texts"


def test_recipes_of_the_result_are_written_in_order_and_read_back(build):
    run_dir = build(candidates=40)
    summary, html = written(run_dir)
    paths = sorted((run_dir / "front").iterdir())
    assert [p.name for p in paths] == [
        f"{k:02d}.recipe.yaml" for k in range(1, len(summary.result) + 1)
    ]
    for path, member in zip(paths, summary.result, strict=True):
        assert read_recipe(path).digest == member.trial.recipe.digest
        assert f"trial {member.trial.number}, " in path.read_text()
        assert f'id="trial-{member.trial.number}"' in html


def test_recipes_that_left_the_front_are_removed_and_other_files_stay(build):
    run_dir = build(candidates=10)
    (run_dir / "front").mkdir()
    (run_dir / "front" / "99.recipe.yaml").write_text("stale")
    (run_dir / "front" / "notes.txt").write_text("mine")
    summary, _ = written(run_dir)
    names = {p.name for p in (run_dir / "front").iterdir()}
    assert "99.recipe.yaml" not in names
    assert "notes.txt" in names
    assert len(names) == len(summary.result) + 1


def test_writing_again_replaces_every_file(build):
    run_dir = build()
    written(run_dir)
    before = {p.name: p.read_text() for p in (run_dir / "front").iterdir()}
    written(run_dir)
    assert {p.name: p.read_text() for p in (run_dir / "front").iterdir()} == before
    assert sorted(p.name for p in run_dir.iterdir() if p.name.startswith(".")) == []


def test_a_report_is_written_beside_a_writer_at_work(build):
    run_dir = build(finals=False, state="running")
    with StudyStore.open(run_dir) as writer, StudyStore.open(run_dir, read_only=True) as reader:
        writer.set_meta("state", "running")
        write_report(reader, run_dir)
    assert "running" in (run_dir / "report.html").read_text()


def test_failed_candidates_are_counted_and_not_plotted(build):
    run_dir = build(candidates=20, failed=4)
    summary, html = written(run_dir)
    assert "4 failed candidates are not shown" in html
    failed = {n for f in summary.failures for n in f.trials}
    pareto = charts(summary).front["pareto"]
    plotted = [n for trace in pareto["data"] for n in trace.get("customdata", [])]
    assert sorted(plotted) == sorted(set(range(1, 24)) - failed)


def test_the_step_line_never_crosses_above_the_front(build):
    summary, _ = written(build(candidates=40))
    line = next(t for t in charts(summary).front["pareto"]["data"] if t["mode"] == "lines")
    assert line["line"]["shape"] == "vh"
    points = sorted(m.trial.values for m in summary.front)
    assert list(zip(line["x"], line["y"], strict=True)) == points


def test_the_page_gives_settings_versions_seed_and_commands(build):
    run_dir = build(state="interrupted", finals=False, seed=77)
    _, html = written(run_dir)
    for text in (
        f"evomerge resume {run_dir}",
        f"evomerge resume {run_dir} --add 100",
        "evomerge export",
        "population: 24",
        "2.13",
        "<dd>77</dd>",
    ):
        assert text in html
    assert "evomerge resume" in html


def test_a_finished_study_offers_extension_but_no_resume(build):
    run_dir = build()
    _, html = written(run_dir)
    assert f"<pre>evomerge resume {run_dir}</pre>" not in html
    assert f"<pre>evomerge resume {run_dir} --add 100</pre>" in html
