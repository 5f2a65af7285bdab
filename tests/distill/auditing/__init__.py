"""Tests of auditing and adapting."""
