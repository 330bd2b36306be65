"""A chain of searches on the command line: killed, looked at, exported, and written wrongly."""

import contextlib
import re
import signal
import time
import urllib.request

import pytest
from command_line import DEADLINE, command, wait_for_trials
from staged_runs import STAGES, write_chain
from study_content import content

import evomerge


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    return evomerge.run(write_chain(folder), out=folder / "run").path


def killed_when(process, come):
    end = time.monotonic() + DEADLINE
    while process.poll() is None and not come():
        assert time.monotonic() < end, "the chain makes no progress"
        time.sleep(0.0005)
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_a_chain_killed_in_every_stage_and_between_them_equals_an_undisturbed_one(
    tmp_path, chain
):
    run_dir = tmp_path / "killed"
    first, kept = run_dir / "1-ps", run_dir / "1-ps" / "kept"
    process = command("run", str(write_chain(tmp_path)), "--out", str(run_dir), cwd=tmp_path)
    wait_for_trials(process, first, 8)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not kept.exists()
    # while the kept model is being exported, or in the moment after it
    killed_when(command("resume", str(run_dir), cwd=tmp_path), kept.exists)
    assert not (run_dir / "2-dfs" / "study.db").exists()
    process = command("resume", str(run_dir), cwd=tmp_path)
    wait_for_trials(process, run_dir / "2-dfs", 4)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    process = command("resume", str(run_dir), cwd=tmp_path)
    output, errors = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, errors
    for stage in ("1-ps", "2-dfs"):
        assert content(run_dir / stage) == content(chain / stage)
    assert (first / "kept.json").read_text() == (chain / "1-ps" / "kept.json").read_text()
    assert [*kept.iterdir()] == [kept / "1"]
    assert "stages of small" in output
    assert f"evomerge resume {run_dir} --add 100" in output


def test_status_tells_of_every_stage(call, chain):
    shown = call("status", chain)
    assert shown.code == 0
    assert "small: finished" in shown.out
    assert re.search(r"1 . ps +. finished . 5 scored", shown.out)
    assert re.search(r"2 . dfs +. finished . 5 scored", shown.out)
    assert "After 2 stages and 10 candidates" in shown.out


def test_a_stage_is_looked_at_as_any_run(call, chain):
    shown = call("status", chain / "2-dfs")
    assert shown.code == 0
    assert "small-dfs: finished" in shown.out


def test_report_rebuilds_the_index_and_every_stage(call, chain):
    pages = [chain / "report.html", *(chain / s / "report.html" for s in ("1-ps", "2-dfs"))]
    for page in pages:
        page.unlink()
    assert call("report", chain).code == 0
    assert all(page.exists() for page in pages)


def test_watch_of_a_finished_chain_shows_its_outcome_and_ends(call, chain):
    shown = call("watch", chain)
    assert shown.code == 0
    assert shown.out.index("small-ps: ") < shown.out.index("small-dfs: ")
    assert "After 2 stages and 10 candidates" in shown.out


def test_export_takes_the_last_stage_or_the_one_that_is_named(call, chain, tmp_path):
    assert call("export", chain, tmp_path / "first", "--stage", "ps", "--trial", "4").code == 0
    assert "uniform average" not in (tmp_path / "first" / "recipe.yaml").read_text()
    assert "operator: linear" in (tmp_path / "first" / "recipe.yaml").read_text()
    assert call("export", chain, tmp_path / "last", "--trial", "1").code == 0
    assert "1-ps/kept/1" in (tmp_path / "last" / "recipe.yaml").read_text()
    wrong = call("export", chain, tmp_path / "none", "--stage", "sp", "--trial", "1")
    assert wrong.code == 2
    assert "unknown stage 'sp'; did you mean 'ps'?" in wrong.err


def test_serve_shows_the_index_and_each_stage_below_it(chain, tmp_path):
    process = command("serve", str(chain), "--port", "0", cwd=tmp_path)
    try:
        url = re.search(r"http://\S+", process.stdout.readline())[0]
        with contextlib.closing(urllib.request.urlopen(url)) as answer:
            page = answer.read().decode()
        assert 'href="2-dfs/"' in page
        with contextlib.closing(urllib.request.urlopen(f"{url}2-dfs/state.json")) as answer:
            assert '"small-dfs"' in answer.read().decode()
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{url}3-more/")
    finally:
        process.kill()
        process.communicate()


def test_resume_of_a_finished_chain_says_that_nothing_was_left(call, chain):
    before = content(chain / "2-dfs")
    shown = call("resume", chain)
    assert shown.code == 0
    assert "nothing was left to do" in shown.out
    assert content(chain / "2-dfs") == before


def test_validate_tells_stages_budget_and_disk_use(call, tmp_path):
    shown = call("validate", write_chain(tmp_path))
    assert shown.code == 0, shown.err
    assert "small: 2 stages, ps then dfs; 10 candidates in all" in shown.out
    assert re.search(r"stage ps keeps 1 model, at most 2\.\d MB each on disk", shown.out)
    assert "small-dfs: 2 source models" in shown.out


WRONG = {
    "models of two stages": (
        {"stages": [STAGES[0] | {"models": {"experts": {"town": "./no"}}}, STAGES[1]]},
        ["./no: no such folder", "(stage ps)"],
    ),
    "a space that does not suit": (
        {"stages": [STAGES[0], STAGES[1] | {"space": {"operator": "tise"}}]},
        ["unknown operator 'tise'; did you mean 'ties'?", "(stage dfs)"],
    ),
    "values of another kind of space": (
        {
            "stages": [
                STAGES[0],
                STAGES[1] | {"models": {}, "fix": {"from": "ps", "parameters": "weight"}},
            ]
        },
        ["fix: ", "(stage dfs)"],
    ),
    "unknown parameter to fix": (
        {
            "stages": [
                STAGES[0],
                {"name": "more", "fix": {"from": "ps", "parameters": ["density"]}},
            ]
        },
        ["fix: unknown parameter", "(stage more)"],
    ),
    "an option that the optimizer does not have": (
        {"stages": [STAGES[0], STAGES[1] | {"optimizer": {"name": "nsga2", "peple": 4}}]},
        ["optimizer.peple", "(stage dfs)"],
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_with_any_stage_is_told_before_any_work(call, tmp_path, case):
    changes, told = WRONG[case]
    path = write_chain(tmp_path, **changes)
    shown = call("run", path, "--out", tmp_path / "run")
    assert shown.code == (4 if case == "models of two stages" else 2)
    for text in told:
        assert text in shown.err, shown.err
    assert not (tmp_path / "run").exists()


def test_commands_for_a_single_search_say_what_takes_a_chain(call, tmp_path):
    shown = call("estimate", write_chain(tmp_path))
    assert shown.code == 2
    assert "a chain of them is for 'evomerge run'" in shown.err
