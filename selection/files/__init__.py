"""What selection reads and writes: labels, layouts, the spool of dialogues, the output folder."""
