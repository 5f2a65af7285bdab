"""Runnable measurements; each prints a table and writes JSON with the hardware and versions."""
