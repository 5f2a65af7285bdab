"""Score files and streams: windows, reading ahead, manifest, resume, score files."""
