"""Scores over HTTP: one process, requests batched across connections, limits on everything that a client sends."""
