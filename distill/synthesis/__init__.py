"""Dialogues that a model writes where a corpus has few: planned, asked for, filtered, scored."""
