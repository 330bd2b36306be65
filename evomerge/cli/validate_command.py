"""``evomerge validate``: check an experiment without running it."""

from pathlib import Path

import click


@click.command(name="validate")
@click.argument("experiment", type=click.Path(dir_okay=False, path_type=Path))
@click.option("-o", "overrides", multiple=True, metavar="KEY=VALUE", help="As for run.")
@click.pass_obj
def command(obj: dict[str, bool], experiment: Path, overrides: tuple[str, ...]) -> None:
    """Check EXPERIMENT: keys, models, tasks, space; every problem is named at once.

    Of models only configurations, tokenizers, headers and samples of weights are read.
    """
    from evomerge.experiment.stages_reader import has_stages

    if has_stages(experiment):
        from evomerge.experiment.stages_prepare import prepare_chain

        chain = prepare_chain(experiment, overrides, offline=obj["offline"])
        for line in (*chain.summary, *(line for plan in chain.plans for line in plan)):
            click.echo(line)
        click.echo(f"{experiment}: valid")
        return
    from evomerge.experiment.build import make_study_optimizer
    from evomerge.experiment.plan import plan
    from evomerge.experiment.prepare import prepare_file
    from evomerge.search.budget import Budget
    from evomerge.spaces.first_genomes import first_genomes

    _, prepared = prepare_file(experiment, overrides, offline=obj["offline"])
    make_study_optimizer(prepared, first_genomes(prepared.space))
    budget = Budget(**prepared.spec.budget.model_dump())
    for line in plan(prepared, budget):
        click.echo(line)
    click.echo(f"{experiment}: valid")
