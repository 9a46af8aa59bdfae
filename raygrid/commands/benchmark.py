"""`raygrid benchmark`: suites that measure raygrid, and their results side by side."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

import click

from raygrid.commands.options import SETTINGS
from raygrid.errors import ExitCode


def _print_list(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if not wanted or ctx.resilient_parsing:
        return
    from actors.benchmarks.runner import SUITES, summary

    width = max(map(len, SUITES))
    for name in SUITES:
        click.echo(f"{name:{width}}  {summary(name)}")
    ctx.exit()


@click.command()
@click.argument("suites", nargs=-1, required=True, metavar="SUITE...")
@click.option(
    "--list",
    "_listed",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_list,
    help="List the suites and exit.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runs/benchmarks"),
    show_default=True,
    help="Folder of SUITE.json and SUITE.md, which replace those of an earlier run.",
)
@click.option("--quick", is_flag=True, help="Small cases, to see that a suite works.")
@click.option(
    "--repeat", "repeats", type=click.IntRange(1), help="Measurements of each; default per suite."
)
@click.option(
    "--compare",
    type=click.Path(path_type=Path),
    metavar="OTHER.json",
    help="Set what this run measures beside the results of an earlier one.",
)
@click.option("--quiet", is_flag=True, help="Print nothing but the JSON files' names.")
@SETTINGS
def benchmark(
    suites: tuple[str, ...],
    out: Path,
    quick: bool,
    repeats: int | None,
    compare: Path | None,
    quiet: bool,
    settings: tuple[str, ...],
) -> int:
    """Run benchmark suites, each into a JSON file and a page.

    SUITE is a name of --list, or 'all', which leaves out 'processes'; with --compare it may be a
    JSON file of an earlier run, which then is not repeated. A suite that is interrupted leaves
    what it had measured in SUITE.partial.json. Figures that were not reached are in the tables;
    they are no error.
    """
    if compare is not None and (len(suites) != 1 or suites == ("all",)):
        raise click.UsageError("--compare takes one SUITE")
    from actors.benchmarks.runner import BenchmarkOptions, resolve, run_suite, settings_of
    from raygrid.results import benchmark as documents
    from raygrid.results import provenance
    from raygrid.results.benchmark_comparison import check_comparable

    def tell(line: str) -> None:
        if not quiet:
            click.echo(line, err=True)

    width = shutil.get_terminal_size().columns
    other = None if compare is None else documents.read(compare)
    if other is not None and Path(suites[0]).suffix == ".json":
        _print_comparison(documents.read(Path(suites[0])), other)
        return int(ExitCode.DONE)
    options = BenchmarkOptions(
        out=out,
        command=shlex.join(["raygrid", *sys.argv[1:]]),
        quick=quick,
        repeats=repeats,
        settings=settings,
    )
    names = resolve(suites)
    if other is not None:
        check_comparable(names[0], provenance.machine(), other)
    for name in names:
        settings_of(name, options)
    for name in names:
        measured = run_suite(name, options, tell)
        if not quiet:
            click.echo(documents.text(measured.document, width), nl=True)
        click.echo(measured.path)
        if other is not None:
            _print_comparison(measured.document, other)
    return int(ExitCode.DONE)


def _print_comparison(this: dict[str, object], other: dict[str, object]) -> None:
    from raygrid.results.benchmark_comparison import compare, comparison_text

    click.echo(comparison_text(compare(this, other)))
