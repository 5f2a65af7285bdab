"""Watching scores come in: counts that survive anything, drift against a reference, alerts, hints, and a live page."""
