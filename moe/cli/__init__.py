"""The commands `empathy moe` and `empathy run`."""
