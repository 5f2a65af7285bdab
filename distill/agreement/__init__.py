"""Two raters compared: figures, baselines, table, pictures."""
