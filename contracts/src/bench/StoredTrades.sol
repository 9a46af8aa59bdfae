// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title The plain way to settle, to measure `Settlement` against: each trade a stored struct.
/// @dev For benchmarks only: no roles, no meters, no token.
contract StoredTrades {
    struct Trade {
        uint32 seller;
        uint32 buyer;
        uint32 period;
        uint64 energyWh;
        int64 priceMicroPerKWh;
        int256 valueMicro;
    }

    /// @notice All trades ever settled.
    Trade[] public trades;

    /// @notice What each participant has earned less what it has paid [1e-6 currency].
    mapping(uint32 participant => int256) public balanceMicro;

    /// @notice Stores trades and moves their values, which are rounded towards zero.
    /// @param batch The trades; their values are worked out here.
    function settle(Trade[] calldata batch) external {
        for (uint256 i; i < batch.length; ++i) {
            Trade memory trade = batch[i];
            trade.valueMicro = int256(uint256(trade.energyWh)) * trade.priceMicroPerKWh / 1000;
            trades.push(trade);
            balanceMicro[trade.seller] += trade.valueMicro;
            balanceMicro[trade.buyer] -= trade.valueMicro;
        }
    }

    /// @notice Number of trades ever settled.
    function count() external view returns (uint256) {
        return trades.length;
    }
}
