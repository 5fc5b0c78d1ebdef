"""A robot's loop: camera frames and odometry in, what ROS 2 calls a NavSatFix out.

    python samples/robot_loop.py PACK FRAMES

FRAMES/odometry.csv has a line a frame, `image,time,east_m,north_m`: metres since the line before.
"""

import csv
import json
import sys
from pathlib import Path

from geofix import Fix, Localizer, Motion, Tracker
from geofix.images import load_image


def main(pack: Path, frames: Path) -> None:
    """Print a line for each frame. In ROS 2 the loop is the callback of the camera's topic."""
    with Localizer.open(pack) as localizer, (frames / "odometry.csv").open() as rows:
        tracker = Tracker(localizer)
        for row in csv.DictReader(rows):
            bgr = load_image(frames / row["image"])[..., ::-1]  # as a camera's driver gives it
            moved = Motion.odometry(float(row["east_m"]), float(row["north_m"]))
            fix = tracker.update(bgr, time=float(row["time"]), motion=moved, encoding="bgr8")
            print(json.dumps({"frame": row["image"], **nav_sat_fix(fix)}))  # in ROS 2: publish


def nav_sat_fix(fix: Fix) -> dict[str, object]:
    """Return fields of a sensor_msgs/NavSatFix: no fix where the place itself is in doubt."""
    if fix.covariance_m2 is None or not fix.is_sure(radius95_m=200):
        return {"status": -1, "position_covariance_type": 0}
    (east, both), (_, north) = fix.covariance_m2  # of the chosen place
    rows = [east, both, 0.0, both, north, 0.0, 0.0, 0.0, 1e6]
    covariance = {"position_covariance": rows, "position_covariance_type": 3}
    return {"status": 0, "latitude": fix.latlon.lat, "longitude": fix.latlon.lon, **covariance}


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:])) if len(sys.argv) == 3 else sys.exit(__doc__)
