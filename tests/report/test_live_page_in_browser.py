"""The live page in a real browser, open while the study goes on."""

import threading
import time

import pytest
from chromium import NEEDS_CHROMIUM
from report.live_study import LiveStudy

from evomerge.core.worker_state import Incident, WorkerState
from evomerge.report.live_server import LiveServer

NASTY = "<img src=x onerror=window.broken=1><script>window.broken=1</script>"

pytestmark = NEEDS_CHROMIUM


class Served:
    """A running study, the server beside it, and the page that is open on it."""

    def __init__(self, browser, run_dir, **plan):
        self.browser = browser
        self.study = LiveStudy(run_dir, **plan)
        self.start(0)
        browser.get_log("browser")
        browser.get(self.server.url)
        self.run("window.opened = true")

    def start(self, port):
        self.server = LiveServer(self.study.run_dir, port)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    def stop(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def run(self, script, *arguments):
        return self.browser.execute_script(script, *arguments)

    def text(self, css):
        return self.run("return document.querySelector(arguments[0])?.innerText ?? ''", css)

    def until(self, *parts, css="body", seconds=15.0, waiting=False):
        """Wait for parts of a text; unless ``waiting``, the page is told to look at once."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if not waiting:
                self.run("return look()")
            if all(part in self.text(css) for part in parts):
                return
            time.sleep(0.05)
        raise TimeoutError(f"{parts} never came; the page says\n{self.text(css)}")

    def points(self):
        return self.run("return known.points.length")


@pytest.fixture
def served(browser, tmp_path):
    begun = []

    def begin(**plan):
        begun.append(Served(browser, tmp_path / f"study{len(begun)}", **plan))
        return begun[-1]

    yield begin
    for each in begun:
        browser.get("about:blank")
        each.stop()
        each.study.__exit__()


def severe(browser):
    return [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def test_the_page_follows_the_study_to_its_end_without_a_reload(served, browser):
    page = served(objectives=2)
    page.until("running", "expert sort", "three-skills")
    study = page.study
    study.store.set_meta("budget", {"candidates": 8})
    trials = study.ask(8)
    for trial, value in zip(trials[:5], (0.2, 0.4, 0.6, 0.8, 0.3), strict=True):
        study.finish(trial, value, 1 - value)
    study.fail(trials[5], "weights are not finite")
    states = [
        WorkerState(f"worker {k}", "node-1", "busy", k, 3, 0, 9.0, 10.0) for k in range(1, 9)
    ]
    incident = Incident(time.time(), "worker 3", "its process was lost", 4)
    study.store.sessions.note_workers(states, [incident])
    page.until(
        "6 of 8 candidates done", "weights are not finite", "its process was lost", waiting=True
    )
    page.until("worker 8\tbusy with trial 8", "8 busy; 90 %", css="#workers")
    page.until("5 candidates on the front", "candidate 7", css="#front")
    assert (
        page.run("return document.querySelectorAll('#front-chart svg circle.member').length")
        == 6
    )
    assert page.run("return document.querySelectorAll('#history .panel svg .step').length") == 2

    study.finish(trials[6], 0.99, 0.99)
    page.until("1 candidate on the front", css="#front", waiting=True)
    study.fail(trials[7], "weights are not finite")
    page.until("2\tevaluate\tweights are not finite", css="#failures")
    assert page.run("return document.getElementById('banner').hidden")
    (study.run_dir / "report.html").write_text("<!doctype html><title>the report</title>")
    study.end("finished")
    page.until(
        "The study has finished",
        f"evomerge resume {study.run_dir} --add 100",
        css="#banner",
        waiting=True,
    )
    assert page.text("#state") == "finished"
    assert page.run("return window.opened")
    assert severe(browser) == []
    page.run("document.querySelector('#about a').click()")
    end = time.monotonic() + 10
    while browser.title != "the report":
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize("objectives", [1, 3])
def test_names_and_reasons_that_look_like_tags_are_text(served, browser, objectives):
    page = served(
        objectives=objectives,
        name=NASTY,
        tasks=(NASTY, "sum", "facts"),
        source_names=(NASTY, "b", "c"),
    )
    study = page.study
    trials = study.ask(3, name=NASTY)
    study.finish(trials[0], *[0.5] * objectives)
    study.finish(trials[1], *[0.95] * objectives)
    study.fail(trials[2], NASTY)
    study.store.sessions.note_workers(
        [WorkerState(NASTY, NASTY, "busy", 5)], [Incident(time.time(), NASTY, NASTY)]
    )
    for section in ("failures", "workers", "incidents", "tiles", "about"):
        page.until(NASTY, css=f"#{section}")
    assert page.text("h1") == NASTY
    hover(page, "#front-chart > svg")
    page.until(f"{NASTY} {trials[1].number}", css="#tip")
    assert (
        page.run("return [...document.querySelectorAll('img, script')].length") == 1
    )  # its own
    assert page.run("return window.broken") is None
    assert severe(browser) == []


def hover(page, css):
    """Rest the mouse on the rightmost marker."""
    from selenium.webdriver.common.action_chains import ActionChains

    place = page.run(
        """const svg = document.querySelector(arguments[0]);
        svg.scrollIntoView({block: "center", behavior: "instant"});
        const box = svg.getBoundingClientRect();
        const marks = [...svg.querySelectorAll("circle.member")];
        const last = marks.sort((a, b) => a.getAttribute("cx") - b.getAttribute("cx")).at(-1);
        return [box.left + Number(last.getAttribute("cx")), box.top + Number(last.getAttribute("cy"))];""",
        css,
    )
    mouse = ActionChains(page.browser)
    mouse.w3c_actions.pointer_action.move_to_location(round(place[0]) - 2, round(place[1]))
    mouse.w3c_actions.pointer_action.move_to_location(round(place[0]), round(place[1]))
    mouse.perform()


def test_hovering_names_a_trial_and_its_scores(served, browser):
    page = served(objectives=2)
    trial = page.study.ask(1)[0]
    page.study.finish(trial, 0.97, 0.91)
    page.until("1 candidate on the front")
    hover(page, "#front-chart > svg")
    page.until(
        f"candidate {trial.number}\ntrial {trial.number}, on the front",
        "accuracy on sort: 0.970 ± 0.010\naccuracy on sum: 0.910 ± 0.010",
        css="#tip",
    )
    assert severe(browser) == []


def test_of_three_objectives_the_reader_chooses_two(served, browser):
    page = served(objectives=3)
    page.study.finish(page.study.ask(1)[0], 0.1, 0.5, 0.9)
    page.until("1 candidate on the front")

    def titles():
        return page.run(
            "return [...document.querySelectorAll('#front-chart text.title')].map(t => t.textContent)"
        )

    assert titles() == [
        "↑ accuracy on sum (higher is better)",
        "accuracy on sort (higher is better) →",
    ]
    page.run(
        "const s = document.getElementById('axis-x'); s.value = 2; s.dispatchEvent(new Event('change'))"
    )
    assert titles() == [
        "↑ accuracy on sum (higher is better)",
        "accuracy on facts (higher is better) →",
    ]
    page.study.finish(page.study.ask(1)[0], 0.2, 0.5, 0.8)
    page.until("2 candidates on the front")
    assert "accuracy on facts" in titles()[1]
    assert severe(browser) == []


def test_a_server_that_is_gone_is_said_and_found_again(served):
    page = served(objectives=2)
    page.study.finish(page.study.ask(1)[0], 0.5, 0.5)
    page.until("1 candidate on the front")
    port = page.server.server_port
    page.stop()
    page.until("Connection lost", "What is shown is from", css="#banner", waiting=True)
    assert page.text("#state") == "connection lost"
    page.study.finish(page.study.ask(1)[0], 0.6, 0.4)
    page.start(port)
    page.until("2 candidates on the front", "running")
    assert page.run("return document.getElementById('banner').hidden && window.opened")


def test_a_killed_search_is_told_from_one_that_runs(served, browser):
    page = served(objectives=1)
    page.until("running", css="#state")
    page.study.end(None)
    page.until("has died", f"evomerge resume {page.study.run_dir}", css="#banner")
    page.study.begin()
    page.until("running", css="#state")
    assert severe(browser) == []


@pytest.mark.parametrize("width", [1400, 700, 420])
def test_nothing_overlaps_or_is_cut_off(served, browser, width):
    browser.set_window_size(width, 1000)
    page = served(objectives=2, source_names=("a" * 60, "a name of some words", *"bcdef"))
    study = page.study
    for k, trial in enumerate(study.ask(30)):
        study.finish(trial, k / 30, 1 - k / 30)
    study.fail(study.ask()[0], "r" * 300)
    study.store.sessions.note_workers([WorkerState("worker 1", "n" * 80, "busy", 1000)])
    page.until("30 candidates on the front", "r" * 300)
    inside = """
      const boxes = [];
      for (const svg of document.querySelectorAll(".chart > svg")) {
        const frame = svg.getBoundingClientRect();
        const texts = [...svg.querySelectorAll("text")].map(t => t.getBoundingClientRect());
        for (const [k, t] of texts.entries()) {
          if (t.left < frame.left - 1 || t.right > frame.right + 1 || t.bottom > frame.bottom + 1 || t.top < frame.top - 1) boxes.push(["cut", k]);
          for (const [j, o] of texts.entries())
            if (j < k && t.left < o.right - 1 && o.left < t.right - 1 && t.top < o.bottom - 3 && o.top < t.bottom - 3) boxes.push([svg.querySelectorAll("text")[k].textContent, svg.querySelectorAll("text")[j].textContent]);
        }
      }
      return [boxes, document.documentElement.scrollWidth <= innerWidth, document.querySelectorAll(".chart > svg").length];
    """
    assert page.run(inside) == [[], True, 3]
    browser.set_window_size(1400, 1000)


def test_ten_thousand_candidates_are_drawn_and_added_to(served, browser):
    page = served(objectives=2)
    page.until("running", css="#state")
    page.run(
        """known.points = Array.from({length: 10000}, (_, k) => [k + 100, "candidate " + k, [Math.sin(k) / 2, Math.cos(3 * k) / 2], [.01, .01]]);
        known.byTrial = new Map(known.points.map(p => [p[0], p])); drawn.clear()"""
    )
    began = time.monotonic()
    page.run("draw(); document.body.getBoundingClientRect()")
    assert time.monotonic() - began < 2.0
    assert page.run("return document.querySelectorAll('#front-chart *').length") < 300
    assert severe(browser) == []
