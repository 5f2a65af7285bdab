"""What Python code calls: dialogues in any form, tables among them, and a bar while it waits."""
