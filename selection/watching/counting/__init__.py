"""Dialogues -> counts in bounded memory, kept in SQLite, and how far two of them lie apart."""
