"""Commands that match texts: score, rank, link, dedupe, serve."""
