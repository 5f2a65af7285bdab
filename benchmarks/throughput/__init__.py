"""Dialogues a second end to end, from a JSONL file to a Parquet file of scores: ours and its peers.

python -m benchmarks.throughput RELEASE [--scorer BUNDLE --checkpoint FOLDER] [--json F] [--chart F.svg]
"""
