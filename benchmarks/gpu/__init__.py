"""Engines on a GPU side by side: rates, and how far their scores are from the processor's."""
