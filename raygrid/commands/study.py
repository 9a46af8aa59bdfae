"""`raygrid study`: a grid of scenarios, settings and seeds, one table and one report."""

from __future__ import annotations

import shlex
import sys
import tempfile
from pathlib import Path

import click

from raygrid.commands.options import OUT
from raygrid.errors import ExitCode

STUDY_FILE = "study.yaml"
"""Name of the study's file in a job's working directory."""


def _print_schema(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if not wanted or ctx.resilient_parsing:
        return
    import json

    from raygrid.scenario.study import json_schema

    click.echo(json.dumps(json_schema(), indent=2))
    ctx.exit()


@click.command()
@click.argument("file", metavar="STUDY.yaml", type=click.Path(path_type=Path))
@click.option(
    "--address",
    metavar="auto|HOST:PORT|http://HEAD:8265",
    help="Ray cluster to use; with http:// the study is one of its jobs (see 'raygrid jobs').",
)
@OUT
@click.option(
    "--concurrency", type=click.IntRange(min=1), help="Runs at once; default as the study says."
)
@click.option("--wait", is_flag=True, help="Wait for the end of a job.")
@click.option("--quiet", is_flag=True, help="Print nothing but the study's folder.")
@click.option(
    "--schema",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_schema,
    help="Print the JSON schema of study files and exit.",
)
@click.pass_context
def study(
    ctx: click.Context,
    file: Path,
    address: str | None,
    out: Path,
    concurrency: int | None,
    wait: bool,
    quiet: bool,
) -> int:
    """Run every combination of a study file, and make one table and one report of them.

    Runs that an earlier start has finished are not repeated: after Ctrl-C, a failure, or a change
    of the file, the same command goes on. Failed runs are tried again.
    """
    if address is not None and "://" in address:
        named = ctx.get_parameter_source("out") is click.core.ParameterSource.COMMANDLINE
        return _submit(file, address, out if named else None, concurrency, wait)
    from actors.cluster import ClusterOptions
    from actors.study import StudyOptions, run_study

    def tell(line: str) -> None:
        if not quiet:
            click.echo(line, err=True)

    result = run_study(
        StudyOptions(
            file=file,
            out=out,
            command=shlex.join(["raygrid", *sys.argv[1:]]),
            cluster=ClusterOptions(address=address),
            concurrency=concurrency,
        ),
        tell,
    )
    tell(f"report: {result.path / 'report.html'}")
    click.echo(result.path)
    return int(ExitCode.DONE if result.ok else ExitCode.ENDED_SHORT)


def _submit(file: Path, address: str, out: Path | None, concurrency: int | None, wait: bool) -> int:
    """Run a study as a job: its scenarios travel with it, settings stay in the study file."""
    import yaml

    from actors.jobs import JobRequest, JobsClient, check_out
    from raygrid.commands.jobs import start
    from raygrid.files import list_scenarios
    from raygrid.scenario.bundle import write_bundle
    from raygrid.scenario.load import load_scenario
    from raygrid.scenario.study import load_study, plan_study

    checked = load_study(file)
    plan_study(checked, file)
    shared = None if out is None else check_out(out)
    client = JobsClient(address)
    with tempfile.TemporaryDirectory(prefix="raygrid-") as aside:
        folder = Path(aside)
        raw = checked.model_dump(mode="json")
        for k, name in enumerate(raw["scenarios"]):
            if name not in list_scenarios():
                loaded, base_dir = load_scenario(file.parent / name)
                bundled = write_bundle(loaded, base_dir, folder, f"{k}-{loaded.name}.yaml")
                raw["scenarios"][k] = bundled.name
        (folder / STUDY_FILE).write_text(
            yaml.safe_dump(raw, sort_keys=False, allow_unicode=True), encoding="utf-8"
        )
        words = ["study", STUDY_FILE]
        if concurrency is not None:
            words += ["--concurrency", str(concurrency)]
        request = JobRequest(f"study {checked.name}", tuple(words), shared)
        return start(client, request, folder, wait)
