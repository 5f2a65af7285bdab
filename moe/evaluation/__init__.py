"""Answers of models and every figure about them."""
