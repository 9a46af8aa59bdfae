"""The `raygrid` command: parse, call, print.

Heavy imports happen inside the commands, so that `--help` is instant.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
import tempfile
import time
import traceback
from collections import namedtuple
from pathlib import Path
from threading import current_thread, main_thread
from typing import NoReturn

import click

from raygrid import __version__
from raygrid.commands.benchmark import benchmark
from raygrid.commands.jobs import jobs, submit
from raygrid.commands.options import ACTORS, ADDRESS, CHAIN, OUT, SETTINGS
from raygrid.commands.reproduce import ai_tem
from raygrid.commands.settlement import audit, settle
from raygrid.commands.study import study
from raygrid.commands.train import train
from raygrid.errors import ExitCode, InputError, RaygridError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="raygrid")
def cli() -> None:
    """Simulate peer-to-peer electricity markets as a distributed system."""


def main() -> NoReturn:
    """Run the command line and exit with a code of `ExitCode`.

    An `InputError` or another `RaygridError` is one line on standard error; a bug leaves its
    traceback in a log file and only names it. SIGTERM, by which jobs and containers are stopped,
    ends a command as Ctrl-C does.
    """
    if current_thread() is main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        result = cli.main(prog_name="raygrid", standalone_mode=False)
        code = int(result) if isinstance(result, int) else int(ExitCode.DONE)
        sys.stdout.flush()
    except RaygridError as error:
        click.echo(f"raygrid: {' '.join(str(error).split())}", err=True)
        code = int(error.exit_code)
    except click.ClickException as error:
        click.echo(f"raygrid: {_one_line(error)}", err=True)
        code = int(ExitCode.BAD_INPUT)
    except click.exceptions.Exit as error:
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        if current_thread() is main_thread():
            # Another Ctrl-C shall not break off the end.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        click.echo("raygrid: interrupted", err=True)
        code = int(ExitCode.INTERRUPTED)
        # Where code made of text was interrupted (that of dataclasses is), `python -m` ends by a
        # signal, whatever it exits with, unless other such code, as here, has run since.
        namedtuple("Interrupted", ())
    except BrokenPipeError:
        # The reader of our output went away (| head): nothing is wrong, nobody is listening.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = int(ExitCode.DONE)
    except Exception as error:
        code = _full_disk(error) or _bug()
    sys.exit(code)


def _full_disk(error: Exception) -> int | None:
    """Say so where a disk is full that nobody had in mind; None where something else is wrong."""
    from raygrid.results.files import is_full

    if not isinstance(error, OSError) or not is_full(error):
        return None
    where = f"{error.filename}: " if error.filename else ""
    click.echo(
        f"raygrid: {where}{error.strerror}; what was written before is kept, make room and give "
        "the command again",
        err=True,
    )
    return int(ExitCode.ENDED_SHORT)


def _bug() -> int:
    """Write a log of the current exception, and name it."""
    path = _write_bug_log()
    click.echo(f"raygrid: this is a bug; please report it with the log {path}", err=True)
    return int(ExitCode.BUG)


def _one_line(error: click.ClickException) -> str:
    """A wrong use of the command line: what is wrong, and where to look it up."""
    text = " ".join(error.format_message().split())
    context = error.ctx if isinstance(error, click.UsageError) else None
    return text if context is None else f"{text.rstrip('.')}; see '{context.command_path} --help'"


def _write_bug_log() -> str:
    """Write the current exception to a new log file and return its path."""
    import platform

    handle, path = tempfile.mkstemp(
        prefix=time.strftime("raygrid-bug-%Y%m%d-%H%M%S-"), suffix=".log", text=True
    )
    with os.fdopen(handle, "w", encoding="utf-8") as log:
        log.write(f"raygrid {__version__}, Python {platform.python_version()}\n")
        log.write(f"command: {sys.argv}\n\n{traceback.format_exc()}")
    return path


# --- raygrid simulate ------------------------------------------------------------------------


@cli.command()
@click.argument("scenario", required=False)
@click.option("--agents", type=int, help="Number of prosumers.")
@ACTORS
@click.option(
    "--feeders",
    type=click.IntRange(0),
    help="Feeder operators below the network operator, in large radial networks.",
)
@click.option("--periods", type=int, help="Periods of a market day.")
@click.option("--days", type=int, help="Market days in a row; charge is carried over.")
@click.option("--seed", type=int, help="Seed of everything random.")
@ADDRESS
@CHAIN
@click.option(
    "--central/--no-central", default=None, help="Solve the central benchmark too (default: small)."
)
@OUT
@click.option("--quiet", is_flag=True, help="Print nothing but the run's folder.")
@click.option(
    "--resume",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Go on with a run that was killed, into a new run.",
)
@SETTINGS
def simulate(
    scenario: str | None,
    agents: int | None,
    actors: str,
    feeders: int | None,
    periods: int | None,
    days: int | None,
    seed: int | None,
    address: str | None,
    chain: str | None,
    central: bool | None,
    out: Path,
    quiet: bool,
    resume: Path | None,
    settings: tuple[str, ...],
) -> int:
    """Clear the days of SCENARIO's market on Ray and write the run.

    SCENARIO is the name of a shipped scenario or the path of a file; left out, it is a
    community of `--agents` prosumers.
    """
    from actors.cluster import ClusterOptions
    from actors.placement import PlacementPolicy
    from actors.simulate import SimulateOptions
    from actors.simulate import simulate as run_simulate
    from raygrid.results.files import RunStatus
    from raygrid.results.progress import summary_text

    if resume is not None and (scenario, agents, periods, days, seed, settings) != (
        None, None, None, None, None, (),
    ):  # fmt: skip
        raise InputError(
            "a resumed run keeps its scenario",
            "--resume",
            "leave SCENARIO, --agents, --periods, --days, --seed and --set away",
        )
    run = run_simulate(
        SimulateOptions(
            scenario=scenario or "community",
            resume=resume,
            out=out,
            command=shlex.join(["raygrid", *sys.argv[1:]]),
            settings=settings,
            agents=agents,
            periods=periods,
            days=days,
            seed=seed,
            actors=PlacementPolicy.parse(actors),
            cluster=ClusterOptions(address=address),
            central=central,
            chain=chain,
            feeders=feeders,
        ),
        (lambda _: None) if quiet else (lambda line: click.echo(line, err=True)),
    )
    if quiet:
        click.echo(run.path)
    else:
        click.echo(
            summary_text(
                run.summary,
                run.path,
                run.case.currency,
                reason=run.reason,
                notes=run.notes,
                trades=run.trades,
                mean_price_per_kwh=run.mean_price_per_kwh,
                welfare_bound=run.welfare_bound,
            )
        )
    done = run.summary.status == RunStatus.OK
    return int(ExitCode.DONE if done else ExitCode.ENDED_SHORT)


# --- raygrid scenario ------------------------------------------------------------------------


@cli.group()
def scenario() -> None:
    """List, show and check scenario files."""


@scenario.command("list")
def scenario_list() -> None:
    """List the scenarios that ship with raygrid."""
    from raygrid.files import list_scenarios
    from raygrid.scenario.load import load_scenario

    names = list_scenarios()
    width = max(map(len, names))
    for name in names:
        click.echo(f"{name:{width}}  {load_scenario(name)[0].description}")


@scenario.command("show")
@click.argument("name")
@SETTINGS
def scenario_show(name: str, settings: tuple[str, ...]) -> None:
    """Print every value in force of a scenario (a name or a path)."""
    from raygrid.scenario.load import dump_resolved, load_scenario

    click.echo(dump_resolved(*load_scenario(name, settings=settings)), nl=False)


@scenario.command("validate")
@click.argument("name")
@SETTINGS
def scenario_validate(name: str, settings: tuple[str, ...]) -> None:
    """Check a scenario (a name or a path) with its data, and say what it holds."""
    from raygrid.scenario.build import draft_case
    from raygrid.scenario.load import load_scenario

    scenario, base_dir = load_scenario(name, settings=settings)
    draft = draft_case(scenario, base_dir=base_dir)
    everyone = draft.survey()
    case = draft.case(everyone)
    click.echo(
        f"{case.name} is valid: {everyone.prosumers} prosumers "
        f"({everyone.generators} with generation, {everyone.batteries} with a battery), "
        f"{case.network.n_buses} buses, {case.network.n_lines} lines "
        f"({case.rows.n_rows} limits that can bind), "
        f"{case.n_periods} periods of {case.period_hours:g} h"
    )


@scenario.command("schema")
def scenario_schema() -> None:
    """Print the JSON schema of scenario files."""
    import json

    from raygrid.scenario.load import json_schema

    click.echo(json.dumps(json_schema(), indent=2))


# --- raygrid report --------------------------------------------------------------------------


@cli.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="The page; default RUN/report.html.")
@click.option(
    "--compare", type=click.Path(path_type=Path), help="A run to show the line use of beside."
)
@click.option("--allow-unfinished", is_flag=True, help="Show what there is of an unfinished run.")
@click.option(
    "--statement", type=int, help="Print the statement of this participant instead (0: the grid)."
)
def report(
    run: Path,
    out: Path | None,
    compare: Path | None,
    allow_unfinished: bool,
    statement: int | None,
) -> None:
    """Make one HTML page of a run's figures and tables.

    RUN is a run's folder, or the folder of a scenario's runs, which means its newest.
    """
    from raygrid.results.reader import RunReader
    from raygrid.results.report import write_report

    if statement is not None:
        from raygrid.results.statement import statement_text

        click.echo(statement_text(RunReader(run, allow_unfinished), statement))
        return
    other = None if compare is None else RunReader(compare, allow_unfinished)
    click.echo(write_report(RunReader(run, allow_unfinished), out, other))


# --- raygrid reproduce -----------------------------------------------------------------------


@cli.group()
def reproduce() -> None:
    """Rerun published case studies and set their tables beside ours."""


reproduce.add_command(ai_tem)


@reproduce.command("thesis")
@ADDRESS
@ACTORS
@OUT
@click.option("--quiet", is_flag=True, help="Print nothing but the folder of the results.")
def reproduce_thesis(address: str | None, actors: str, out: Path, quiet: bool) -> int:
    """Both cases of the thesis with and without limits, and its sweep of rho, cleared on Ray.

    Prints Tables 6.4 to 6.7 and 6.9 with the printed value, ours and the difference.
    """
    from actors.cluster import ClusterOptions
    from actors.placement import PlacementPolicy
    from actors.reproduce import ReproduceOptions
    from actors.reproduce import reproduce as run_reproduce
    from raygrid.results.reproduce import text

    done = run_reproduce(
        ReproduceOptions(
            out=out,
            command=shlex.join(["raygrid", *sys.argv[1:]]),
            actors=PlacementPolicy.parse(actors),
            cluster=ClusterOptions(address=address),
        ),
        (lambda _: None) if quiet else (lambda line: click.echo(line, err=True)),
    )
    if not quiet:
        click.echo(text(done.comparisons, done.sweep))
        click.echo()
    click.echo(done.path)
    return int(ExitCode.DONE if done.converged else ExitCode.ENDED_SHORT)


# --- commands with a module of their own -----------------------------------------------------

for command in (submit, jobs, study, settle, audit, benchmark, train):
    cli.add_command(command)
