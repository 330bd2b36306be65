import torch
from merging.applied import Keeper, applied, normal

BASE = torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0])
A = BASE + torch.tensor([0.5, 0.25, 0.0, 0.001, 0.5])
B = BASE + torch.tensor([0.0, 0.75, -0.5, 0.0, 0.5])


def test_changes_of_one_model_are_kept_and_shared_ones_averaged():
    got = applied("ram", [A, B], BASE, epsilon=0.01)
    torch.testing.assert_close(got - BASE, torch.tensor([0.5, 0.5, -0.5, 0.0, 0.5]))


def test_a_models_own_changes_are_amplified_by_how_much_it_shares():
    got = applied("ramplus_tl", [A, B], BASE, epsilon=0.01, r=0.5, alpha=1.5)
    factor = 1 + 0.5 * 1.5  # each shares 2 and has 1 of its own, so 2 is cut to 1.5
    want = torch.tensor([0.5 * factor, 0.5, -0.5 * factor, 0.0, 0.5])
    torch.testing.assert_close(got - BASE, want)


def test_without_gain_both_are_the_same():
    *models, base = normal(30, count=4)
    plain = applied("ram", models, base, epsilon=0.7)
    assert torch.equal(applied("ramplus_tl", models, base, epsilon=0.7, r=0.0), plain)


def test_counts_are_kept_for_each_epsilon():
    *models, base = normal(30, count=4)
    once = Keeper()
    for epsilon in (0.2, 0.7, 0.7):
        got = applied("ramplus_tl", models, base, once=once, epsilon=epsilon)
        assert torch.equal(got, applied("ramplus_tl", models, base, epsilon=epsilon))
    assert once.made == ["shared and alone"] * 2


def test_models_that_are_the_base_give_the_base():
    assert torch.equal(applied("ram", [BASE, BASE], BASE), BASE)
    assert torch.equal(applied("ramplus_tl", [BASE, BASE], BASE), BASE)
