"""EVM chains: one interface, the embedded chain, nodes over JSON-RPC, keys and identities."""
