"""Readers of other people's photo collections: each yields photos, and what it could not use."""
