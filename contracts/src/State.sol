// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Roles} from "./Roles.sol";

/// @title What every part of a settlement shares: one word of counters, and the pause.
abstract contract State is Roles {
    /// @dev One storage word, since every transaction reads most of it.
    struct Counters {
        /// Sequence number of the next batch; the first is 0 and there are no gaps.
        uint64 nextSequence;
        /// Sum of all escrow balances; below 2^63, so no single balance can overflow.
        uint64 escrowMicro;
        /// Number of registered participants, and the id of the next one.
        uint32 participants;
        bool paused;
    }

    Counters internal _counters;

    /// @notice Everything but withdrawals stopped, or goes on.
    event PauseChanged(bool paused);

    /// @notice Paused: only withdrawals are possible.
    error IsPaused();

    modifier whenNotPaused() {
        if (_counters.paused) revert IsPaused();
        _;
    }

    /// @notice Stops or resumes everything but withdrawals.
    function setPaused(bool value) external onlyRole(PAUSER_ROLE) {
        _counters.paused = value;
        emit PauseChanged(value);
    }

    /// @notice Whether everything but withdrawals is stopped.
    function paused() external view returns (bool) {
        return _counters.paused;
    }

    /// @notice Sequence number that the next batch must carry.
    function nextSequence() external view returns (uint64) {
        return _counters.nextSequence;
    }

    /// @notice Sum of all escrow balances [1e-6 currency].
    function escrowMicro() external view returns (uint64) {
        return _counters.escrowMicro;
    }

    /// @notice Number of registered participants; their ids are 0 to this number less one.
    function participants() external view returns (uint32) {
        return _counters.participants;
    }
}
