import gc
import threading

import pytest
import torch

from evomerge.merging.study_memory import StudyMemory

KIB = 1 << 10


class Making:
    """Counts how often a quantity is computed."""

    def __init__(self, kib=1, value=1.0):
        self.times, self.kib, self.value = 0, kib, value

    def __call__(self):
        self.times += 1
        return [torch.full((self.kib * KIB // 4,), self.value)]


def test_a_quantity_is_made_once():
    memory, make = StudyMemory(), Making()
    for _ in range(3):
        (tensor,) = memory.get("q", (), make)
        assert torch.equal(tensor, torch.ones(256))
    assert make.times == 1


def test_other_facts_are_another_tensor():
    memory = StudyMemory()
    assert float(memory.get("q", 0.1, Making(value=1))[0][0]) == 1
    assert float(memory.get("q", 0.2, Making(value=2))[0][0]) == 2
    assert float(memory.get("q", 0.1, Making(value=3))[0][0]) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8, torch.float64])
def test_what_memory_does_not_hold_lies_in_a_file_with_the_same_bits(tmp_path, dtype):
    memory = StudyMemory(memory_bytes=0, folder=tmp_path)
    wanted = torch.randn(3, 500, generator=torch.Generator().manual_seed(1)).to(dtype)
    times = []

    def make():
        times.append(1)
        return [wanted]

    for _ in range(2):
        (tensor,) = memory.get("q", (), make)
        assert tensor.dtype == dtype
        assert torch.equal(tensor, wanted)
        assert tensor.data_ptr() != wanted.data_ptr()
    assert len(times) == 1
    assert memory.memory_left == 0


def test_files_leave_nothing_behind_even_while_they_are_used(tmp_path):
    memory = StudyMemory(memory_bytes=0, folder=tmp_path)
    (tensor,) = memory.get("q", (), Making())
    assert list(tmp_path.iterdir()) == []
    del memory
    gc.collect()
    assert float(tensor.sum()) == 256


def test_beyond_both_limits_a_quantity_is_made_anew_and_nothing_gives_way(tmp_path):
    memory = StudyMemory(memory_bytes=2 * KIB, disk_bytes=2 * KIB, folder=tmp_path)
    makes = [Making() for _ in range(6)]
    for _ in range(3):
        for number, make in enumerate(makes):
            memory.get(number, (), make)
    assert [make.times for make in makes] == [1, 1, 1, 1, 3, 3]


def test_a_gene_that_varies_does_not_fill_the_memory():
    memory = StudyMemory(memory_bytes=100 * KIB)
    for step in range(1_000):
        memory.get("q", step, Making(kib=10))
    assert memory.memory_left >= 80 * KIB


def test_threads_may_ask_at_the_same_time():
    memory = StudyMemory(memory_bytes=40 * KIB)
    wrong = []

    def ask():
        for step in range(300):
            (tensor,) = memory.get(step % 17, step % 5, Making(value=float(step % 17)))
            if not bool((tensor == step % 17).all()):
                wrong.append(step)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_without_a_place_for_files_a_quantity_is_made_anew(tmp_path):
    memory, make = StudyMemory(memory_bytes=0, folder=tmp_path / "none"), Making()
    for _ in range(2):
        assert float(memory.get("q", (), make)[0][0]) == 1
    assert make.times == 2


def test_a_quantity_that_two_threads_make_is_counted_once():
    memory, meet = StudyMemory(memory_bytes=10 * KIB), threading.Barrier(2)

    def make():
        meet.wait(10)
        return [torch.zeros(KIB // 4)]

    threads = [threading.Thread(target=memory.get, args=("q", (), make)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert memory.memory_left == 9 * KIB


def test_the_newest_variants_are_kept_when_memory_is_short():
    memory = StudyMemory(memory_bytes=2 * KIB, disk_bytes=0)
    for facts in (1, 2, 3):
        memory.get("q", facts, Making())
    again = Making()
    memory.get("q", 3, again)
    assert again.times == 0
