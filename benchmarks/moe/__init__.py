"""Whether selected sets and mixtures of their experts help: `python -m benchmarks.moe`."""
