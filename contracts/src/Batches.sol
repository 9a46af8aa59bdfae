// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @dev A batch where it lies in calldata. All its parts are big-endian.
///
///     header, 19 bytes   group u32, period u32, pricing u8, price i32 [1e-6 currency/kWh],
///                        members u24, trades u24
///     readings, 6 each   of the group's first `members` participants: the highest bit says
///                        drawn from the grid rather than fed into it, the other 47 are Wh;
///                        drawn and 0 Wh is "no reading"
///     trades, 11 each    seller u24, buyer u24 (positions in the group), energy u40 [Wh];
///                        then, by pricing, nothing (all at the header's price), the trade's
///                        price i32, or the seller's price i32 and the buyer's price i32
struct Batch {
    uint32 group;
    uint32 period;
    int256 price;
    uint256 members;
    uint256 trades;
    /// Bytes of one trade: 11, 15 or 19.
    uint256 stride;
    /// Positions in calldata: of the header, the readings, the trades, and behind them.
    uint256 start;
    uint256 readings;
    uint256 records;
    uint256 end;
}

/// @dev Where the sums of a batch lie in memory: one word per balance, from the balance word of
/// the group's first participant to that of its last, so that words of four line up with
/// storage. A word holds what the participant sold [Wh], bought [Wh], is credited and is debited
/// [1e-6 currency], 64 bits each.
struct Sums {
    uint256 words;
    /// The word of the group's first participant.
    uint256 first;
    uint256 end;
    /// Where as many words say why the participants' trades are void, 0 where they are not; or 0
    /// as long as nobody's are.
    uint256 reasons;
    /// What the trades that are void are listed in, 4 bytes each: position u24, reason u8.
    uint256 voids;
    uint256 voidsEnd;
    /// Whether trades that the network account pays for are void too.
    bool networkVoid;
}

