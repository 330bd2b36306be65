"""The page in a real browser: it draws, hovers, expands and copies."""

import time

import pytest
import yaml
from chromium import NEEDS_CHROMIUM

from evomerge.report.summary import summarize
from evomerge.report.write import write_report
from evomerge.store.study_store import StudyStore

pytestmark = NEEDS_CHROMIUM


def until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise TimeoutError("the page never came to that")


def opened(browser, run_dir):
    with StudyStore.open(run_dir, read_only=True) as store:
        write_report(store, run_dir)
        summary = summarize(store)
    browser.get((run_dir / "report.html").as_uri())
    until(
        lambda: browser.execute_script(
            "return [...document.querySelectorAll('.chart')].every(c => c._fullData)"
        )
    )
    return summary


def severe(browser):
    return [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


# Where a trial's marker is on the screen, from the axes of its chart; scrolls it into view.
PLACE = """
const [id, number] = arguments, chart = document.getElementById(id);
const layout = chart._fullLayout;
for (const trace of chart._fullData) {
  const k = (trace.customdata || []).indexOf(number);
  if (k < 0) continue;
  const xa = layout["xaxis" + trace.xaxis.slice(1)];
  const ya = layout["yaxis" + trace.yaxis.slice(1)];
  const down = ya._offset + ya.d2p(trace.y[k]);
  const top = chart.getBoundingClientRect().top + scrollY + down;
  scrollTo({top: top - innerHeight / 2, behavior: "instant"});
  const box = chart.getBoundingClientRect();
  return [box.left + xa._offset + xa.d2p(trace.x[k]), box.top + down];
}
"""


@pytest.mark.parametrize(
    ("objectives", "chart"), [(1, "chart-ranked"), (2, "chart-pareto"), (5, "chart-pairs")]
)
def test_hovering_names_the_point_and_opening_its_recipe_gives_the_yaml(
    build, browser, objectives, chart
):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By

    summary = opened(browser, build(objectives=objectives, candidates=30, failed=2))
    source = summary.result[0].trial
    x, y = browser.execute_script(PLACE, chart, source.number)
    mouse = ActionChains(browser)
    mouse.w3c_actions.pointer_action.move_to_location(int(x) - 12, int(y))
    mouse.w3c_actions.pointer_action.move_to_location(round(x), round(y))
    mouse.perform()
    label = until(
        lambda: browser.execute_script(
            "return document.querySelector('#' + arguments[0] + ' .hoverlayer')?.textContent",
            chart,
        )
    )
    assert f"(trial {source.number})" in label
    assert f"{summary.labels[0]}: {source.values[0]:.3f}" in label

    details = browser.find_element(By.ID, f"trial-{source.number}")
    assert not details.get_property("open")
    details.find_element(By.TAG_NAME, "summary").click()
    text = details.find_element(By.TAG_NAME, "pre").text
    assert yaml.safe_load(text) == source.recipe.to_plain()
    button = details.find_element(By.CSS_SELECTOR, "button.copy")
    button.click()
    until(lambda: button.text == "copied")

    assert severe(browser) == []
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0


def test_clicking_a_point_opens_its_recipe(build, browser):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By

    summary = opened(browser, build(candidates=30))
    trial = summary.result[-1].trial
    x, y = browser.execute_script(PLACE, "chart-pareto", trial.number)
    mouse = ActionChains(browser)
    mouse.w3c_actions.pointer_action.move_to_location(round(x), round(y))
    mouse.perform()
    until(
        lambda: browser.execute_script(
            "return document.querySelector('#chart-pareto .hoverlayer').textContent"
        )
    )
    mouse.click().perform()
    details = browser.find_element(By.ID, f"trial-{trial.number}")
    until(lambda: details.get_property("open"))


def test_no_button_sends_the_charts_anywhere(build, browser):
    opened(browser, build(candidates=10))
    titles = browser.execute_script(
        "return [...document.querySelectorAll('.modebar-btn')].map(b => b.dataset.title)"
    )
    assert titles
    assert not [title for title in titles if "hare" in title or "loud" in title]


def test_names_that_look_like_tags_are_text_in_page_and_charts(build, browser):
    nasty = "<script>window.broken = 1</script><img src=x onerror='window.broken = 1'>"
    opened(browser, build(name=nasty, tasks=(nasty, "sum"), source_names=(nasty, "<b>b</b>")))
    assert browser.execute_script("return window.broken") is None
    assert browser.execute_script("return document.querySelector('h1').textContent") == nasty
    drawn = browser.execute_script("return document.querySelector('#chart-pareto').textContent")
    assert "<script>window.broken = 1</script>" in drawn
    assert severe(browser) == []


def test_the_page_never_scrolls_sideways(build, browser):
    opened(browser, build(objectives=5, candidates=20, source_names=("a" * 60, "b", "c")))
    fits = "return document.documentElement.scrollWidth <= innerWidth && innerWidth"
    assert browser.execute_script(fits) == 1400
    browser.set_window_size(700, 1000)
    until(lambda: browser.execute_script(fits) == 700)
    browser.set_window_size(1400, 1000)
