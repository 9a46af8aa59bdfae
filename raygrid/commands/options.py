"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

SETTINGS = click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a value of the scenario."
)

ACTORS = click.option(
    "--actors",
    default="auto",
    show_default=True,
    metavar="auto|each|N",
    help="Ray actors that carry the prosumers.",
)

ADDRESS = click.option(
    "--address",
    metavar="auto|HOST:PORT",
    help="Ray cluster to use; default RAY_ADDRESS, else a Ray of this machine's own.",
)

OUT = click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("runs"),
    show_default=True,
    help="Folder of all results.",
)

CHAIN = click.option(
    "--chain",
    metavar="embedded|anvil|hardhat|URL|none",
    help="Where trades settle; default as the scenario says.",
)
