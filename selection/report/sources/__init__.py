"""What a report is drawn from: score files or the folder of a selection."""
