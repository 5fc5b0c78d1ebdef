"""Small pieces of work whose speed is watched: see `make bench`."""
