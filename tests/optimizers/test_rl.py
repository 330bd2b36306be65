"""Reinforcement learning of genomes: what the policy sees, how it learns, where it wins."""

import statistics
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from evomerge.core.outcomes import Failed, Scored
from evomerge.optimizers.registry import make_optimizer
from evomerge.optimizers.rl.episodes import EpisodeCode
from evomerge.optimizers.rl.options import RlOptions
from evomerge.optimizers.rl.policy import (
    ActorCritic,
    Observations,
    Steps,
    log_probabilities,
)
from evomerge.optimizers.search_problem import SearchProblem
from evomerge.spaces.genes import ChoiceGene, FloatGene, IntGene

MOVES = ("e1", "e2", "linear", "ties", "skip", "back")
LAYERS = 12
BEST_SOURCES = (2, 0, 0, 1, 3, 3, 1, 0, 2, 2, 1, 3)


def moves(count):
    return [ChoiceGene(f"move {k}", MOVES) for k in range(1, count + 1)]


def stacked(genome):
    """Wrong sources, layers left out and layers taken twice, each counted."""
    cursor, taken, wrong = 0, [0] * LAYERS, 0
    for move in genome.values():
        if cursor >= LAYERS:
            break
        if move == "back":
            cursor = max(0, cursor - 1)
            continue
        if move != "skip":
            wrong += MOVES.index(move) != BEST_SOURCES[cursor]
            taken[cursor] += 1
        cursor += 1
    return (float(wrong + 2 * taken.count(0) + sum(max(0, t - 1) for t in taken)),)


def losses_of(name, genes, evaluate, seed, candidates, objectives=1, **options):
    optimizer = make_optimizer(name, options, SearchProblem(genes, objectives, seed))
    losses = []
    while len(losses) < candidates and optimizer.finished is None:
        asked = optimizer.ask(min(8, candidates - len(losses)))
        told = {c.id: Scored(evaluate(c.genome)) for c in asked}
        losses += [told[c.id].losses for c in asked]
        optimizer.tell(told)
    return np.array(losses)


def test_it_learns_the_moves_of_a_stack_that_random_search_does_not_find():
    """28 counted mistakes at most; random search keeps 6, this at most 3."""
    genes = moves(LAYERS + 4)
    best = {
        name: statistics.median(
            losses_of(name, genes, stacked, seed, 300).min() for seed in range(3)
        )
        for name in ("rl", "random")
    }
    assert best["random"] >= 6
    assert best["rl"] <= best["random"] / 2


def test_its_later_candidates_are_better_than_its_first():
    losses = losses_of("rl", moves(LAYERS + 4), stacked, 0, 300)
    assert losses[-50:].mean() < 0.7 * losses[:50].mean()


def test_it_learns_from_outcomes_as_they_arrive():
    losses = losses_of("rl", moves(LAYERS + 4), stacked, 0, 300, asynchronous=True)
    assert losses[-50:].mean() < 0.7 * losses[:50].mean()


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_small_space_is_searched_whole_and_then_finished(asynchronous):
    genes = [IntGene("i", 0, 4), ChoiceGene("c", ("a", "b", "c"))]
    optimizer = make_optimizer("rl", {"asynchronous": asynchronous}, SearchProblem(genes, 1, 0))
    seen = []
    while optimizer.finished is None:
        for candidate in optimizer.ask(3):
            seen.append(tuple(candidate.genome.values()))
            optimizer.tell({candidate.id: Scored((float(candidate.genome["i"]),))})
    assert len(seen) == len(set(seen)) == 15


def mixed_genes():
    return [
        ChoiceGene("c", ("a", "b", "c")),
        FloatGene("x", -1.0, 1.0),
        IntGene("few", 1, 4),
        IntGene("many", 0, 99),
    ]


def test_number_genes_are_cut_into_at_most_ten_bins():
    assert EpisodeCode(mixed_genes()).action_counts == [3, 10, 4, 10]


@pytest.mark.parametrize("genes", [mixed_genes(), moves(6), moves(130)], ids=len)
def test_actions_become_genomes_and_back(genes):
    rng = np.random.default_rng(0)
    code = EpisodeCode(genes)
    for _ in range(20):
        actions = rng.integers(0, code.action_counts)
        units = code.units_of(actions, rng)
        assert np.array_equal(code.actions_of(units), actions)
        genome = [gene.from_unit(unit) for gene, unit in zip(genes, units, strict=True)]
        back = [gene.to_unit(value) for gene, value in zip(genes, genome, strict=True)]
        assert np.array_equal(code.actions_of(np.array(back)), actions)


def test_values_within_a_bin_are_drawn_evenly():
    code = EpisodeCode([FloatGene("x", 0.0, 1.0)])
    rng = np.random.default_rng(0)
    drawn = np.array([code.units_of(np.array([3]), rng)[0] for _ in range(2000)])
    assert 0.3 <= drawn.min() < 0.301
    assert 0.399 < drawn.max() <= 0.4
    assert abs(drawn.mean() - 0.35) < 0.002


