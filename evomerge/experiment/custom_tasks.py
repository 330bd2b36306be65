"""Custom fitness in an experiment: functions and commands found, checked and wired."""

from collections.abc import Collection, Mapping
from pathlib import Path

import torch
import transformers

from evomerge.core.errors import ConfigError
from evomerge.core.recipe import Recipe
from evomerge.core.responses import ItemResponses, Items, Responses
from evomerge.experiment.custom_spec import CommandSpec, SplitSizes
from evomerge.experiment.load import Experiment
from evomerge.experiment.spec import ExperimentSpec, TaskUse
from evomerge.fitness.custom_command import (
    CommandScorer,
    CommandTask,
    command_task,
    load_command,
)
from evomerge.fitness.custom_function import (
    FunctionScorer,
    FunctionTask,
    function_task,
    load_function,
)
from evomerge.fitness.custom_task import CustomItems, CustomTask
from evomerge.fitness.task_contract import Task
from evomerge.merging.engine import MergeEngine
from evomerge.merging.export import export
from evomerge.merging.model_card import model_card
from evomerge.merging.resident_depth import ResidentDepth
from evomerge.recipes.recipe_yaml import recipe_to_yaml
from evomerge.search.evaluate import Answer


def load_custom_tasks(
    experiment: Experiment, spec: ExperimentSpec
) -> tuple[dict[str, CustomTask], list[str]]:
    """The tasks scored by functions and commands; functions' modules are imported.

    Returns:
        Tasks by name, and every problem with file and line.
    """
    tasks: dict[str, CustomTask] = {}
    problems: list[str] = []
    folder = Path(spec.tasks.code or experiment.folder)
    if not folder.is_dir():
        where = experiment.where("tasks", "code")
        return {}, [f"{where}: there is no folder {folder}, where functions and commands are."]
    for place, use in enumerate(spec.tasks.use):
        if use.score is None:
            continue
        try:
            tasks[use.name] = _loaded(use, folder, spec.seed)
        except ConfigError as error:
            where = experiment.where("tasks", "use", place, "score")
            problems += [f"{where}: {problem}" for problem in error.problems]
    return tasks, problems


class MergedModel:
    """The resident model, and the recipe that was last merged into it.

    Args:
        engine: Merges.
        model: From the same engine.
        recipe: What is merged into it before any candidate.
        depth: Sets the model's depth, where recipes differ in it.
    """

    def __init__(
        self,
        engine: MergeEngine,
        model: torch.nn.Module,
        recipe: Recipe,
        depth: ResidentDepth | None = None,
    ) -> None:
        self.engine = engine
        self.model = model
        self.recipe = recipe
        self.depth = depth

    def merge(self, recipe: Recipe) -> None:
        """Merge in place.

        Raises:
            TrialError: The merged weights are not finite.
        """
        if self.depth is not None:
            self.depth.fit(recipe)
        self.engine.apply(recipe, self.model)
        self.recipe = recipe

    def identity(self) -> str:
        """The digest of the recipe in memory."""
        return self.recipe.digest

    def export(self, folder: Path) -> None:
        """Write the model as a folder, in the dtype of the recipe.

        Raises:
            StoreError: It cannot be written.
        """
        text = recipe_to_yaml(self.recipe)
        card = model_card(text, self.recipe, {})
        export(self.engine, self.recipe, folder, card=card, recipe_text=text)


def answer_by_kind(
    harness: Answer,
    tasks: Mapping[str, Task],
    merged: MergedModel,
    tokenizer: transformers.PreTrainedTokenizerBase,
) -> Answer:
    """Ask every task of its own scorer: lm-eval's first, then functions, then commands.

    Args:
        harness: Scores all tasks that are not custom.
        tasks: All tasks of the experiment.
        merged: What is scored.
        tokenizer: Of the model; not modified.
    """
    functions = {n: task for n, task in tasks.items() if isinstance(task, FunctionTask)}
    commands = {n: task for n, task in tasks.items() if isinstance(task, CommandTask)}
    if not functions and not commands:
        return harness
    of_functions = FunctionScorer(functions, merged.model, tokenizer, merged.identity)
    of_commands = CommandScorer(commands, merged.export, merged.identity)

    def by_functions(items: Items) -> Responses:
        try:
            return of_functions.responses(items)
        finally:
            # They may have written into weights in ways that show nowhere.
            merged.engine.forget(merged.model)

    others = [name for name in tasks if name not in functions and name not in commands]
    scorers: tuple[tuple[Answer, Collection[str]], ...] = (
        (harness, others),
        (by_functions, functions),
        (of_commands.responses, commands),
    )

    def answer(items: Items) -> Responses:
        found: dict[str, ItemResponses] = {}
        for scorer, names in scorers:
            share = {name: chosen for name, chosen in items.items() if name in names}
            if share:
                found |= scorer(share)
        return {name: found[name] for name in items}

    return answer


def _loaded(use: TaskUse, folder: Path, seed: int) -> CustomTask:
    count = use.items
    sizes = count.model_dump() if isinstance(count, SplitSizes) else count
    items = CustomItems(sizes, use.metrics or CustomItems.metrics)
    if isinstance(use.score, CommandSpec):
        command = load_command(use.score.command, folder, use.score.timeout)
        return command_task(use.name, command, items, seed)
    return function_task(use.name, load_function(use.score or "", folder), items, seed)
