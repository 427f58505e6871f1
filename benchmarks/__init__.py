"""Measures Foretype: `python -m benchmarks throughput | latency | peers | report`."""
