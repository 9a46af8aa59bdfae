"""One participant's statement as text: its trades, its money, and what its meter voided."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from raygrid.errors import InputError
from raygrid.prosumer.population import GRID_ID
from raygrid.results.reader import RunReader
from raygrid.results.tables import text_table
from raygrid.settlement.statements import person_table

COLUMNS = ("Period", "Partner", "", "kWh", "Price per kWh", "Money", "Status")


def statement_text(run: RunReader, prosumer_id: int) -> str:
    """The statement of one participant over the run.

    Parameters
    ----------
    run : RunReader
        A settled run.
    prosumer_id : int
        The participant; 0 is the grid connection.

    Raises
    ------
    InputError
        If the run was not settled or the participant is none of its.
    """
    if not run.has("statements.parquet"):
        raise InputError(
            "the run was not settled", str(run.path), "settle it with 'raygrid settle'"
        )
    table = run.read_table("statements")
    found = table.filter(pc.equal(table["prosumer_id"], prosumer_id)).to_pylist()
    if not found:
        raise InputError(
            f"no participant {prosumer_id}", str(run.path), "see statements.parquet for the ids"
        )
    account, money = found[0], str(run.manifest["currency"])
    parts = [_own(part, prosumer_id) for part in run.iter_table("trades")]
    rows = [_row(trade) for trade in person_table(pa.concat_tables(parts), prosumer_id).to_pylist()]
    who = "the grid connection" if prosumer_id == GRID_ID else f"prosumer {prosumer_id}"
    network = account["network_micro"]
    lines = [
        f"Statement of {who}, run {run.manifest['run_id']} of {run.manifest['scenario']}",
        "",
        text_table(COLUMNS, rows) if rows else "It did not trade.",
        "",
        f"bought     {_kwh(account['bought_wh'])} kWh, paid {_money(account['paid_micro'])} {money}"
        + (f", of it {_money(network)} to the network account" if network else ""),
        f"sold       {_kwh(account['sold_wh'])} kWh, earned "
        f"{_money(account['earned_micro'])} {money}",
        f"rejected   {_kwh(account['rejected_bought_wh'])} kWh bought, "
        f"{_kwh(account['rejected_sold_wh'])} kWh sold, in {account['rejected_trades']} of "
        f"{account['trades']} trades",
        f"unsettled  {_kwh(account['unsettled_bought_wh'])} kWh bought, "
        f"{_kwh(account['unsettled_sold_wh'])} kWh sold",
        f"balance    {_money(account['opening_micro'])} paid in, "
        f"{_money(account['closing_micro'])} {money} after",
    ]
    return "\n".join([*lines, *_voided(run, prosumer_id)])


def _own(part: pa.Table, prosumer_id: int) -> pa.Table:
    return part.filter(
        pc.or_(pc.equal(part["seller_id"], prosumer_id), pc.equal(part["buyer_id"], prosumer_id))
    )


def _row(trade: dict[str, object]) -> tuple[str, ...]:
    energy, partner = int(str(trade["energy_wh"])), trade["partner_id"]
    status = str(trade["status"]) + (f": {trade['reason']}" if trade["reason"] else "")
    return (
        str(trade["period"]),
        "grid" if partner == GRID_ID else str(partner),
        "sold" if energy > 0 else "bought",
        _kwh(abs(energy)),
        _money(int(str(trade["price_micro_per_kwh"]))),
        _money(int(str(trade["money_micro"]))),
        status,
    )


def _voided(run: RunReader, prosumer_id: int) -> list[str]:
    """A line for each period in which its own meter voided its trades."""
    if not run.has("readings.parquet"):
        return []
    lines = []
    for part in run.iter_table("readings"):
        own = part.filter(
            pc.and_(pc.equal(part["prosumer_id"], prosumer_id), pc.not_equal(part["reason"], ""))
        )
        for row in own.to_pylist():
            metered = row["accepted_wh"]
            said = "no reading" if metered is None else f"metered {_kwh(metered)} kWh"
            lines.append(
                f"period {row['period']}: {row['reason']} ({said}, traded "
                f"{_kwh(row['traded_wh'])} kWh net)"
            )
    return ["", *lines] if lines else []


def _kwh(wh: int) -> str:
    return f"{wh / 1e3:.3f}"


def _money(micro: int) -> str:
    return f"{micro / 1e6:.6f}"
