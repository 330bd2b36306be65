"""Copies of the driver's places: whole, made once, and anew when the original changes."""

import os
import threading

from evomerge.workers.copied_places import copied, list_place, read_part


def make_model(folder):
    (folder / "sub").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "sub" / "weights").write_bytes(os.urandom(300_000))
    (folder / "empty").touch()
    return folder


def tree(folder):
    return {
        f.relative_to(folder).as_posix(): f.read_bytes()
        for f in folder.rglob("*")
        if f.is_file()
    }


def test_a_folder_and_a_single_file_arrive_whole(tmp_path):
    model = make_model(tmp_path / "model")
    copy = copied(str(model), list_place(str(model)), read_part, tmp_path / "cache")
    assert copy != model
    assert tree(copy) == tree(model)
    file = model / "config.json"
    alone = copied(str(file), list_place(str(file)), read_part, tmp_path / "cache")
    assert (alone.name, alone.read_text()) == ("config.json", "{}")


def test_an_empty_folder_is_a_folder_there_too(tmp_path):
    (tmp_path / "none").mkdir()
    place = str(tmp_path / "none")
    assert copied(place, list_place(place), read_part, tmp_path / "cache").is_dir()


def test_many_workers_of_a_machine_copy_once(tmp_path):
    model = make_model(tmp_path / "model")
    reads = []

    def read(place, name, start, length):
        reads.append(name)
        return read_part(place, name, start, length)

    found = []
    threads = [
        threading.Thread(
            target=lambda: found.append(
                copied(str(model), list_place(str(model)), read, tmp_path / "cache")
            )
        )
        for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert sorted(reads) == ["config.json", "sub/weights"]


def test_a_changed_original_is_copied_anew(tmp_path):
    model = make_model(tmp_path / "model")
    first = copied(str(model), list_place(str(model)), read_part, tmp_path / "cache")
    (model / "config.json").write_text('{"changed": true}')
    second = copied(str(model), list_place(str(model)), read_part, tmp_path / "cache")
    assert first != second
    assert tree(second) == tree(model)


def test_a_copy_that_breaks_off_leaves_nothing_that_looks_whole(tmp_path):
    model = make_model(tmp_path / "model")

    def broken(place, name, start, length):
        if name == "sub/weights":
            raise ConnectionError("gone")
        return read_part(place, name, start, length)

    cache = tmp_path / "cache"
    try:
        copied(str(model), list_place(str(model)), broken, cache)
    except ConnectionError:
        pass
    else:
        raise AssertionError("it must not pass over a lost connection")
    assert [f for f in cache.iterdir() if f.is_dir()] == []
    whole = copied(str(model), list_place(str(model)), read_part, cache)
    assert tree(whole) == tree(model)
