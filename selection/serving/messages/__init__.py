"""What goes over the wire: the shapes of requests and answers, and the document that says so."""
