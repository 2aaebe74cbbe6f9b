"""The pair head: a small learned function of both texts' token vectors and their cosine."""
