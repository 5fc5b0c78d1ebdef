"""A robot's loop: camera frames and odometry in, what ROS 2 calls a NavSatFix out.

    python samples/robot_loop.py PACK FRAMES

FRAMES/odometry.csv has a line a frame, `image,time,east_m,north_m`: metres since the line before.
"""

import csv
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from geofix import Fix, Localizer, Motion, Tracker


def main(pack: Path, frames: Path) -> None:
    """Print a line for each frame. In ROS 2 the loop is the callback of the camera's topic."""
    with Localizer.open(pack) as localizer, (frames / "odometry.csv").open() as rows:
        tracker = Tracker(localizer)
        for row in csv.DictReader(rows):
            bgr = np.asarray(Image.open(frames / row["image"]).convert("RGB"))[..., ::-1]
            moved = Motion.odometry(float(row["east_m"]), float(row["north_m"]))
            fix = tracker.update(bgr, time=float(row["time"]), motion=moved, encoding="bgr8")
            print(json.dumps(nav_sat_fix(fix)))  # in ROS 2: publisher.publish(...)


def nav_sat_fix(fix: Fix) -> dict[str, object]:
    """Return fields of a sensor_msgs/NavSatFix; the height is not known."""
    (east, both), (_, north) = fix.covariance_m2 or ((0.0, 0.0), (0.0, 0.0))
    rows = [east, both, 0.0, both, north, 0.0, 0.0, 0.0, 1e6]
    place = {"latitude": fix.latlon.lat, "longitude": fix.latlon.lon}
    return {"status": 0 if fix.status == "fixed" else -1, **place, "position_covariance": rows}


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
