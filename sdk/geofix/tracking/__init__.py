"""Follows a camera over a stream of photos: motion and photos in, one fix after another out."""
