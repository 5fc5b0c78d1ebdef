"""Who photographed what, when: drives through the street network and their split.

Some streets and whole districts are kept without training photos: there only aerial imagery can
help. Of a large town most may have no photos at all, as most of a real one has none; the districts
that do lie around its hearts. Test photos come from other drives and later dates than training
photos, never from the same.
"""

import itertools
import math
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import NamedTuple

import numpy as np

from geofix_train.town.plan import Street
from geofix_train.town.raster import Warp

# share of all photos, on streets with training photos and on streets without
_QUOTAS = {
    ("train", "seen"): 0.70,
    ("val", "seen"): 0.08,  # as in the test split, so that what is calibrated here holds there
    ("val", "val only"): 0.02,
    ("test", "seen"): 0.12,
    ("test", "test only"): 0.08,
}


class _CameraKind(NamedTuple):
    """How a kind of camera is held and built; a phone is held upright."""

    height_m: float
    hfov_deg: tuple[float, float]


_CAMERAS = {
    "car": _CameraKind(2.5, (76.0, 92.0)),
    "pedestrian": _CameraKind(1.7, (60.0, 74.0)),
    "phone": _CameraKind(1.6, (48.0, 56.0)),
}
_CAMERA_SHARES = (0.62, 0.30, 0.08)
_SEASON_OF_MONTH = (
    ("winter",) * 2 + ("spring",) * 3 + ("summer",) * 4 + ("autumn",) * 2 + ("winter",)
)
_MONTHS = (2, 4, 5, 6, 7, 8, 9, 10, 10, 11)
_YEARS = {"train": (2023, 2024), "val": (2024, 2025), "test": (2025, 2026)}


class Shot(NamedTuple):
    """One photo to take. Position in metres east and north, angles in degrees."""

    x: float
    y: float
    heading_deg: float
    hfov_deg: float
    camera: str
    height_m: float
    captured_at: str
    season: str
    light: str
    hour: float
    sequence_id: str
    split: str
    has_heading: bool
    has_hfov: bool
    area: str  # what training knows of the place: one of AREAS
    seed: int


AREAS = ("driven street", "street without photos", "district without photos")


class _Edge(NamedTuple):
    """A stretch of a street between two crossings."""

    street: Street
    start: float
    end: float
    nodes: tuple[int, int]
    role: str
    area: str


@dataclass(frozen=True)
class _Network:
    edges: tuple[_Edge, ...]
    edges_of_node: dict[int, list[int]]


def plan_drives(
    streets: tuple[Street, ...],
    warp: Warp,
    *,
    size_m: float,
    num_photos: int,
    seed: int,
    photographed: float = 1.0,
) -> list[Shot]:
    """Return `num_photos` shots in all, drive by drive.

    Args:
        streets: of the town and around it.
        warp: from the streets' frame to metres.
        size_m: side of the square, centred on the town, that photos stay in.
        num_photos: of all splits together.
        seed: of the drives.
        photographed: share of the districts that have photos in every split.
    """
    network = _network(
        streets, warp, size_m / 2 - 12.0, np.random.default_rng([seed, 2]), photographed
    )
    shots: list[Shot] = []
    for quota, ((split, role), share) in enumerate(_QUOTAS.items()):
        rng = np.random.default_rng([seed, 2, quota])
        allowed = {i for i, edge in enumerate(network.edges) if edge.role == role}
        if not allowed:
            raise ValueError(
                f"a town of {size_m / 1000:g} km has no street that is {role!r}: want a larger one"
            )
        wanted = len(shots) + round(share * num_photos)
        visits = np.zeros(len(network.edges))
        while len(shots) < wanted:
            number = len({shot.sequence_id for shot in shots})
            drive = _drive(network, allowed, visits, warp, split, f"{split}-{number:04d}", rng)
            shots.extend(drive[: wanted - len(shots)])
    return shots


