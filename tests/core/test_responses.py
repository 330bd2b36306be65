"""Item responses: picking items and joining answers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.core.responses import ItemResponses


def responses(items, **values):
    return ItemResponses(tuple(items), {m: tuple(v) for m, v in values.items()})


RESPONSES = st.lists(st.integers(0, 9), unique=True, max_size=8).flatmap(
    lambda items: st.lists(
        st.sampled_from([0.0, 1.0]), min_size=len(items), max_size=len(items)
    ).map(lambda values: responses(items, accuracy=values))
)


def by_item(each: ItemResponses) -> dict[int, float]:
    return dict(zip(each.items, each.values.get("accuracy", ()), strict=True))


def test_only_picks_items_in_the_order_asked_for():
    given_ = responses([5, 3, 8], accuracy=[1.0, 0.0, 0.5], nats=[-1.0, -2.0, -3.0])
    assert given_.only([8, 5]) == responses([8, 5], accuracy=[0.5, 1.0], nats=[-3.0, -1.0])


def test_only_refuses_an_item_without_a_response():
    with pytest.raises(KeyError):
        responses([5], accuracy=[1.0]).only([5, 6])


@given(RESPONSES)
def test_picking_all_items_changes_nothing(each):
    assert each.only(each.items) == each


@given(RESPONSES, RESPONSES)
def test_a_join_answers_every_item_once_and_the_first_answer_holds(a, b):
    joined = a.joined(b)
    assert len(set(joined.items)) == len(joined.items)
    assert by_item(joined) == by_item(b) | by_item(a)


@given(RESPONSES)
def test_a_join_with_nothing_or_itself_changes_nothing(each):
    nothing = responses([], accuracy=[])
    assert nothing.joined(each) == each
    assert by_item(each.joined(nothing)) == by_item(each)
    assert each.joined(each) == each


def test_a_join_keeps_the_metrics_that_both_have():
    a = responses([1], accuracy=[1.0], nats=[-1.0])
    b = responses([2], accuracy=[0.0], brier=[0.25])
    assert a.joined(b) == responses([1, 2], accuracy=[1.0, 0.0])


def test_a_join_that_adds_no_item_keeps_every_metric():
    a = responses([1, 2], accuracy=[1.0, 0.0], nats=[-1.0, -2.0])
    assert a.joined(responses([2], accuracy=[0.0])) == a
