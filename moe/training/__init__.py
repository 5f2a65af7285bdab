"""Experts and the router of their mixture, trained on transformers' Trainer."""
