"""HTTP over retrieval: the server behind ``fstore serve``, and the client that reads from it."""
