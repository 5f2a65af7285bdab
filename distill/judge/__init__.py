"""Dialogues -> labels, by any OpenAI-compatible server, with a store, a budget and a pace."""
