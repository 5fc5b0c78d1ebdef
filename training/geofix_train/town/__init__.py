"""The built-in data set: a synthetic town, drawn by our own renderer, from the street and above.

Frames, used in every module here:

* (x, y): metres east and north of the town's centre.
* (u, v): the streets' frame. Every street and building is parallel to u or v; a rotation and two
  shears (`Warp`, exactly invertible) bend it into (x, y).
* z: metres above the ground, which is flat.

The same seed and `TOWN_VERSION` give the same pixels on every machine: drawing uses only additions,
multiplications, comparisons and integer hashes, never a transcendental function of an array.
"""

from geofix_train.town.dataset import TOWN_VERSION, make_town

__all__ = ["TOWN_VERSION", "make_town"]
