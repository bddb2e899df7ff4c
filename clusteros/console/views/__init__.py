"""Views by noun. Each page has a part view beside it that draws one of its parts again; both use the same context."""
