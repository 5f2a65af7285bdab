"""The scorer on disk, verified; the only way from text to token ids; its domain and its uncertainty."""