def _network(
    streets: tuple[Street, ...],
    warp: Warp,
    half_m: float,
    rng: np.random.Generator,
    photographed: float,
) -> _Network:
    """Cut the streets of the town at their crossings; decide who may drive where."""
    roles = _roles(streets, warp, half_m, rng, photographed)
    nodes: dict[tuple[float, float], int] = {}
    edges: list[_Edge] = []
    for street, (role, area) in zip(streets, roles, strict=True):
        cuts = sorted(
            other.at
            for other in streets
            if other.along_u != street.along_u
            and street.start - 1 <= other.at <= street.end + 1
            and other.start - 1 <= street.at <= other.end + 1
        )
        for start, end in itertools.pairwise(cuts):
            ends = [(at, street.at) if street.along_u else (street.at, at) for at in (start, end)]
            x, y = warp.xy(np.array([p[0] for p in ends]), np.array([p[1] for p in ends]))
            if end - start > 8.0 and max(np.abs(x).max(), np.abs(y).max()) < half_m:
                a, b = (nodes.setdefault((round(u, 1), round(v, 1)), len(nodes)) for u, v in ends)
                edges.append(_Edge(street, start, end, (a, b), role, area))
    for role in ("val only", "test only"):
        edges = _with_role(edges, role)
    of_node: dict[int, list[int]] = {}
    for number, edge in enumerate(edges):
        for node in edge.nodes:
            of_node.setdefault(node, []).append(number)
    return _Network(tuple(edges), of_node)


def _with_role(edges: list[_Edge], role: str) -> list[_Edge]:
    """Return the edges; where chance gave no street a role, as in a small town, one gets it."""
    spare = None
    if all(edge.role != role for edge in edges):
        side_streets = (e.street for e in edges if e.role == "seen" and not e.street.is_avenue)
        spare = next(side_streets, None)
    return [
        edge._replace(role=role, area=AREAS[1]) if edge.street is spare else edge for edge in edges
    ]


def _roles(
    streets: tuple[Street, ...],
    warp: Warp,
    half_m: float,
    rng: np.random.Generator,
    photographed: float,
) -> list[tuple[str, str]]:
    """Decide for each street: "seen", "val only", "test only" or "none"; and its area."""
    kept = _kept_districts(_districts_inside(streets, warp, half_m), rng, photographed)
    roles = []
    for street in streets:
        draw = rng.uniform()
        by_chance = "test only" if draw < 0.1 else "val only" if draw < 0.15 else "seen"
        # A town that is photographed all over shares its avenues with the districts kept back.
        if street.district in kept and not (street.is_avenue and photographed == 1):
            roles.append((kept[street.district], AREAS[2]))
        elif street.is_avenue or by_chance == "seen":
            roles.append(("seen", AREAS[0]))
        else:
            roles.append((by_chance, AREAS[1]))
    return roles


def _districts_inside(
    streets: tuple[Street, ...], warp: Warp, half_m: float
) -> list[tuple[int, int]]:
    """Return the districts with side streets in the town, those with the most first."""
    inside: dict[tuple[int, int], int] = {}
    for street in streets:
        middle = (street.start + street.end) / 2
        u, v = (middle, street.at) if street.along_u else (street.at, middle)
        x, y = warp.xy(np.array(u), np.array(v))
        if not street.is_avenue and max(abs(float(x)), abs(float(y))) < half_m:
            inside[street.district] = inside.get(street.district, 0) + 1
    return sorted(inside, key=lambda place: (-inside[place], place))


