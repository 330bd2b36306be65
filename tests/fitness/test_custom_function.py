"""Python functions as fitness: how they are found, called, contained and identified."""

import random
import sys
import textwrap

import numpy as np
import pytest
import torch

from evomerge.core.errors import ConfigError, TrialError
from evomerge.fitness.custom_function import FunctionScorer, function_task, load_function
from evomerge.fitness.custom_task import CustomItems

ITEMS = {"t": (0, 3, 5)}


@pytest.fixture
def write(tmp_path):
    """Write files by name into one folder; gives the folder."""

    def write_files(**files: str):
        for name, text in files.items():
            path = tmp_path / f"{name.replace('__', '/')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))
        return tmp_path

    return write_files


@pytest.fixture
def scorer(write, model, tokenizer):
    """A scorer of one task ``t`` from the text of its module."""

    def make(text: str, count: int | None = 8, metrics=("score",), identity="m"):
        function = load_function("judge:score", write(judge=text))
        task = function_task("t", function, CustomItems(count, metrics), 0)
        return FunctionScorer({"t": task}, model, tokenizer, lambda: identity)

    return make


def version(folder, reference="judge:score") -> str:
    return function_task("t", load_function(reference, folder), CustomItems(8), 0).bank.version


# ---- finding


@pytest.mark.parametrize(
    ("text", "reference", "said"),
    [
        ("def score(m, t, i): pass", "juge:score", "unknown module 'juge'; did you mean 'judge'"),
        ("def score(m, t, i): pass", "judge:scor", "unknown function 'scor'; did you mean 'score'"),
        ("score = 3", "judge:score", "is no function but int 3"),
        ("def score(model): pass", "judge:score", r"score\(model\) cannot be called with"),
        ("def score(a, b, c, d): pass", "judge:score", "missing a required argument: 'd'"),
        ("def score(a, b, *, items): pass", "judge:score", "too many positional"),
        ("async def score(a, b, c): pass", "judge:score", "is async"),
        ("def score(a, b, c): yield 1", "judge:score", "generator"),
        ("import nothing_of_this_name", "judge:score", r"No module named.*\(judge\.py:1"),
        ("x = 1\ndef f(): raise KeyError('k')\nf()", "judge:score", r"KeyError: 'k' \(judge\.py:2 in f"),
        ("class E(Exception): pass\nraise E('no key')", "judge:score", r"E: no key \(judge\.py:2"),
        ("import sys; sys.exit(2)", "judge:score", r"SystemExit: 2 \(judge\.py:1"),
        ("def score(:", "judge:score", r"SyntaxError: .*judge\.py:1"),
    ],
)  # fmt: skip
def test_what_cannot_be_called_is_reported_with_where_and_why(write, text, reference, said):
    with pytest.raises(ConfigError, match=said):
        load_function(reference, write(judge=text))


def test_a_module_may_not_take_the_name_of_an_installed_one(write):
    with pytest.raises(ConfigError, match=r"'random' of .* name of an installed one"):
        load_function("random:score", write(random="def score(m, t, i): pass"))
    assert sys.modules["random"] is random


def test_modules_of_packages_and_nested_attributes_are_found(write):
    folder = write(
        judges__inner__polite="class Judge:\n    @staticmethod\n    def score(m, t, i): return 7"
    )
    function = load_function("judges.inner.polite:Judge.score", folder)
    assert function.call(None, None, ()) == 7


def test_two_folders_with_equal_names_do_not_mix(write, tmp_path):
    for name, value in (("one", 1), ("two", 2)):
        write(
            **{
                f"{name}__judge": "from helper import VALUE\ndef score(m, t, i): return VALUE",
                f"{name}__helper": f"VALUE = {value}",
            }
        )
    one = load_function("judge:score", tmp_path / "one")
    two = load_function("judge:score", tmp_path / "two")
    assert (one.call(0, 0, 0), two.call(0, 0, 0)) == (1, 2)
    assert load_function("judge:score", tmp_path / "one").call(0, 0, 0) == 1


def test_importing_leaves_the_search_path_and_the_generators_alone(write, generator_states):
    folder = write(judge="import random\nrandom.seed(3)\ndef score(m, t, i): pass")
    path, states = list(sys.path), generator_states()
    load_function("judge:score", folder)
    assert sys.path == path
    assert generator_states() == states


def test_a_checkout_of_evomerge_is_not_taken_for_the_users_code(write, tmp_path):
    folder = write(judge="import evomerge\ndef score(m, t, i): return 1", evomerge__core="")
    before = sys.modules["evomerge.core.errors"]
    assert list(load_function("judge:score", folder).digests) == ["judge.py"]
    assert sys.modules["evomerge.core.errors"] is before


# ---- identity


def test_the_version_changes_with_the_function_and_with_what_it_imports_here(write):
    judge = """
        import json
        from pack import inner
        def score(m, t, i): return 1
        def other(m, t, i): return 1
    """
    folder = write(
        judge=judge,
        pack__inner="from .deep import X",
        pack__deep="X = 1",
        stranger="X = 1",
        json__not_this="",
    )
    first = version(folder)
    assert version(folder) == first
    assert version(folder, "judge:other") != first
    write(stranger="X = 22")
    assert version(folder) == first
    write(pack__deep="X = 22")
    changed = version(folder)
    assert changed != first
    write(judge=judge.replace("return 1", "return 22"))
    assert version(folder) not in (first, changed)


def test_the_version_does_not_depend_on_where_the_folder_lies(write, tmp_path):
    write(a__judge="def score(m, t, i): return 1", b__judge="def score(m, t, i): return 1")
    assert version(tmp_path / "a") == version(tmp_path / "b")


# ---- calling


