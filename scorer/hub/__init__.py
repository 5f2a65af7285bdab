"""Scorers on the Hugging Face hub: named, fetched, pushed with a card."""
