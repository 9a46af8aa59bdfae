// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @title A standard ERC-20 of six decimals for tests and local chains: its maker prints it.
contract TestToken is ERC20 {
    /// @notice The only one who prints.
    address public immutable minter;

    /// @notice `caller` is not the minter.
    error NotMinter(address caller);

    constructor() ERC20("raygrid test currency", "RTC") {
        minter = msg.sender;
    }

    /// @notice Prints `amount` for `to` [1e-6 currency].
    function mint(address to, uint256 amount) external {
        if (msg.sender != minter) revert NotMinter(msg.sender);
        _mint(to, amount);
    }

    /// @inheritdoc ERC20
    function decimals() public pure override returns (uint8) {
        return 6;
    }
}
