"""`raygrid settle` and `raygrid audit`: stored runs and their chains."""

from __future__ import annotations

from pathlib import Path

import click

from raygrid.commands.options import CHAIN
from raygrid.errors import ExitCode

RUN = click.argument("run", type=click.Path(path_type=Path))


@click.command()
@RUN
@CHAIN
@click.option(
    "--redeploy", is_flag=True, help="Leave an earlier contract behind and settle all anew."
)
def settle(run: Path, chain: str | None, redeploy: bool) -> int:
    """Settle the trades of a stored run, or what is left of them.

    RUN is a run's folder, or the folder of a scenario's runs, which means its newest. What is
    settled stays so: repeating it does no harm.
    """
    from raygrid.results.files import going_on
    from raygrid.settlement.stored import settle_stored

    with going_on(f"give 'raygrid settle {run}' again"):
        done = settle_stored(run, chain, redeploy)
    figures = done.summary
    click.echo(
        f"{figures.chain}: {figures.settled} of {figures.trades} trades settled, "
        f"{figures.rejected} rejected, {figures.failed} unsettled, in {figures.batches} batches"
    )
    for note in done.notes:
        click.echo(note, err=True)
    if done.reason:
        click.echo(f"raygrid: {done.reason}", err=True)
        return int(ExitCode.ENDED_SHORT)
    return int(ExitCode.DONE)


@click.command()
@RUN
@CHAIN
@click.option("--trade", "trades", type=int, multiple=True, help="A trade to be proven; repeats.")
def audit(run: Path, chain: str | None, trades: tuple[int, ...]) -> int:
    """Recompute a settled run from trades and meters alone, and compare it with its chain.

    RUN is a run's folder, or the folder of a scenario's runs, which means its newest. Ends with
    exit code 1 where anything differs.
    """
    from raygrid.settlement.stored import PROVEN_TRADES, audit_stored

    found = audit_stored(run, chain, trades or PROVEN_TRADES)
    report = found.report
    click.echo(
        f"{found.chain}: {report.settled} settled and {report.rejected} rejected of "
        f"{report.trades} trades in {report.batches} batches, {report.balances} balances, "
        f"{len(report.proven)} trades proven by the contract"
    )
    for difference in found.differences:
        click.echo(f"raygrid: {difference}", err=True)
    return int(ExitCode.ENDED_SHORT if found.differences else ExitCode.DONE)