def test_the_map_is_by_layer_where_moves_go_back():
    genes = moves(6)
    code = EpisodeCode(genes)
    actions = np.array([MOVES.index(m) for m in ("e1", "skip", "back", "e2", "ties", "e1")])
    seen = code.observations(actions, np.arange(6)).features
    merging_map = seen[5, -6 * len(MOVES) :].reshape(6, len(MOVES))
    expected = np.zeros((6, len(MOVES)))
    for layer, move in ((0, "e1"), (1, "skip"), (2, "back"), (1, "e2"), (2, "ties")):
        expected[layer, MOVES.index(move)] = 1
    assert np.array_equal(merging_map, expected)


@pytest.mark.parametrize("genes", [mixed_genes(), moves(6), moves(130)], ids=len)
def test_a_drawn_action_has_the_probability_that_its_observation_gives(genes):
    optimizer = make_optimizer("rl", {}, SearchProblem(genes, 1, 3))
    rng = np.random.default_rng(1)
    for _ in range(4):  # so that the policy is no longer even
        optimizer.tell({c.id: Scored((rng.random(),)) for c in optimizer.ask(8)})
    code, every = EpisodeCode(genes), np.arange(len(genes))
    actions, logs = optimizer._draw(5, 1.0)
    for own, own_logs in zip(actions, logs, strict=True):
        logits = optimizer._policy.actor.forward(code.observations(own, every))
        expected, _ = log_probabilities(logits, code.allowed)
        assert np.allclose(own_logs, expected[every, own], atol=1e-9)


def drawn_steps(rng, steps=40, positions=7, features=9, actions=4):
    allowed = rng.random((steps, actions)) < 0.7
    allowed[:, 0] = True
    taken = np.array([rng.choice(np.flatnonzero(row)) for row in allowed])
    seen = Observations(
        rng.integers(0, positions, steps), rng.standard_normal((steps, features))
    )
    return Steps(seen, allowed, taken, -rng.random(steps) - 0.7, rng.standard_normal(steps))


def test_gradients_are_those_that_torch_finds():
    import torch

    rng = np.random.default_rng(0)
    steps, options = drawn_steps(rng), RlOptions(entropy=0.1)
    policy = ActorCritic(7, 9, 4, options, rng)
    policy.actor.parameters = [
        rng.standard_normal(p.shape) / 4 for p in policy.actor.parameters
    ]
    own = policy.actor.gradients(steps.observations, policy._by_logits(steps, steps.returns))

    p = [torch.tensor(each, requires_grad=True) for each in policy.actor.parameters]
    seen = steps.observations
    hidden = torch.tanh(torch.tensor(seen.features) @ p[1] + p[0][seen.positions] + p[2])
    logits = torch.tanh(hidden @ p[3] + p[4]) @ p[5] + p[6]
    allowed = torch.tensor(steps.allowed)
    chances = torch.distributions.Categorical(logits=logits.masked_fill(~allowed, -1e9))
    ratio = (
        chances.log_prob(torch.tensor(steps.actions)) - torch.tensor(steps.log_probabilities)
    ).exp()
    gain = torch.tensor(steps.returns)
    clipped = torch.minimum(ratio * gain, ratio.clamp(0.8, 1.2) * gain)
    loss = -(clipped + 0.1 * chances.entropy()).mean()
    loss.backward()
    assert policy.loss(steps, steps.returns) == pytest.approx(loss.item())
    for (rows, gradient), expected in zip(own, p, strict=True):
        whole = np.zeros(expected.shape)
        whole[rows] = gradient
        assert np.allclose(whole, expected.grad.numpy(), atol=1e-9)


def test_learning_makes_what_was_rewarded_more_likely():
    rng = np.random.default_rng(0)
    steps = drawn_steps(rng)
    policy = ActorCritic(7, 9, 4, RlOptions(entropy=0.0, epochs=20), rng)
    logs, _ = log_probabilities(policy.actor.forward(steps.observations), steps.allowed)
    own = logs[np.arange(40), steps.actions]
    policy.update(
        replace(steps, log_probabilities=own, returns=np.where(np.arange(40) < 20, 1.0, -1.0))
    )
    after, _ = log_probabilities(policy.actor.forward(steps.observations), steps.allowed)
    gained = after[np.arange(40), steps.actions] - own
    assert gained[:20].mean() > gained[20:].mean() + 0.02


def test_rewards_are_ranks_so_that_the_scale_of_losses_does_not_matter():
    def run(scale):
        return losses_of("rl", moves(8), lambda g: (scale * stacked(g)[0],), 1, 80)

    assert np.allclose(run(1e-200) / 1e-200, run(1e150) / 1e150)


def test_a_failed_candidate_has_the_least_reward_and_equals_have_none():
    optimizer = make_optimizer("rl", {}, SearchProblem(moves(8), 2, 1))
    rewards = optimizer._rewards(
        [Scored((1.0, 5.0)), Failed("merge", "no"), Scored((2.0, 1.0)), Scored((0.0, 0.0))]
    )
    assert rewards.argmin() == 1
    assert rewards.argmax() == 3
    assert rewards[0] == pytest.approx(rewards[2])
    flat = make_optimizer("rl", {}, SearchProblem(moves(8), 1, 1))
    assert not flat._rewards([Scored((0.5,))] * 8).any()


def test_it_loads_no_model_framework():
    code = "import evomerge.optimizers.rl.rl, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert not {"torch", "pymoo", "cma", "scipy"} & set(done.stdout.split())
