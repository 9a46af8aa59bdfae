"""Benchmarks, run as modules; each leaves JSON and Markdown in results/benchmarks."""
