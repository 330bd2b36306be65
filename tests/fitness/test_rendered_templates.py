"""Templates of a task are rendered once for each document."""

import jinja2
import pytest

from evomerge.fitness.harness import TaskSpec, load_tasks
from evomerge.fitness.item_scorer import ItemScorer
from evomerge.fitness.rendered_templates import RenderedOnce


def test_each_document_has_its_own_rendering_even_if_documents_are_equal():
    rendered = []
    once = RenderedOnce(lambda doc: rendered.append(doc) or f"<{doc['x']}>")
    one, same, other = {"x": 1}, {"x": 1}, {"x": 2}
    assert [once(d) for d in (one, same, other, one, other)] == [
        "<1>",
        "<1>",
        "<2>",
        "<1>",
        "<2>",
    ]
    assert len(rendered) == 3


def test_documents_that_come_and_go_never_get_anothers_text():
    once = RenderedOnce(lambda doc: doc["x"])
    assert [once({"x": n}) for n in range(200)] == list(range(200))


def test_a_template_given_for_the_occasion_is_rendered_anew():
    once = RenderedOnce(lambda doc, template="own": f"{template} {doc['x']}")
    doc = {"x": 1}
    assert (once(doc), once(doc, "other"), once(doc)) == ("own 1", "other 1", "own 1")


@pytest.mark.parametrize("task", ["sum", "choice"])
def test_scoring_the_next_candidate_compiles_no_template(
    folder, model, tokenizer, monkeypatch, task
):
    tasks = load_tasks([TaskSpec(task)], [folder])
    scorer = ItemScorer(tasks, model, tokenizer)
    first = scorer.responses({task: (0, 1, 2)})
    monkeypatch.delattr(jinja2.Environment, "from_string")
    assert scorer.responses({task: (0, 1, 2)}) == first


def test_functions_of_a_task_are_called_each_time(write_task, sums, model, tokenizer):
    place = write_task("t", {"test": sums(*range(4))}, doc_to_target=None, include="../f.yaml")
    (place / "f.yaml").write_text("doc_to_target: !function f.target\n")
    (place / "f.py").write_text(
        "calls = []\ndef target(document):\n    calls.append(1)\n    return str(len(calls))\n"
    )
    task = load_tasks([TaskSpec("t")], [place])["t"]
    asked = task.requests(0, None)[0]
    golds = {task.gold_request(0, asked, None).args[1] for _ in range(3)}
    assert len(golds) == 3
