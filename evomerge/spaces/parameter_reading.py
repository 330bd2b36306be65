"""From a recipe back to the genes of a parameter space, read off its rules."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from evomerge.core.outcomes import GeneValue, Genome
from evomerge.core.recipe import Recipe, Rule, Value
from evomerge.spaces.genes import ChoiceGene, Gene
from evomerge.spaces.parameter_genes import ParameterGenes, Setting
from evomerge.spaces.parameter_rules import ALONE, RuleWriter
from evomerge.spaces.parameter_spec import WEIGHT
from evomerge.spaces.ranges import is_number
from evomerge.spaces.sections import Section
from evomerge.spaces.simplex import amounts_of


def read_genome(recipe: Recipe, genes: ParameterGenes, writer: RuleWriter) -> Genome | None:
    """Each gene read off the first rule that it is for; None where no genome comes near."""
    return None if recipe.slices else _Reading(recipe, genes, writer).genome()


@dataclass
class _Reading:
    recipe: Recipe
    genes: ParameterGenes
    writer: RuleWriter
    found: dict[str, Value] = field(default_factory=dict)

    def genome(self) -> Genome | None:
        """What was found, brought into range; middles where the recipe says nothing."""
        sections = [section for section in self.genes.sections if section.searched]
        alone = []
        for section in sections:
            rule = self.recipe.rule_for(section.sample)
            if self._is_merge(rule):
                if not self._read(section, rule):
                    return None
            elif self.genes.spec.subset is not None and self._is_alone(rule):
                alone.append((section, rule))
            else:
                return None
        for section, rule in alone:  # last, since they tell less of what sections share
            self._read_alone(section, rule)
        genome: dict[str, GeneValue] = {}
        for gene in self.genes.free:
            known = gene.name in self.found
            value = nearest(gene, self.found[gene.name]) if known else gene.from_unit(0.5)
            if value is None:
                return None
            genome[gene.name] = value
        return genome

    def _is_merge(self, rule: Rule) -> bool:
        """Whether a section could have a rule of this operator over these models."""
        if rule.operator not in self.genes.spec.operator:
            return False
        operator = self.writer.operators[rule.operator]
        takes_base = operator.needs_base or operator.takes_base
        base = self.writer.models.base
        left_out = base.name if base and takes_base else None
        merged = [name for name in rule.models if name != left_out]
        written = self.writer.merged(operator)
        if operator.max_models is not None:
            return merged == written
        return all(name in written for name in merged)

    def _is_alone(self, rule: Rule) -> bool:
        base = self.writer.models.base
        known = (*self.genes.experts, *([base.name] if base else []))
        return rule.operator == ALONE and next(iter(rule.models)) in known

    def _read(self, section: Section, rule: Rule) -> bool:
        """Take down what a merge says; False where its operator is not the section's."""
        several = len(self.genes.spec.operator) > 1
        name = self.genes.operator_gene(section)
        if several and self.found.setdefault(name, rule.operator) != rule.operator:
            return False
        if self.genes.spec.subset is not None:
            for expert in self.genes.experts:
                switch = self.genes.switch(expert, section)
                self.found.setdefault(switch, int(expert in rule.models))
        if self.genes.spec.weights == "simplex":
            self._read_shares(section, rule)
        for setting in self.genes.settings:
            given = self._given(rule, setting.expert)
            if setting.parameter in given and not setting.is_share:
                self.found.setdefault(setting.gene_name(section), given[setting.parameter])
        return True

    def _read_alone(self, section: Section, rule: Rule) -> None:
        """One model as it is: the only one on, or none where it is the base."""
        model = next(iter(rule.models))
        for expert in self.genes.experts:
            self.found.setdefault(self.genes.switch(expert, section), int(expert == model))
        operators = self.genes.spec.operator
        needs_more = [
            name for name in operators if self.writer.fewest(self.writer.operators[name]) > 1
        ]
        if model in self.genes.experts and needs_more and len(operators) > 1:
            self.found.setdefault(self.genes.operator_gene(section), needs_more[0])

    def _given(self, rule: Rule, expert: str | None) -> Mapping[str, Value]:
        """What a rule says of an expert, or of the merge as a whole."""
        if expert is None:
            return rule.parameters
        if expert not in rule.models:
            return {WEIGHT: 0.0} if self.genes.spec.subset is None else {}
        whole = self.writer.operators[rule.operator].merge_parameters
        for_all = {name: v for name, v in rule.parameters.items() if name not in whole}
        return {**for_all, **rule.models[expert]}

    def _read_shares(self, section: Section, rule: Rule) -> None:
        """Weights as amounts that genes can have and whose proportions they are."""
        if WEIGHT not in self.writer.operators[rule.operator].model_parameters:
            return
        weights: dict[str, float] = {}
        settings: dict[str, Setting] = {}
        for setting in self.genes.settings:
            takes_part = self.genes.spec.subset is None or setting.expert in rule.models
            if setting.is_share and setting.expert and takes_part:
                weight = self._given(rule, setting.expert).get(WEIGHT, 1.0)
                weights[setting.expert] = float(weight) if is_number(weight) else 0.0
                settings[setting.expert] = setting
        amounts = self._amounts(weights, settings)
        for expert, setting in settings.items():
            self.found.setdefault(setting.gene_name(section), amounts[expert])

    def _amounts(
        self, weights: Mapping[str, float], settings: Mapping[str, Setting]
    ) -> Mapping[str, float]:
        """Scaled to fixed weights where there are any, else into the range of the genes."""
        for expert, setting in settings.items():
            fixed = setting.bounds.value
            if fixed is not None and is_number(fixed) and fixed > 0 and weights[expert] > 0:
                return {name: w * fixed / weights[expert] for name, w in weights.items()}
        ends = [end for s in settings.values() for end in s.bounds.ends if is_number(end)]
        low, high = min(ends, default=0.0), max(ends, default=1.0)
        if low > 0 or any(setting.bounds.choice for setting in settings.values()):
            largest = max(weights.values(), default=0.0)
            return {n: w * high / largest for n, w in weights.items()} if largest else weights
        return amounts_of(weights, high)


def nearest(gene: Gene, value: Value) -> GeneValue | None:
    """The gene's value nearest to a recipe's; None where they are of different kinds."""
    if isinstance(gene, ChoiceGene):
        if value in gene.options:
            return gene.options[gene.options.index(value)]
        numbers = [option for option in gene.options if is_number(option)]
        if not numbers or not is_number(value):
            return None
        return min(numbers, key=lambda option: abs(float(option) - float(value)))
    return gene.from_unit(gene.to_unit(value)) if is_number(value) else None
