"""``evomerge serve``: a run on a local web page that keeps up to date."""

from pathlib import Path

import click

from evomerge.report.chain_server import ChainServer
from evomerge.report.live_server import LiveServer
from evomerge.store.chain_record import is_chain


@click.command(name="serve")
@click.argument("run_dir", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8642,
    show_default=True,
    help="Of this machine; 0 takes any free one.",
)
def command(run_dir: Path, port: int) -> None:
    """Show the run in RUN_DIR on a page for this machine's browsers, until Ctrl-C.

    The page only reads. To see it from another machine, forward the same port:
    ssh -L 8642:127.0.0.1:8642 HOST
    """
    server_of = ChainServer if is_chain(run_dir) else LiveServer
    with server_of(run_dir, port) as server:
        click.echo(f"{server.url}  (Ctrl-C ends; the run goes on)")
        try:
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            click.echo()
