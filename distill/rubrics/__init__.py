"""Rubrics and models compared on the same labelled dialogues."""
