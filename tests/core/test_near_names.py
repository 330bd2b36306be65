"""Unknown names are answered with the nearest known one."""

from evomerge.core.near_names import unknown


def test_a_near_name_is_suggested():
    assert (
        unknown("operator", "tise", ["linear", "ties"])
        == "unknown operator 'tise'; did you mean 'ties'? known: linear, ties"
    )


def test_nothing_is_suggested_where_nothing_is_near():
    assert unknown("operator", "zzz", ["linear"]) == "unknown operator 'zzz'; known: linear"


def test_a_name_that_is_no_text_is_answered_too():
    assert unknown("task", 7, ["a"]) == "unknown task 7; known: a"


def test_a_long_list_is_cut_after_twenty():
    message = unknown("task", "zzz", (f"task{k}" for k in range(25)))
    assert message.endswith("task18, task19 …")


def test_exactly_twenty_are_all_listed():
    assert unknown("task", "zzz", [f"task{k}" for k in range(20)]).endswith("task18, task19")
