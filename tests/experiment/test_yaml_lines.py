"""YAML files with line numbers, and overrides of their keys."""

import pytest

from evomerge.core.errors import ConfigError
from evomerge.experiment.yaml_lines import override, parse_override, parse_yaml, read_yaml

TEXT = """\
# a comment
name: three
models:
  base: zoo/base
  experts: {sum: zoo/sum,
            sort: zoo/sort}
objectives:
  - {maximize: accuracy,
     task: sum}
  - maximize: accuracy
    task: sort
rate: 1e-3
"""


def test_numbers_with_an_exponent_are_numbers():
    assert parse_yaml(TEXT, "f").data["rate"] == 0.001


@pytest.mark.parametrize(
    ("location", "place"),
    [
        (("name",), "f.yaml:2"),
        (("models", "experts", "sort"), "f.yaml:6"),
        (("objectives", 0, "task"), "f.yaml:9"),
        (("objectives", 1), "f.yaml:10"),
        (("objectives", 1, "task"), "f.yaml:11"),
        (("models", "experts", "missing", "deeper"), "f.yaml:5"),
        (("objectives", 7), "f.yaml:7"),
        (("missing",), "f.yaml"),
        ((), "f.yaml"),
    ],
    ids=str,
)
def test_a_key_is_placed_by_its_line_or_that_of_its_nearest_parent(location, place):
    assert parse_yaml(TEXT, "f.yaml").where(location) == place


def test_what_an_alias_repeats_stands_where_the_alias_is():
    file = parse_yaml("a: &x\n  deep: 1\nb: *x\n", "f")
    assert file.data["b"] == {"deep": 1}
    assert [file.where(("a", "deep")), file.where(("b", "deep"))] == ["f:2", "f:3"]


def test_aliases_of_aliases_take_no_time():
    rows = [f"a{k}: &a{k} [" + ", ".join([f"*a{k - 1}"] * 9) + "]" for k in range(1, 30)]
    assert "a29" in parse_yaml("a0: &a0 [x]\n" + "\n".join(rows), "f").data


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: {c: 1, c: 2}\n", "f:2: not valid YAML: the key 'c' stands twice."),
        ("a: [1\n", "f:2: not valid YAML"),
        ("a: \x07", "f: not valid YAML: unacceptable character"),
        ("", "f: expected a mapping of keys to values at the top level."),
        ("- a", "f: expected a mapping"),
        ("text", "f: expected a mapping"),
    ],
    ids=repr,
)
def test_what_is_no_mapping_is_refused_with_file_and_line(text, message):
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "f")
    assert str(caught.value).startswith(message)


def test_a_file_that_is_missing_or_unreadable_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml: no such file\."):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_yaml(tmp_path)
    (tmp_path / "bad.yaml").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_yaml(tmp_path / "bad.yaml")


# ---- overrides


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("a=1", {"a": 1, "b": {"c": [1, {"d": 2}]}, "n": None}),
        ("b.c=1e-3", {"a": 0, "b": {"c": 0.001}, "n": None}),
        ("b.c.1.d=x", {"a": 0, "b": {"c": [1, {"d": "x"}]}, "n": None}),
        ("b.c.0={e: 5}", {"a": 0, "b": {"c": [{"e": 5}, {"d": 2}]}, "n": None}),
        (
            "b.new.deep=[1, 2]",
            {"a": 0, "b": {"c": [1, {"d": 2}], "new": {"deep": [1, 2]}}} | {"n": None},
        ),
        ("n.x=", {"a": 0, "b": {"c": [1, {"d": 2}]}, "n": {"x": None}}),
        (" a = k=v ", {"a": "k=v", "b": {"c": [1, {"d": 2}]}, "n": None}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_override_sets_one_value_and_leaves_the_original_alone(text, changed):
    data = {"a": 0, "b": {"c": [1, {"d": 2}]}, "n": None}
    assert override(data, parse_override(text)) == changed
    assert data == {"a": 0, "b": {"c": [1, {"d": 2}]}, "n": None}


@pytest.mark.parametrize("text", ["a.b=1", "b.c.2=1", "b.c.x=1", "b.c.0.x=1", "b.c.-1=1"])
def test_an_override_below_a_plain_value_or_beyond_a_list_is_refused(text):
    with pytest.raises(ConfigError, match=f"-o {text}: .* in which is no"):
        override({"a": 0, "b": {"c": [1, {"d": 2}]}}, parse_override(text))


@pytest.mark.parametrize("text", ["a", "=1", "a..b=1", ".a=1", "a.=1", ""])
def test_an_override_needs_key_and_value(text):
    with pytest.raises(ConfigError, match=r"expected key\.path=value"):
        parse_override(text)


@pytest.mark.parametrize("value", ["[1", "{a: 1, a: 2}", "!!int x"])
def test_an_override_that_is_not_yaml_is_refused(value):
    with pytest.raises(ConfigError, match="the value is not valid YAML"):
        parse_override(f"a={value}")
