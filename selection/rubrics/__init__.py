"""What tests of rubrics found, and later ones held against earlier ones."""
