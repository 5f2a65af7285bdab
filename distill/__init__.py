"""From judge labels to a scorer: what runs once, with torch."""
