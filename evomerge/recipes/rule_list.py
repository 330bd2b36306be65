"""A short list of rules from how each tensor is to be merged."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from evomerge.core.recipe import Rule
from evomerge.core.tensor_names import layer_of

_Group = tuple[int | None, tuple[str, ...]]
"""A layer, and those of the parts that the names of its tensors contain."""


def rules_for(
    merges: Mapping[str, Rule],
    parts: Sequence[str],
    is_sound: Callable[[Sequence[Rule]], bool] = lambda _: True,
) -> tuple[Rule, ...]:
    """Rules of which, for each tensor, the first that selects it merges as asked for.

    Args:
        merges: At least one tensor of the merged model by name, each with a rule that says how
            it is merged; what that rule selects does not count.
        parts: Parts of names by which tensors of one layer may be told apart. Where they do
            not suffice, what precedes and what follows the layer's number is taken besides.
        is_sound: Whether a list may be taken; lists with a rule for every layer must be.
    """
    rules = _one_rule_a_group(*_groups(merges, parts))
    rules = _without_idle(rules, merges, is_sound)
    for place in range(len(rules)):
        rules = _widened(rules, place, merges, is_sound)
    return tuple(rules)


def same_merge(one: Rule, other: Rule) -> bool:
    """Whether two rules merge alike, whatever they select; the order of models counts."""
    return (one.operator, one.scale, one.parameters, [*one.models.items()]) == (
        other.operator,
        other.scale,
        other.parameters,
        [*other.models.items()],
    )


def _groups(
    merges: Mapping[str, Rule], parts: Sequence[str]
) -> tuple[dict[_Group, Rule], list[str]]:
    """How the tensors of each group are merged, and all parts by which groups are told apart.

    Parts are added until the tensors of one group are merged alike.
    """
    known = list(dict.fromkeys(parts))
    while True:
        members: dict[_Group, list[str]] = {}
        for name in merges:
            members.setdefault((layer_of(name), _longest(known, name)), []).append(name)
        rarer = [
            name
            for names in members.values()
            for name in _rarer([(name, merges[name]) for name in names])
        ]
        if not rarer:
            groups = {group: merges[names[0]] for group, names in members.items()}
            return _with_catch_alls(groups, known), known
        pieces = [piece for name in rarer for piece in name_pieces(name)]
        if set(pieces) <= set(known):
            pieces = [*merges]
        known = list(dict.fromkeys([*known, *pieces]))


def _with_catch_alls(groups: Mapping[_Group, Rule], known: Sequence[str]) -> dict[_Group, Rule]:
    """The groups, where in each layer that of the fewest parts is the one for all the rest."""
    smallest: dict[int | None, tuple[str, ...]] = {}
    for layer, own in groups:
        if layer not in smallest or _reach(own, known) < _reach(smallest[layer], known):
            smallest[layer] = own
    return {
        (layer, () if own == smallest[layer] else own): rule
        for (layer, own), rule in groups.items()
    }


def _reach(parts: Sequence[str], known: Sequence[str]) -> int:
    """How many of the known parts every name contains that contains these."""
    return sum(any(part in own for own in parts) for part in known)


def _longest(parts: Sequence[str], name: str) -> tuple[str, ...]:
    """The parts that a name contains, without those that stand in another of them."""
    found = [part for part in parts if part in name]
    return tuple(p for p in found if not any(p != other and p in other for other in found))


def _rarer(members: Sequence[tuple[str, Rule]]) -> list[str]:
    """The tensors that are not merged as most of them are."""
    kinds: list[Rule] = []
    of: list[int] = []
    for _, rule in members:
        alike = [k for k, kind in enumerate(kinds) if same_merge(kind, rule)]
        kinds += [] if alike else [rule]
        of.append(alike[0] if alike else len(kinds) - 1)
    (most, _), *_ = Counter(of).most_common(1)
    return [name for (name, _), kind in zip(members, of, strict=True) if kind != most]


def name_pieces(name: str) -> list[str]:
    """What precedes and what follows the layer's number; the whole name where there is none."""
    layer = layer_of(name)
    if layer is None:
        return [name]
    words = name.split(".")
    place = words.index(str(layer)) if str(layer) in words else 0
    around = (".".join(words[:place]), ".".join(words[place + 1 :]))
    return [piece for piece in around if piece] or [name]


def _one_rule_a_group(groups: Mapping[_Group, Rule], known: Sequence[str]) -> list[Rule]:
    """One rule for each run of layers of a group, those of many parts first.

    A rule selects tensors of its own group, and of groups whose names contain more of the
    known parts, which have had their rule before.
    """
    every = dict.fromkeys(parts for _, parts in groups)
    in_order = sorted(every, key=lambda parts: -_reach(parts, known))
    rules = []
    for parts in in_order:
        layers = sorted(k for k, own in groups if own == parts and k is not None)
        # Neighbours have one difference between their layer and their place in the list.
        for _, run in groupby(enumerate(layers), key=lambda each: each[1] - each[0]):
            rules += _runs([layer for _, layer in run], parts, groups)
    outside = [parts for parts in in_order if (None, parts) in groups]
    return rules + [replace(groups[None, p], layers=None, contains=p) for p in outside]


def _runs(
    layers: Sequence[int], parts: tuple[str, ...], groups: Mapping[_Group, Rule]
) -> list[Rule]:
    rules: list[Rule] = []
    for layer in layers:
        rule = groups[layer, parts]
        if rules and same_merge(rules[-1], rule):
            first, _ = rules[-1].layers or (layer, layer)
            rules[-1] = replace(rules[-1], layers=(first, layer + 1))
        else:
            rules.append(replace(rule, layers=(layer, layer + 1), contains=parts))
    return rules


def _without_idle(
    rules: list[Rule], merges: Mapping[str, Rule], is_sound: Callable[[Sequence[Rule]], bool]
) -> list[Rule]:
    """The rules without those whose tensors a later rule merges in the same way."""
    held: dict[int, list[str]] = {}
    for name in merges:
        place = next(k for k, rule in enumerate(rules) if rule.selects(name))
        held.setdefault(place, []).append(name)
    kept: list[Rule] = []
    for place in reversed(range(len(rules))):
        idle = bool(kept) and all(
            any(same_merge(later, merges[name]) for later in _first_for(name, kept))
            for name in held.get(place, [])
        )
        if not (idle and is_sound([*rules[:place], *kept])):
            kept.insert(0, rules[place])
    return kept


def _first_for(name: str, rules: Sequence[Rule]) -> list[Rule]:
    return [rule for rule in rules if rule.selects(name)][:1]


def _widened(
    rules: list[Rule],
    place: int,
    merges: Mapping[str, Rule],
    is_sound: Callable[[Sequence[Rule]], bool],
) -> list[Rule]:
    """The rules with one of them for all layers, or the last for all tensors, if it may be."""
    rule = rules[place]
    last = place == len(rules) - 1
    wider = replace(rule, layers=None, contains=() if last else rule.contains)
    siblings = [r for r in rules if r.contains == rule.contains and r.layers is not None]
    if wider == rule or (not last and len(siblings) > 1):
        return rules
    changed = [*rules[:place], wider, *rules[place + 1 :]]
    taken = [name for name in merges if wider.selects(name) and not rule.selects(name)]
    harmless = all(
        any(same_merge(found, merges[name]) for found in _first_for(name, changed))
        for name in taken
    )
    return changed if harmless and (last or is_sound(changed)) else rules
