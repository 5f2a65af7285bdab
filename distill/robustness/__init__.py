"""Replies that a training should know to be bad, and edits that should change nothing."""
