"""Score files and streams that grow -> observations, each row once."""
