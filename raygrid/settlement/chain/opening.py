"""Opening the chain that a run or a command names."""

from __future__ import annotations

from pathlib import Path

from raygrid.errors import InputError
from raygrid.settlement.chain.base import (
    Chain,
    ChainDownError,
    ChainKind,
    ChainRefusedError,
    ChainSlowError,
)


def open_chain(spec: str, folder: Path | None = None, *, read_only: bool = False) -> Chain:
    """Open a chain, starting it where it is one of ours.

    Parameters
    ----------
    spec : str
        'embedded', 'anvil' or 'hardhat', which are started for the caller, or the URL of a node.
    folder : Path, optional
        Run folder, which keeps the state of the embedded chain and of Anvil; what it holds of an
        earlier settlement is gone on with. Without one nothing is kept.
    read_only : bool
        Leave what the folder keeps as it is, as an audit does.

    Returns
    -------
    Chain
        To be closed by the caller.

    Raises
    ------
    InputError
        If there is no such chain, it is not installed, or nobody answers at the URL.
    """
    if spec == ChainKind.EMBEDDED:
        # py-evm takes half a second to load.
        from raygrid.settlement.chain.embedded import STATE_FILE, EmbeddedChain

        path = None if folder is None else folder / STATE_FILE
        return EmbeddedChain(path, read_only=read_only)

    from raygrid.settlement.chain.nodes import start_anvil, start_hardhat
    from raygrid.settlement.chain.rpc import RpcChain
    from raygrid.settlement.chain.transport import Transport

    if spec in (ChainKind.ANVIL, ChainKind.HARDHAT):
        node = (
            start_anvil(folder, read_only=read_only) if spec == ChainKind.ANVIL else start_hardhat()
        )
        try:
            return RpcChain(Transport(node.url), ChainKind(spec), node)
        except BaseException:
            node.close()
            raise
    transport = Transport(spec)
    try:
        return RpcChain(transport)
    except (ChainDownError, ChainSlowError, ChainRefusedError) as error:
        transport.close()
        raise InputError(
            str(error).removeprefix(f"{transport.where}: "),
            transport.where,
            "start the node there, or check the URL",
        ) from error
