"""Changes the modules that everything rests on, one small fault at a time, and counts the faults that no test sees."""
