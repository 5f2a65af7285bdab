"""From judge labels to a scorer: what runs once, with torch."""

import scorer  # noqa: F401 - before any library: it turns off what they would report
