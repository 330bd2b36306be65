import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from merging.applied import applied, normal

from evomerge.core.errors import TrialError

ENTRIES = st.lists(st.tuples(*[st.floats(-3, 3, width=32)] * 2), min_size=1, max_size=30)


@given(ENTRIES, st.floats(0, 2))
def test_entries_move_by_t_at_most(entries, t):
    model, base = torch.tensor(entries).T
    got = applied("nearswap", [model], base, t=t)
    want = base + (model - base).clamp(-t, t)
    torch.testing.assert_close(got, want, atol=1e-6, rtol=0)


@given(ENTRIES, st.floats(1e-4, 2))
def test_the_closed_form_is_the_interpolation_that_names_the_method(entries, t):
    model, base = torch.tensor(entries).T.double()
    share = (t / (model - base).abs().clamp(min=1e-6)).clamp(0, 1)
    want = (share * model + (1 - share) * base).float()
    got = applied("nearswap", [model.float()], base.float(), t=t)
    torch.testing.assert_close(got, want, atol=1e-6, rtol=0)


def test_lambda_scales_the_step():
    model, base = normal(5, count=2)
    got = applied("nearswap", [model], base, t=0.1, lambda_=3.0)
    torch.testing.assert_close(got, base + 3 * (model - base).clamp(-0.1, 0.1))


def test_an_infinite_entry_is_not_clipped_away():
    model, base = normal(5, count=2)
    model[2] = torch.inf
    with pytest.raises(TrialError, match="tensor: nearswap of a gives NaN"):
        applied("nearswap", [model], base)
