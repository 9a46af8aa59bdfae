// Project file of the Hardhat node that raygrid starts; what varies comes from the environment.
module.exports = {
  defaultNetwork: "hardhat",
  networks: {
    hardhat: {
      chainId: 31337,
      hardfork: "prague",
      blockGasLimit: Number(process.env.RAYGRID_GAS_LIMIT),
      initialBaseFeePerGas: 0,
      gasPrice: 0,
      loggingEnabled: false,
      // A transaction that reverts is mined and has a receipt; the request for it is no failure.
      throwOnTransactionFailures: false,
      throwOnCallFailures: true,
      mining: { auto: true, mempool: { order: "fifo" } },
    },
  },
};
