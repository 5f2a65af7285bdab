"""One decoded record -> the turns of the answer that is meant."""
