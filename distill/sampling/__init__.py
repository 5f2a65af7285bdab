"""Which dialogues are worth a label."""