def test_a_function_gets_the_model_the_tokenizer_and_the_items(scorer, model, tokenizer):
    text = """
        def score(model, tokenizer, items):
            ids = tokenizer("red", return_tensors="pt").input_ids
            logits = model(ids).logits
            assert not model.training and not logits.requires_grad
            return {item: logits[0, -1, item].item() for item in items}
    """
    answered = scorer(text).responses(ITEMS)["t"]
    with torch.no_grad():
        logits = model(tokenizer("red", return_tensors="pt").input_ids).logits[0, -1]
    assert answered.items == ITEMS["t"]
    assert answered.values == {"score": tuple(float(logits[i]) for i in ITEMS["t"])}


def test_sampling_functions_repeat_themselves_and_disturb_no_generator(
    scorer, generator_states
):
    made = scorer(
        """
        import random, numpy, torch
        def score(m, t, items):
            return [random.random() + numpy.random.rand() + torch.rand(1) for _ in items]
        """.replace("torch.rand(1)", "torch.rand(1).item()")
    )
    states = generator_states()
    first = made.responses(ITEMS)
    assert generator_states() == states
    random.random(), np.random.rand(), torch.rand(1)  # noqa: NPY002
    assert made.responses(ITEMS) == first


def test_late_imports_from_the_folder_work(scorer, write):
    write(later="VALUE = 4")
    text = "def score(m, t, items):\n    import later\n    return [later.VALUE for _ in items]"
    assert scorer(text).responses(ITEMS)["t"].values == {"score": (4.0, 4.0, 4.0)}


def test_a_whole_task_is_asked_once_for_each_split_and_told_which(scorer):
    text = """
        def score(m, t, split):
            return {"search": 0.25, "validation": 0.5, "test": 1.0}[split]
    """
    made = scorer(text, count=None)
    task = made._tasks["t"]
    for split, value in {"search": 0.25, "test": 1.0}.items():
        answered = made.responses({"t": task.bank.items(split)[:3]})["t"]
        assert answered.items == task.bank.items(split)
        assert set(answered.values["score"]) == {value}


def test_two_models_with_equal_noisy_scores_are_not_found_equal_beyond_doubt(scorer):
    text = "def score(m, t, s): return {'score': 0.5, 'standard_error': 0.1}"
    one, again, other = (scorer(text, None, identity=name) for name in ("a", "a", "b"))
    asked = {"t": one._tasks["t"].bank.items("test")}
    assert one.responses(asked) == again.responses(asked)
    assert one.responses(asked) != other.responses(asked)


# ---- containing


def test_an_exception_says_where_in_the_users_code_it_was_raised(scorer):
    text = """
        def inner(item):
            return [][item]
        def score(model, tokenizer, items):
            return [inner(item) for item in items]
    """
    with pytest.raises(IndexError) as caught:
        scorer(text).responses(ITEMS)
    assert caught.value.__notes__ == ["(judge.py:3 in inner, task t)"]


def test_an_exception_of_a_library_says_which_line_of_the_user_called_it(scorer):
    text = "import torch\ndef score(m, t, items):\n    return torch.ones(2) @ torch.ones(3)"
    with pytest.raises(RuntimeError) as caught:
        scorer(text).responses(ITEMS)
    assert caught.value.__notes__ == ["(judge.py:3 in score, task t)"]


def test_sys_exit_is_a_failed_trial_and_an_interrupt_is_an_interrupt(scorer):
    with pytest.raises(TrialError, match=r"task t: it called sys\.exit\(3\) \(judge\.py:2"):
        scorer("import sys\ndef score(m, t, i): sys.exit(3)").responses(ITEMS)
    with pytest.raises(KeyboardInterrupt):
        scorer("def score(m, t, i): raise KeyboardInterrupt").responses(ITEMS)


def test_a_wrong_return_value_names_the_task(scorer):
    with pytest.raises(TrialError, match="task t: no value for item 0, 3, 5"):
        scorer("def score(m, t, i): return {}").responses(ITEMS)


@pytest.mark.parametrize(
    "change",
    [
        "m.lm_head.weight.add_(1)",
        "m.half()",
        "m.lm_head.weight = torch.nn.Parameter(m.lm_head.weight + 1)",
        "m.lm_head.weight.data = torch.zeros_like(m.lm_head.weight)",
        "m.lm_head = torch.nn.Linear(16, len(t), bias=False)",
    ],
)
def test_a_changed_model_is_noticed_and_its_parameters_put_back(scorer, model, change):
    before = dict(model.named_parameters())
    text = f"import torch\ndef score(m, t, items):\n    {change}\n    return [1 for _ in items]"
    with pytest.raises(TrialError, match=r"changed the model that it was lent \(.*copy"):
        scorer(text).responses(ITEMS)
    after = dict(model.named_parameters())
    assert list(after) == list(before)
    for name, parameter in before.items():
        assert parameter.dtype == torch.float32
        assert after[name] is parameter


def test_a_failed_function_leaves_the_model_as_it_was(scorer, model):
    text = "def score(m, t, items):\n    m.half().train()\n    raise ValueError('no')"
    with pytest.raises(ValueError, match="no"):
        scorer(text).responses(ITEMS)
    assert not model.training
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_settings_and_modes_are_put_back_without_a_word(scorer, model, tokenizer):
    text = """
        def score(m, t, items):
            m.train()
            m.requires_grad_(True)
            m.config.use_cache = False
            m.generation_config.max_length = 1
            t.pad_token = "red"
            return [1 for _ in items]
    """
    limit = model.generation_config.max_length
    scorer(text).responses(ITEMS)
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    assert model.config.use_cache is True
    assert model.generation_config.max_length == limit
    assert tokenizer.pad_token is None
