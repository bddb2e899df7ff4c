"""`clusteros`: the commands by name. Exit statuses are those of native/codes.def; 0 is done."""

from __future__ import annotations

from typing import Annotated

import typer

from clusteros.cli import generations, inside, jobs, logs, nodes, server, top
from clusteros.cli.door import Door, out
from clusteros.client import Cluster
from clusteros.login import Login, write_login

app = typer.Typer(
    cls=Door,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="ClusterOS: run parallel jobs on the cluster, and bring any of them back to any earlier checkpoint.",
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command()(jobs.submit)
app.command()(jobs.ps)
app.command("show")(jobs.show_job)
app.command()(logs.logs)
app.command("exec")(jobs.exec_in)
app.command()(jobs.files)
app.command()(jobs.cancel)
app.command()(jobs.hold)
app.command()(jobs.release)
app.command()(jobs.suspend)
app.command()(jobs.resume)
app.command("signal")(jobs.send_signal)
app.command()(jobs.copy)
app.command()(generations.checkpoint)
app.command()(generations.generations)
app.command()(generations.rollback)
app.command()(generations.pin)
app.command()(generations.unpin)
app.command()(generations.retention)
app.command("delete-generation")(generations.delete)
app.command("nodes")(nodes.nodes)
app.command()(nodes.drain)
app.command()(nodes.undrain)
app.command("diff")(inside.diff)
app.command()(inside.processes)
app.command()(inside.core)
app.command()(inside.export)
app.command()(logs.events)
app.command()(top.top)
app.command()(top.store)
app.add_typer(nodes.app, name="node")
app.add_typer(server.app, name="server")


@app.command()
def login(
    url: Annotated[str, typer.Argument(help="The console's address: http://front-end:8000")],
    token: Annotated[str | None, typer.Option(help="A token from the console's page Tokens; asked for if not given.")] = None,
) -> None:
    """Remember where the cluster is, and your token."""
    given = token or typer.prompt(f"Token (make one at {url.rstrip('/')}/tokens/)", hide_input=True)
    with Cluster(url, given) as door:
        me = door.me()
    path = write_login(Login(url.rstrip("/"), given))
    out.print(f"Logged in as {me['name']}; kept in {path}")


if __name__ == "__main__":
    app()
