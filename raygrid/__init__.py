"""raygrid: peer-to-peer electricity markets as a distributed system on Ray."""

__version__ = "0.1.0"
