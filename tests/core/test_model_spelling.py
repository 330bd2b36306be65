"""BASE+ADAPTER and what only looks like it."""

import pytest

from evomerge.core.model_spelling import map_parts, model_parts, split_adapter


@pytest.mark.parametrize(
    ("model", "parts"),
    [
        ("org/base", ("org/base",)),
        ("org/base@v1+org/lora", ("org/base@v1", "org/lora")),
        ("base+first+second", ("base", "first", "second")),
        ("+lora", ("+lora",)),
        ("base+", ("base+",)),
    ],
)
def test_a_model_is_parted_at_its_adapters(model, parts):
    assert model_parts(model) == parts


def test_a_plus_in_names_that_exist_parts_nothing(tmp_path):
    for name in ("a+b", "c+d"):
        (tmp_path / name).mkdir()
    one, two = str(tmp_path / "a+b"), str(tmp_path / "c+d")
    assert split_adapter(one) == (one, None)
    assert split_adapter(f"{one}+{two}") == (one, two)


def test_each_part_is_changed_on_its_own_unless_the_whole_is():
    assert map_parts(
        "base+lora", lambda part: {"base": "/b", "lora": "/l"}.get(part, part)
    ) == ("/b+/l")
    assert map_parts("a+b", lambda part: {"a+b": "/there"}.get(part, part)) == "/there"
    assert map_parts("base", str.upper) == "BASE"
