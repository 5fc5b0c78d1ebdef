"""Splits of a photo table: made by group, so that no drive stands in two of them, and missed."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from geofix_train.photo_table import SPLITS, PhotoTable, TableError

DAY = "day"  # a group of its own: the date of captured_at


def split_by_group(
    table: PhotoTable, shares: Mapping[str, float], *, by: str = "sequence_id", seed: int = 0
) -> PhotoTable:
    """Return the table with splits, each group of photos whole in one of them.

    The shares are met as far as whole groups allow; each wanted split has at least one group.

    Args:
        table: the photos.
        shares: of photos by split, above 0, together 1.
        by: the column whose values are the groups, or "day".
        seed: another seed is another split.

    Raises:
        ValueError: the shares are no shares.
        TableError: a photo has no group, each has its own, or there are fewer groups than splits.
    """
    _check_shares(shares)
    groups = _groups(table, by)
    names, own, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(names) == len(table):
        raise TableError(f"each photo has a {by} of its own: that would split photo by photo")
    if len(names) < len(shares):
        raise TableError(
            f"{len(names)} groups by {by} cannot fill {len(shares)} splits: split by another column"
        )
    split = _assign(sizes, shares, np.random.default_rng(seed))[own.ravel()]
    return replace(table, columns={**table.columns, "split": split})


def missing_splits(table: PhotoTable) -> list[str]:
    """Return a sentence for each split that no photo has, and what cannot be done without it."""
    missing = {
        "train": "fit has nothing to learn from",
        "val": "kappa is not chosen but 1, and the confidence of a pack is not calibrated",
        "test": "evaluate has nothing to measure with",
    }
    if table.is_train.any():  # a table without splits is all for training
        del missing["train"]
    return [
        f"no photo has split {split!r}: {meaning}"
        for split, meaning in missing.items()
        if not (table.split == split).any()
    ]


def _check_shares(shares: Mapping[str, float]) -> None:
    for name, share in shares.items():
        if name not in SPLITS:
            raise ValueError(f"split is {name!r}, want {', '.join(SPLITS)}")
        if not share > 0:
            raise ValueError(f"the share of {name} is {share}, want more than 0")
    if abs(sum(shares.values()) - 1) > 1e-6:
        raise ValueError(f"the shares sum to {sum(shares.values()):g}, want 1")


def _groups(table: PhotoTable, by: str) -> npt.NDArray[np.str_]:
    if by != DAY and by not in table.columns:
        raise TableError(f"no column {by!r} to split by; there are {', '.join(table.columns)}")
    source = "captured_at" if by == DAY else by
    groups = np.asarray(table.columns[source]).astype(str)
    if by == DAY:
        groups = groups.astype("U10")  # the date in ISO 8601
    unknown = np.flatnonzero((groups == "") | (groups == "nan"))
    if len(unknown):
        raise TableError(
            f"{len(unknown)} photos have no {source}, the first is row {unknown[0] + 1} "
            f"({table.columns['path'][unknown[0]]}): split by another column"
        )
    return groups


def _assign(
    sizes: npt.NDArray[np.intp], shares: Mapping[str, float], rng: np.random.Generator
) -> npt.NDArray[np.str_]:
    """Return the split of each group: large groups first, each to where most photos are missing."""
    splits = list(shares)
    missing = np.array([shares[name] for name in splits]) * sizes.sum()
    is_empty = np.ones(len(splits), bool)
    chosen = np.zeros(len(sizes), np.intp)
    shuffled = rng.permutation(len(sizes))
    order = shuffled[np.argsort(-sizes[shuffled], kind="stable")]
    for place, group in enumerate(order):
        # The last groups go to splits that would otherwise stay empty.
        must_fill = is_empty.sum() >= len(order) - place
        at = int(np.where(is_empty | (not must_fill), missing, -np.inf).argmax())
        chosen[group] = at
        missing[at] -= sizes[group]
        is_empty[at] = False
    return np.array(splits)[chosen]
