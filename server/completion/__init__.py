"""Text: one request's life, from the document to the ghost text."""
