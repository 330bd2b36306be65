"""The ``evomerge`` command: find the subcommand, run it, turn errors into exit codes."""

import importlib
import logging
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

import click

from evomerge import __version__
from evomerge.core.errors import ConfigError, EvomergeError
from evomerge.core.plugins import use_plugins

_COMMANDS = {
    "run": "Run an experiment to the end of its budget.",
    "resume": "Continue or extend a run.",
    "status": "Show how far a run is.",
    "watch": "Follow a run on the terminal.",
    "serve": "Show a run on a web page of this machine that keeps up to date.",
    "report": "Rebuild a run's report.",
    "estimate": "Tell what a run would take, from one timed candidate.",
    "validate": "Check an experiment without running it.",
    "space": "Show what a search space may vary, and recipes of it.",
    "bench": "Compare optimizers at equal budgets.",
    "calibrate": "Have models answer whole banks, so that a few items tell the rest.",
    "merge": "Merge a recipe, or a mergekit configuration, into a model folder.",
    "merge-adapters": "Merge LoRA adapters of one base into one adapter.",
    "recipe": "Turn a mergekit configuration into a recipe, or a recipe into one.",
    "import-evolve": "Turn a mergekit-evolve configuration into an experiment file.",
    "export": "Merge a trial of a run into a model folder.",
    "init": "Write an experiment file for your own models.",
    "kin": "Compare models before a merge: how alike they are, and which are kin.",
    "operators": "List the merge operators, or tell all of one.",
    "optimizers": "List the optimizers and when to use which, or tell all of one.",
    "collect-stats": "Measure a model on data, for operators that weigh by it.",
}

INTERRUPTED = 130
"""Exit code after Ctrl-C or SIGTERM, as shells use it."""

OUR_FAULT = 70
"""Exit code where evomerge itself is at fault (EX_SOFTWARE)."""


class _LazyGroup(click.Group):
    """Imports a command's module only when that command is used, so that --help is quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of use, not of the alphabet."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of the module of the same name."""
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"evomerge.cli.{cmd_name.replace('-', '_')}_command")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="evomerge")
@click.option("--debug", is_flag=True, help="Show tracebacks of errors.")
@click.option("--offline", is_flag=True, help="Ask no hub for anything.")
@click.option("-v", "--verbose", is_flag=True, help="Log more to stderr.")
@click.option(
    "--plugin",
    "plugins",
    multiple=True,
    metavar="MODULE",
    help="Module or .py file with further operators, optimizers, spaces; may be repeated.",
)
@click.pass_context
def group(
    ctx: click.Context, debug: bool, offline: bool, verbose: bool, plugins: tuple[str, ...]
) -> None:
    """Search for the recipe by which existing models are merged into a better one."""
    use_plugins(plugins, everywhere=True)
    ctx.obj = {"debug": debug, "offline": offline}
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(logging.INFO if verbose else logging.ERROR)
    logging.basicConfig(level=handler.level, handlers=[handler])
    if offline:
        os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    if arguments is None:
        signal.signal(signal.SIGTERM, _stop)
    given = list(sys.argv[1:] if arguments is None else arguments)
    switches: list[str] = [a for a in ("--debug", "--offline", "--verbose") if a in given]
    rest = [a for a in given if a not in switches]  # valid before and after the command
    plugins, rest = _plugin_options(rest)
    switches += plugins
    sys.exit(_exit_code([*switches, *rest], debug="--debug" in switches))


def _stop(_number: int, _frame: FrameType | None) -> None:
    """End as on Ctrl-C, so that what was half written is removed."""
    raise KeyboardInterrupt


def _plugin_options(given: Sequence[str]) -> tuple[list[str], list[str]]:
    """Every ``--plugin MODULE`` apart from the rest; they too are valid after the command."""
    plugins: list[str] = []
    rest: list[str] = []
    arguments = iter(given)
    for argument in arguments:
        if argument == "--plugin":
            plugins += [argument, *([value] if (value := next(arguments, None)) else [])]
        elif argument.startswith("--plugin="):
            plugins.append(argument)
        else:
            rest.append(argument)
    return plugins, rest


def _exit_code(arguments: Sequence[str], *, debug: bool) -> int:
    try:
        group.main(args=list(arguments), prog_name="evomerge", standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except Exception as error:
        if debug:
            raise
        return _show(error)
    return 0


def _show(error: Exception) -> int:
    if isinstance(error, EvomergeError):
        lines = error.problems if isinstance(error, ConfigError) else str(error).splitlines()
        for line in lines:
            click.echo(f"error: {line}", err=True)
        if len(lines) > 1:
            click.echo(f"{len(lines)} problems", err=True)
        return error.exit_code
    if isinstance(error, OSError):
        click.echo(f"error: {error}", err=True)
        return 1
    click.echo(
        f"error: evomerge itself failed: {type(error).__name__}: {error}\n"
        "Run the same command with --debug for the traceback to report.",
        err=True,
    )
    return OUR_FAULT
