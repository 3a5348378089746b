"""Nouns: frozen values and the single owners of time, ids, secrets, settings and names."""
