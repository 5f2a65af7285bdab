"""Every layout of every file -> one stream of dialogues; bad records become rejects with a reason."""
