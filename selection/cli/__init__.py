"""The commands `empathy select`, `check`, `demo` and `report`."""
