"""The settlement contract once more, trade by trade in plain Python: an oracle and a fake chain."""

from dataclasses import dataclass, field
from fractions import Fraction
from math import floor

import numpy as np
from eth_hash.auto import keccak

from raygrid.settlement.contract import NETWORK_ACCOUNT, ProvenTrade
from raygrid.settlement.evidence import SettledBatch, Transfer


def value(energy_wh, price):
    """To the nearest micro-unit, halves upwards."""
    return floor(Fraction(energy_wh * price, 1000) + Fraction(1, 2))


def integer(data, signed=False):
    return int.from_bytes(data, "big", signed=signed)


@dataclass
class ModelChain:
    """A chain that holds one settlement contract; answers as an audit asks (`ChainView`)."""

    tolerance_wh: int
    tolerance_ppm: int
    first_of_group: dict
    balance: dict = field(default_factory=dict)
    history: list = field(default_factory=list)
    records: dict = field(default_factory=dict)
    moves: list = field(default_factory=list)

    def transfer(self, participant, micro):
        self.balance[participant] = self.balance.get(participant, 0) + micro
        self.moves.append(Transfer(len(self.history), participant, micro))

    def settle(self, payload):
        """One batch; returns the reason of each trade."""
        group, period, trades, readings = self.parse(payload)
        first = self.first_of_group[group]
        sold, bought = {}, {}
        for seller, buyer, energy, _, _ in trades:
            sold[seller] = sold.get(seller, 0) + energy
            bought[buyer] = bought.get(buyer, 0) + energy
        void = {}
        for who in {*sold, *bought}:
            reading = readings[who]
            s, b = sold.get(who, 0), bought.get(who, 0)
            if not s and not b:
                continue
            if reading is None:
                void[who] = 1
            elif s and b:
                void[who] = 3
            elif abs(s - b - reading) > self.tolerance_wh + Fraction(
                self.tolerance_ppm * abs(reading), 10**6
            ):
                void[who] = 2
        debit = {}
        for seller, buyer, energy, to_seller, from_buyer in trades:
            if seller not in void and buyer not in void:
                debit[seller] = debit.get(seller, 0) + max(-value(energy, to_seller), 0)
                debit[buyer] = debit.get(buyer, 0) + max(value(energy, from_buyer), 0)
        for who, micro in debit.items():
            if micro > self.balance.get(first + who, 0):
                void[who] = 4
        reasons = [
            void.get(seller, 0) or (void[buyer] | 0x80 if buyer in void else 0)
            for seller, buyer, *_ in trades
        ]
        network = sum(
            value(e, q) - value(e, p) for (_, _, e, p, q), r in zip(trades, reasons, strict=True)
            if not r
        )  # fmt: skip
        if self.balance.get(NETWORK_ACCOUNT, 0) + network < 0:
            reasons = [
                5 if not r and value(e, q) < value(e, p) else r
                for (_, _, e, p, q), r in zip(trades, reasons, strict=True)
            ]
        for (seller, buyer, energy, p, q), reason in zip(trades, reasons, strict=True):
            if not reason:
                earned, paid = value(energy, p), value(energy, q)
                for who, micro in (
                    (first + seller, earned), (first + buyer, -paid),
                    (NETWORK_ACCOUNT, paid - earned),
                ):  # fmt: skip
                    self.balance[who] = self.balance.get(who, 0) + micro
        voids = b"".join(k.to_bytes(3, "big") + bytes([r]) for k, r in enumerate(reasons) if r)
        sequence = len(self.history)
        digest = bytearray(keccak(payload + sequence.to_bytes(8, "big") + voids))
        digest[-1] |= 1
        assert (group, period) not in self.records
        self.records[group, period] = bytes(digest)
        self.history.append(SettledBatch(sequence, group, period, payload, voids))
        return reasons

    @staticmethod
    def parse(payload):
        """Group, period, trades and readings of the bytes, by Batches.sol's comment."""
        group, period, pricing = integer(payload[:4]), integer(payload[4:8]), payload[8]
        price = integer(payload[9:13], True)
        members, n = integer(payload[13:16]), integer(payload[16:19])
        readings = []
        for k in range(members):
            word = integer(payload[19 + 6 * k : 25 + 6 * k])
            drawn, size = word >> 47, word % 2**47
            readings.append(None if word == 2**47 else -size if drawn else size)
        trades, start, stride = [], 19 + 6 * members, 11 + 4 * pricing
        for k in range(n):
            row = payload[start + stride * k : start + stride * (k + 1)]
            p = integer(row[11:15], True) if pricing else price
            q = integer(row[15:19], True) if pricing == 2 else p
            trades.append((integer(row[:3]), integer(row[3:6]), integer(row[6:11]), p, q))
        assert len(payload) == start + stride * n
        return group, period, trades, readings

    # What an audit asks.

    def next_sequence(self):
        return len(self.history)

    def balances(self, count):
        return np.array([self.balance.get(k, 0) for k in range(count)], dtype=np.int64)

    def network_balance(self):
        return self.balance.get(NETWORK_ACCOUNT, 0)

    def transfers(self):
        return self.moves

    def record(self, group, period):
        return self.records.get((group, period))

    def batch(self, sequence):
        return self.history[sequence] if sequence < len(self.history) else None

    def prove(self, batch, index):
        voids = {
            integer(batch.voids[k : k + 3]): batch.voids[k + 3]
            for k in range(0, len(batch.voids), 4)
        }
        group, _, trades, _ = self.parse(batch.payload)
        seller, buyer, energy, p, q = trades[index]
        first = self.first_of_group[group]
        return ProvenTrade(
            voids.get(index, 0), first + seller, first + buyer, energy, value(energy, p),
            value(energy, q),
        )  # fmt: skip
