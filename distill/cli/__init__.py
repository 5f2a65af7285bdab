"""The commands `empathy label`, `train`, `export`, `agree` and `distill`."""
