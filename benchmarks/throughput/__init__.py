"""Dialogues per second end to end, from a JSONL file to a Parquet file of scores: this package and its peers.

python -m benchmarks.throughput RELEASE [--scorer BUNDLE --checkpoint FOLDER] [--json F] [--chart F.svg]
"""
