"""An AR app decides what to load: a signed pack, the platform's rough location, one photo.

python samples/ar_anchor.py PACK KEY.pub PHOTO LAT LON ACCURACY_M
"""

import sys

from geofix import Localizer, Prior

BLOCK_M, DISTRICT_M = 200.0, 500.0  # 95 % radius that is good enough to load it


def main(pack: str, key: str, photo: str, *location: str) -> None:
    """Print what to load. `location` is Android's; for iOS there is `Prior.from_core_location`."""
    lat, lon, accuracy_m = map(float, location)
    with Localizer.open(pack, public_key=key) as localizer:  # refuses a pack of anyone else's
        here = localizer.coverage.around(lat, lon)
        if not here.contains:
            print("nothing: fetch the pack of this place")
            return
        expected = here.expected  # what became of validation photos from such places
        if expected is None or (expected.fixed_within_100m or 0.0) < 0.5:
            print("careful: most photos from such places are answered wrongly, or nobody knows")
        prior = Prior.from_android(lat, lon, accuracy_m=accuracy_m)
        fix = localizer.localize(photo, prior=prior)
    where = f"{fix.latlon.lat:.5f}, {fix.latlon.lon:.5f}"
    if fix.is_sure(radius95_m=BLOCK_M):
        print(f"anchors: of the block around {where}, within {fix.accuracy_m:.0f} m (68 %)")
    elif fix.is_sure(radius95_m=DISTRICT_M):
        print(f"map: of the district around {where}, within {fix.accuracy_m:.0f} m (68 %)")
    else:
        print(f"map: of the district around {lat}, {lon}: the photo tells no more")


if __name__ == "__main__":
    main(*sys.argv[1:]) if len(sys.argv) == 7 else sys.exit(__doc__)