/// @title Reading and adding up batches of trades.
/// @dev The inner loops are assembly, for they are what a settlement costs. The same rules in
/// Python are raygrid/settlement/rules.py, and the two are fuzzed against each other.
library Batches {
    /// @notice The participant's reading is missing.
    uint256 internal constant NO_READING = 1;
    /// @notice The participant's net trades are further from its reading than the tolerance.
    uint256 internal constant MISMATCH = 2;
    /// @notice The participant both sells and buys, which no reading can bear out.
    uint256 internal constant BOTH_SIDES = 3;
    /// @notice The participant's balance does not cover what its trades debit.
    uint256 internal constant NO_FUNDS = 4;
    /// @notice The network account cannot pay the difference between the two prices.
    uint256 internal constant NETWORK_FUNDS = 5;
    /// @notice Added to the reason of a trade that is void because of its buyer.
    uint256 internal constant BUYER = 0x80;

    uint256 internal constant HEADER = 19;
    uint256 internal constant VOID_BYTES = 4;

    /// @notice The batch at `position` of the calldata is cut short or says what cannot be.
    error MalformedBatch(uint256 position);
    /// @notice Trade `index` names a position that has no reading in the batch.
    error UnknownParty(uint256 index);
    /// @notice The values of a batch's trades, both sides', add up to 2^63 or more.
    error ValueTooLarge();

    /// @notice Reads the header of the batch at `start` of the calldata, which ends at `limit`.
    function read(uint256 start, uint256 limit) internal pure returns (Batch memory b) {
        uint256 header;
        assembly ("memory-safe") {
            header := calldataload(start)
        }
        uint256 pricing = uint8(header >> 184);
        b.group = uint32(header >> 224);
        b.period = uint32(header >> 192);
        b.price = int32(uint32(header >> 152));
        b.members = uint24(header >> 128);
        b.trades = uint24(header >> 104);
        unchecked {
            // Nothing here can overflow: 24-bit counts times small constants.
            b.stride = 11 + 4 * pricing;
            b.start = start;
            b.readings = start + HEADER;
            b.records = b.readings + 6 * b.members;
            b.end = b.records + b.stride * b.trades;
        }
        if (pricing > 2 || b.end > limit || (pricing > 0 && b.price != 0)) {
            revert MalformedBatch(start);
        }
    }

    /// @notice Sets sums aside in memory, all zero, for a group whose first id is `firstId`.
    function reserve(Batch memory b, uint256 firstId) internal pure returns (Sums memory s) {
        unchecked {
            uint256 lead = firstId & 3;
            uint256 size = 32 * ((lead + b.members + 3) & ~uint256(3));
            s.words = take(size);
            s.first = s.words + 32 * lead;
            s.end = s.words + size;
        }
    }

    /// @notice Sets memory aside for the reasons and the list of void trades, unless it has been.
    function expectVoids(Batch memory b, Sums memory s) internal pure {
        if (s.reasons != 0) return;
        s.reasons = take(s.end - s.words);
        s.voids = take(VOID_BYTES * b.trades + 32);
    }

    /// @notice Takes `size` bytes of memory and clears them.
    function take(uint256 size) internal pure returns (uint256 cursor) {
        assembly ("memory-safe") {
            cursor := mload(0x40)
            mstore(0x40, add(cursor, size))
            // Behind the calldata all is zero.
            calldatacopy(cursor, calldatasize(), size)
        }
    }

    /// @notice Adds up all trades, if no price is negative; that is the usual case, and this is
    /// what a settlement costs.
    /// @return done Whether it is so; if not, the sums are of no use.
    function addQuickly(Batch memory b, Sums memory s) internal pure returns (bool done) {
        if (b.price < 0) return false;
        if (b.stride == 11) {
            _addUniform(b, s);
            return true;
        }
        return _addPriced(b, s);
    }

    /// @dev Adds up trades that all have the header's price, which is not negative.
    function _addUniform(Batch memory b, Sums memory s) private pure {
        uint256 first = s.first;
        uint256 limit = b.members << 5;
        uint256 cursor = b.records;
        uint256 end = b.end;
        uint256 price = uint256(b.price);
        uint256 total;
        assembly ("memory-safe") {
            for {} lt(cursor, end) { cursor := add(cursor, 11) } {
                let record := calldataload(cursor)
                let seller := and(shr(227, record), 0x1fffffe0)
                let buyer := and(shr(203, record), 0x1fffffe0)
                if iszero(and(lt(seller, limit), lt(buyer, limit))) { break }
                // What the buyer's word gets, bought and debited; the seller's gets the same, 64
                // bits higher up: sold and credited.
                let sums := and(shr(40, record), 0xffffffffff00000000000000000000000000000000)
                sums := add(sums, div(add(mul(shr(128, sums), price), 500), 1000))
                total := add(total, sums)
                buyer := add(first, buyer)
                mstore(buyer, add(mload(buyer), sums))
                seller := add(first, seller)
                mstore(seller, add(mload(seller), shl(64, sums)))
            }
        }
        if (cursor < end) revert UnknownParty((cursor - b.records) / 11);
        // Both sides count, and have the same value.
        if (uint128(total) >> 62 != 0) revert ValueTooLarge();
    }

    /// @dev Adds up trades that have prices of their own, none of which may be negative.
    function _addPriced(Batch memory b, Sums memory s) private pure returns (bool done) {
        uint256 first = s.first;
        uint256 limit = b.members << 5;
        uint256 cursor = b.records;
        uint256 end = b.end;
        uint256 stride = b.stride;
        // The buyer's price is the last 4 bytes of the trade, which has 11 + 4 or 11 + 8.
        uint256 below = 256 - 8 * stride;
        uint256 turnover;
        uint256 prices;
        assembly ("memory-safe") {
            for {} lt(cursor, end) { cursor := add(cursor, stride) } {
                let record := calldataload(cursor)
                let seller := and(shr(227, record), 0x1fffffe0)
                let buyer := and(shr(203, record), 0x1fffffe0)
                if iszero(and(lt(seller, limit), lt(buyer, limit))) { break }
                let wh := and(shr(168, record), 0xffffffffff)
                let earned := and(shr(136, record), 0xffffffff)
                let paid := and(shr(below, record), 0xffffffff)
                prices := or(prices, or(earned, paid))
                earned := div(add(mul(wh, earned), 500), 1000)
                paid := div(add(mul(wh, paid), 500), 1000)
                turnover := add(turnover, add(earned, paid))
                seller := add(first, seller)
                mstore(seller, add(mload(seller), or(shl(192, wh), shl(64, earned))))
                buyer := add(first, buyer)
                mstore(buyer, add(mload(buyer), or(shl(128, wh), paid)))
            }
        }
        if (cursor < end) revert UnknownParty((cursor - b.records) / stride);
        // The highest bit of a price is its sign.
        done = prices >> 31 == 0;
        if (done && turnover >> 63 != 0) revert ValueTooLarge();
    }

    /// @notice Adds up the trades of any batch but those that are void, and lists these.
    function add(Batch memory b, Sums memory s) internal pure {
        uint256 limit = b.members << 5;
        uint256 stride = b.stride;
        uint256 cursor = b.records;
        uint256 end = b.end;
        // Where the reasons of the group's first participant stand, 0 if there are none.
        uint256 reasons = s.reasons == 0 ? 0 : s.reasons + s.first - s.words;
        uint256 voids = s.voids;
        uint256 turnover;
        assembly ("memory-safe") {
            // Signed value, to the nearest, halves upwards: with 2^72 times 1000 added the
            // dividend is positive, so that division rounds down.
            function rounded(wh, price) -> micro {
                micro := div(add(mul(wh, price), 0x3e80000000000000001f4), 1000)
                micro := sub(micro, 0x1000000000000000000)
            }
            // Adds energy, already in its place, and a value to a word: its place is given
            // for a value of 0 or more, and 64 bits higher or lower for a negative one.
            function addTo(word, energy, micro, place) -> magnitude {
                magnitude := micro
                if slt(micro, 0) {
                    magnitude := sub(0, micro)
                    place := xor(place, 64)
                }
                mstore(word, add(mload(word), add(energy, shl(place, magnitude))))
            }

            let first := mload(add(s, 0x20))
            let networkVoid := mload(add(s, 0xc0))
            for { let index := 0 } lt(cursor, end) {
                cursor := add(cursor, stride)
                index := add(index, 1)
            } {
                let record := calldataload(cursor)
                let seller := and(shr(227, record), 0x1fffffe0)
                let buyer := and(shr(203, record), 0x1fffffe0)
                if iszero(and(lt(seller, limit), lt(buyer, limit))) { break }
                let wh := and(shr(168, record), 0xffffffffff)
                let earned := mload(add(b, 0x40))
                let paid := earned
                if gt(stride, 11) {
                    earned := signextend(3, shr(136, record))
                    paid := signextend(3, shr(sub(256, shl(3, stride)), record))
                }
                earned := rounded(wh, earned)
                paid := rounded(wh, paid)
                let reason := and(networkVoid, slt(paid, earned))
                if reason { reason := NETWORK_FUNDS }
                if reasons {
                    let fault := mload(add(reasons, buyer))
                    if fault { reason := or(fault, BUYER) }
                    fault := mload(add(reasons, seller))
                    if fault { reason := fault }
                }
                if reason {
                    mstore(voids, shl(224, or(shl(8, index), reason)))
                    voids := add(voids, 4)
                    continue
                }
                earned := addTo(add(first, seller), shl(192, wh), earned, 64)
                paid := addTo(add(first, buyer), shl(128, wh), paid, 0)
                turnover := add(turnover, add(earned, paid))
            }
        }
        s.voidsEnd = voids;
        if (cursor < end) revert UnknownParty((cursor - b.records) / stride);
        if (turnover >> 63 != 0) revert ValueTooLarge();
    }

    /// @notice Clears the sums and adds up the trades that are not void.
    function addAgain(Batch memory b, Sums memory s) internal pure {
        uint256 cursor = s.words;
        uint256 size = s.end - cursor;
        assembly ("memory-safe") {
            calldatacopy(cursor, calldatasize(), size)
        }
        add(b, s);
    }

    /// @notice Trade `index` of a batch: positions, energy [Wh] and prices [1e-6 currency/kWh].
    function tradeAt(Batch memory b, uint256 index)
        internal
        pure
        returns (uint256 seller, uint256 buyer, uint256 wh, int256 sellerPrice, int256 buyerPrice)
    {
        uint256 stride = b.stride;
        uint256 cursor;
        unchecked {
            cursor = b.records + index * stride;
        }
        uint256 record;
        assembly ("memory-safe") {
            record := calldataload(cursor)
        }
        seller = record >> 232;
        buyer = uint24(record >> 208);
        wh = uint40(record >> 168);
        if (stride == 11) return (seller, buyer, wh, b.price, b.price);
        sellerPrice = int32(uint32(record >> 136));
        buyerPrice = stride == 15 ? sellerPrice : int256(int32(uint32(record >> 104)));
    }

    /// @notice Value of an energy, to the nearest 1e-6 currency, halves upwards.
    function valueOf(uint256 wh, int256 price) internal pure returns (int256 micro) {
        unchecked {
            // Shifted by 2^72 the dividend is positive, so that division rounds down.
            micro = int256((uint256(int256(wh) * price) + (1000 << 72) + 500) / 1000) - (1 << 72);
        }
    }
}
