"""Scores -> a set, a reason and a doubt for every dialogue."""
