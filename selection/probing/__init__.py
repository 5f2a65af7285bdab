"""A behavioural test of a scorer: bad replies that must not be kept, edits that must not matter."""