def _kept_districts(
    districts: list[tuple[int, int]], rng: np.random.Generator, photographed: float
) -> dict[tuple[int, int], str]:
    """Return the role of each district without training photos."""
    num_test = max(1, len(districts) // 8)
    num_val = max(1, num_test // 2)
    if photographed < 1:
        choice = _far_from_hearts(districts, 1 - photographed, rng)
    else:  # among those with many streets, so that holding one back takes something away
        choice = districts[: max(3, len(districts) // 2)]
    chosen = [choice[i] for i in rng.permutation(len(choice))]
    roles = ["test only"] * num_test + ["val only"] * num_val
    if photographed < 1:
        roles += ["none"] * (len(chosen) - len(roles))
    return dict(zip(chosen, roles, strict=False))


def _far_from_hearts(
    districts: list[tuple[int, int]], share: float, rng: np.random.Generator
) -> list[tuple[int, int]]:
    """Return the share of the districts that lie farthest from the nearest of three hearts."""
    places = np.array(districts, float)
    hearts = places[rng.choice(len(places), size=3, replace=False)]
    away = ((places[:, None] - hearts) ** 2).sum(axis=2).min(axis=1)
    order = np.argsort(-away, kind="stable")
    return [districts[i] for i in order[: max(3, round(share * len(districts)))]]


def _drive(
    network: _Network,
    allowed: set[int],
    visits: np.ndarray,
    warp: Warp,
    split: str,
    sequence_id: str,
    rng: np.random.Generator,
) -> list[Shot]:
    """Walk along the least visited streets, for up to a kilometre, and photograph."""
    walk = _walk(network, allowed, visits, length_m=rng.uniform(400.0, 1000.0), rng=rng)
    year, month = int(rng.choice(_YEARS[split])), int(rng.choice(_MONTHS))
    midnight = datetime(year, month, int(rng.integers(1, 29)), tzinfo=timezone.utc)
    hour = rng.uniform(8.5, 17.0)
    camera = str(rng.choice(list(_CAMERAS), p=_CAMERA_SHARES))
    is_car = camera == "car"
    hfov = rng.uniform(*_CAMERAS[camera].hfov_deg)
    mount = float(rng.choice((0.0, 90.0, -90.0, 180.0), p=(0.7, 0.1, 0.1, 0.1))) if is_car else 0.0
    has_heading, has_hfov = bool(rng.uniform() > 0.08), bool(rng.uniform() > 0.08)
    light = str(rng.choice(("clear", "overcast", "low sun"), p=(0.5, 0.35, 0.15)))
    spacing = 11.0 if is_car else 8.0
    aside = 1.8 if is_car else rng.choice((-1.0, 1.0)) * 4.0  # driving on the right; a sidewalk
    shots = []
    seconds = 0.0
    for u, v, forward_u, forward_v, area in _stops(network, walk, spacing=spacing, aside=aside):
        x, y, heading = _pose(warp, u, v, forward_u, forward_v)
        turn = mount + (rng.uniform(-6, 6) if is_car else rng.uniform(-45, 45))
        seconds += spacing / (8.0 if is_car else 1.3)
        clock = timedelta(seconds=round(hour * 3600) + int(seconds))
        shots.append(
            Shot(
                x=x,
                y=y,
                heading_deg=(heading + turn) % 360.0,
                hfov_deg=hfov,
                camera=camera,
                height_m=_CAMERAS[camera].height_m,
                captured_at=(midnight + clock).isoformat(),
                season=_SEASON_OF_MONTH[month - 1],
                light=light,
                hour=hour,
                sequence_id=sequence_id,
                split=split,
                has_heading=has_heading,
                has_hfov=has_hfov,
                area=area,
                seed=int(rng.integers(2**31)),
            )
        )
    return shots


def _walk(
    network: _Network,
    allowed: set[int],
    visits: np.ndarray,
    *,
    length_m: float,
    rng: np.random.Generator,
) -> list[tuple[int, bool]]:
    """Return edges and whether each is walked from its start to its end; count the visits."""
    numbers = np.array(sorted(allowed))
    rarity = 1.0 / (1.0 + visits[numbers])
    freshness = rarity * rarity * rarity
    edge = int(rng.choice(numbers, p=freshness / freshness.sum()))
    onward = bool(rng.uniform() < 0.5)
    walk, walked = [], 0.0
    while walked < length_m:
        walk.append((edge, onward))
        visits[edge] += 1
        walked += network.edges[edge].end - network.edges[edge].start
        node = network.edges[edge].nodes[1 if onward else 0]
        ways = [way for way in network.edges_of_node[node] if way in allowed and way != edge]
        if not ways:
            break
        edge = min(ways, key=lambda way: visits[way] + rng.uniform())
        onward = network.edges[edge].nodes[0] == node
    return walk


def _stops(
    network: _Network, walk: list[tuple[int, bool]], *, spacing: float, aside: float
) -> list[tuple[float, float, float, float, str]]:
    """Return (u, v, forward_u, forward_v, area) every `spacing` metres, `aside` to the right."""
    stops = []
    rest = spacing / 2
    for number, onward in walk:
        edge = network.edges[number]
        length, sign = edge.end - edge.start, 1.0 if onward else -1.0
        begin = edge.start if onward else edge.end
        while rest < length:
            along = begin + sign * rest
            if edge.street.along_u:
                stops.append((along, edge.street.at - sign * aside, sign, 0.0, edge.area))
            else:
                stops.append((edge.street.at + sign * aside, along, 0.0, sign, edge.area))
            rest += spacing
        rest -= length
    return stops


def _pose(
    warp: Warp, u: float, v: float, forward_u: float, forward_v: float
) -> tuple[float, float, float]:
    """Return x, y and the heading (degrees clockwise from north) of a stop."""
    x, y = warp.xy(np.array([u, u + forward_u]), np.array([v, v + forward_v]))
    heading = math.degrees(math.atan2(x[1] - x[0], y[1] - y[0]))
    return float(x[0]), float(y[0]), heading % 360.0
