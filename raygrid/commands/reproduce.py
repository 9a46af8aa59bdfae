"""`raygrid reproduce ai-tem`: the cases of AI-TEM on the test days, its tables beside ours."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

from raygrid.commands.options import ADDRESS, OUT, SETTINGS
from raygrid.errors import ExitCode

FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)


@click.command("ai-tem")
@click.option("--scenario", default="ai_tem", show_default=True, help="One with a history.")
@click.option(
    "--cases", metavar="NAME,...", help="Only these: grid_only, ai_tem, ...; all by default."
)
@click.option("--days", type=click.IntRange(min=1), help="Only the first so many test days.")
@click.option("--forecaster-day", type=FOLDER, help="Weights in place of the scenario's.")
@click.option("--forecaster-step", type=FOLDER, help="Likewise, one step ahead.")
@click.option("--policy", type=FOLDER, help="Likewise, of the bidders.")
@click.option("--rule", is_flag=True, help="Let the rule act where bidders should have learned.")
@click.option("--scores", type=FOLDER, help="Folder of `raygrid train compare`, for Table III.")
@click.option("--resume", type=FOLDER, help="An earlier comparison; its days are taken over.")
@click.option(
    "--actors",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Cases that run at a time as Ray tasks; 0: one after the other in this process.",
)
@ADDRESS
@OUT
@click.option("--quiet", is_flag=True, help="Print nothing but the folder of the results.")
@SETTINGS
def ai_tem(
    scenario: str,
    cases: str | None,
    days: int | None,
    forecaster_day: Path | None,
    forecaster_step: Path | None,
    policy: Path | None,
    rule: bool,
    scores: Path | None,
    resume: Path | None,
    actors: int,
    address: str | None,
    out: Path,
    quiet: bool,
    settings: tuple[str, ...],
) -> int:
    """Play the cases of AI-TEM on the same test days in a row.

    Prints Tables III to VI with the printed value beside ours, means and deviations over days,
    and the full case's difference from each other. Ctrl-C leaves the days that are done, which
    --resume takes over.
    """
    from raygrid.learning.compare_cases import (
        CasesOptions,
        Weights,
        compare_cases,
        named_cases,
        play_here,
    )
    from raygrid.results.ai_tem import text
    from raygrid.results.ai_tem_printed import CaseName

    options = CasesOptions(
        out=out,
        command=shlex.join(["raygrid", *sys.argv[1:]]),
        scenario=scenario,
        settings=settings,
        cases=tuple(CaseName) if cases is None else named_cases(cases.split(",")),
        days=days,
        weights=Weights(forecaster_day, forecaster_step, policy),
        scores=scores,
        resume=resume,
        rule=rule,
    )

    def tell(line: str) -> None:
        if not quiet:
            click.echo(line, err=True)

    if actors:
        from actors.cluster import ClusterOptions
        from actors.play_cases import RayPlayers

        with RayPlayers(ClusterOptions(address=address), actors) as players:
            done, path = compare_cases(options, players, tell)
    else:
        done, path = compare_cases(options, play_here, tell)
    if not quiet:
        click.echo(text(done))
        click.echo()
    click.echo(path)
    return int(ExitCode.DONE)
