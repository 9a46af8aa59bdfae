"""`raygrid submit` and `raygrid jobs`: runs on a cluster that this machine is no part of."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from raygrid.commands.options import OUT
from raygrid.errors import ExitCode

if TYPE_CHECKING:
    from actors.jobs import Job, JobRequest, JobsClient

SCENARIO_FILE = "scenario.yaml"
"""Name of the scenario's file in the job's working directory."""
APPLIED = ("settings", "agents", "periods", "days", "seed")
"""Options of `simulate` that are in force in a scenario that was resolved here."""

DASHBOARD = click.option(
    "--address",
    required=True,
    envvar="RAY_API_SERVER_ADDRESS",
    metavar="http://HEAD:8265",
    help="Dashboard of the cluster; default RAY_API_SERVER_ADDRESS.",
)
WHEEL = click.option(
    "--wheel",
    type=click.Path(path_type=Path),
    help="Wheel of raygrid to run there; default the raygrid that runs here.",
)
WAIT = click.option(
    "--wait", is_flag=True, help="Show what the job prints and end with its exit code."
)


@click.command(context_settings={"ignore_unknown_options": True})
@DASHBOARD
@WHEEL
@WAIT
@click.argument(
    "options", nargs=-1, type=click.UNPROCESSED, metavar="[SCENARIO] [OPTIONS OF SIMULATE]..."
)
@click.pass_context
def submit(
    ctx: click.Context,
    address: str,
    wheel: Path | None,
    wait: bool,
    options: tuple[str, ...],
) -> int:
    """Run `raygrid simulate` as a job of a Ray cluster.

    Takes simulate's options as well, but for its --address. A SCENARIO that is a file travels
    with the job, all its data included, every setting applied. Results lie on the cluster under
    --out, an absolute path, best on shared storage; without it 'raygrid jobs fetch' brings them.
    """
    from actors.jobs import JobRequest, JobsClient, check_out
    from raygrid.files import list_scenarios
    from raygrid.scenario.bundle import write_bundle
    from raygrid.scenario.load import load_scenario

    simulate = _sibling(ctx, "simulate")
    asked = simulate.make_context("simulate", list(options), parent=ctx.parent)
    scenario: str = asked.params["scenario"]
    given = {
        name: value
        for name, value in asked.params.items()
        if asked.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }
    out = check_out(given.pop("out")) if "out" in given else None
    if "address" in given:
        raise click.UsageError("--address stands twice", ctx)
    loaded, base_dir = load_scenario(
        scenario,
        settings=asked.params["settings"],
        **{name: asked.params[name] for name in APPLIED[1:] if name in asked.params},
    )
    with ExitStack() as stack:
        folder = None
        if scenario not in list_scenarios():
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="raygrid-")))
            given["scenario"] = write_bundle(loaded, base_dir, folder, SCENARIO_FILE).name
            given = {name: value for name, value in given.items() if name not in APPLIED}
        client = JobsClient(address)
        request = JobRequest(loaded.name, ("simulate", *command_line(simulate, given)), out, wheel)
        return start(client, request, folder, wait)


def start(client: JobsClient, request: JobRequest, folder: Path | None, wait: bool) -> int:
    """Submit a job, say what to do next, and wait for it if asked.

    Parameters
    ----------
    client : JobsClient
        The cluster.
    request : JobRequest
        What to run.
    folder : Path or None
        Files that travel with it.
    wait : bool
        Whether to wait.

    Returns
    -------
    int
        Exit code.
    """
    from actors.jobs import exit_code

    job = client.submit(request, folder)
    where = f"{job.job_id} --address {client.address}"
    if not wait:
        click.echo(job.job_id)
        click.echo(f"next: raygrid jobs logs {where}; raygrid jobs fetch {where}", err=True)
        return int(ExitCode.DONE)
    click.echo(f"job {job.job_id}", err=True)
    try:
        job = client.wait(job.job_id, lambda text: click.echo(text, nl=False))
    except KeyboardInterrupt:
        click.echo(f"the job goes on; to end it: raygrid jobs stop {where}", err=True)
        raise
    click.echo(f"next: raygrid jobs fetch {where}", err=True)
    code = exit_code(job)
    if code is not ExitCode.DONE and job.exit_code is None and job.message:
        click.echo(f"raygrid: {job.job_id}: {job.message}", err=True)
    return int(code)


@click.group()
def jobs() -> None:
    """List, read, stop and fetch jobs of raygrid on a cluster."""


@jobs.command("list")
@DASHBOARD
def jobs_list(address: str) -> None:
    """List the jobs, oldest first."""
    from actors.jobs import JobsClient

    found = JobsClient(address).jobs()
    rows = [("JOB", "STATUS", "STARTED (UTC)", "SECONDS", "WHAT"), *map(_row, found)]
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]) - 1)]
    for row in rows:
        cells = [f"{cell:{width}}" for cell, width in zip(row[:-1], widths, strict=True)]
        click.echo("  ".join([*cells, row[-1]]))


@jobs.command("logs")
@click.argument("job")
@DASHBOARD
def jobs_logs(job: str, address: str) -> None:
    """Print what JOB has printed so far."""
    from actors.jobs import JobsClient

    client = JobsClient(address)
    client.job(job)
    click.echo(client.log(job), nl=False)


@jobs.command("stop")
@click.argument("job")
@DASHBOARD
def jobs_stop(job: str, address: str) -> None:
    """End JOB; what it wrote so far is kept and marked as interrupted."""
    from actors.jobs import JobsClient

    client = JobsClient(address)
    client.job(job)
    ended = client.stop(job)
    click.echo(f"{job} {'is told to end' if ended else 'had ended already'}")


@jobs.command("fetch")
@click.argument("job")
@DASHBOARD
@OUT
def jobs_fetch(job: str, address: str, out: Path) -> None:
    """Bring the results of JOB here and print their folders."""
    from actors.jobs import JobsClient
    from raygrid.results.folder import check_writable

    check_writable(out)
    for folder in JobsClient(address).fetch(job, out):
        click.echo(folder)


def command_line(command: click.Command, given: dict[str, Any]) -> tuple[str, ...]:
    """The arguments that give a command these values: the reverse of its parsing.

    Parameters
    ----------
    command : click.Command
        The command.
    given : dict
        Values by the names of its parameters.
    """
    words: list[str] = []
    arguments: list[str] = []
    for parameter in command.params:
        if parameter.name not in given:
            continue
        value = given[parameter.name]
        if not isinstance(parameter, click.Option):
            arguments.append(str(value))
        elif parameter.is_flag:
            names: Sequence[str] = parameter.opts if value else parameter.secondary_opts
            words += names[:1]
        else:
            for one in value if parameter.multiple else (value,):
                words += [parameter.opts[0], str(one)]
    return (*arguments, *words)


def _row(job: Job) -> tuple[str, ...]:
    started = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(job.started)) if job.started else "-"
    end = job.ended if job.done else time.time()
    length = f"{end - job.started:.0f}" if job.started and end else "-"
    return (job.job_id, job.status, started, length, job.what)


def _sibling(ctx: click.Context, name: str) -> click.Command:
    """Another command of the same command line."""
    group = ctx.find_root().command
    assert isinstance(group, click.Group)
    command = group.get_command(ctx, name)
    assert command is not None
    return command
