"""Files and folders appear whole or not at all."""

import stat
from pathlib import Path

import pytest

from evomerge.core.atomic_write import new_folder, write_text


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_and_replaced(tmp_path):
    path = tmp_path / "report.txt"
    write_text(path, "first")
    write_text(path, "zweite Fassung: ü")
    assert path.read_text(encoding="utf-8") == "zweite Fassung: ü"
    assert names_in(tmp_path) == ["report.txt"]


def test_a_file_can_be_read_by_others(tmp_path):
    write_text(tmp_path / "a", "")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o644


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "report.txt"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "lone surrogate \ud800")
    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["report.txt"]


def test_a_folder_takes_its_name_when_the_block_succeeds(tmp_path):
    target = tmp_path / "deep" / "model"
    with new_folder(target) as partial:
        (partial / "sub").mkdir()
        (partial / "sub" / "weights").write_text("w")
        assert not target.exists()
    assert (target / "sub" / "weights").read_text() == "w"
    assert names_in(target.parent) == ["model"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_block_that_fails_leaves_no_folder(tmp_path, error):
    def write_half():
        with new_folder(tmp_path / "model") as partial:
            (partial / "weights").write_text("half")
            raise error

    with pytest.raises(error):
        write_half()
    assert names_in(tmp_path) == []


def test_an_empty_folder_is_taken_over(tmp_path):
    (tmp_path / "model").mkdir()
    with new_folder(tmp_path / "model") as partial:
        (partial / "weights").write_text("w")
    assert names_in(tmp_path / "model") == ["weights"]


def test_an_empty_folder_is_kept_when_the_block_fails(tmp_path):
    (tmp_path / "model").mkdir()
    with pytest.raises(ValueError, match="stop"), new_folder(tmp_path / "model"):
        raise ValueError("stop")
    assert names_in(tmp_path) == ["model"]


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_exists_is_never_overwritten(tmp_path, kind):
    target = tmp_path / "model"
    inside = target / "mine" if kind == "folder" else target
    inside.parent.mkdir(exist_ok=True)
    inside.write_text("precious")
    with pytest.raises(FileExistsError), new_folder(target):
        pass
    assert inside.read_text() == "precious"
    assert names_in(tmp_path) == ["model"]
