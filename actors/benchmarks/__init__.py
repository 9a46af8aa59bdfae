"""Benchmark suites. A suite is a module with three things: `Settings`, `QUICK` and `run`."""
