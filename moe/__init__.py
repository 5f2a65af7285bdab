"""From training sets to experts and their mixture."""
