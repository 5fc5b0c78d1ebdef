import numpy as np

from benchmarks.real_head import NUM_FOLDS, deal_folds, nearest_other_fold_m
from geofix_train.photo_table import PhotoTable


def panoramas(num: int, num_faces: int = 4) -> PhotoTable:
    """Return faces of panoramas that stand about 11 m apart on one drive, in no order."""
    order = np.random.default_rng(0).permutation(num * num_faces)
    picture = order // num_faces
    return PhotoTable.from_columns(
        {
            "path": [f"{row}.jpg" for row in order],
            "lat": (47 + 0.0001 * picture).tolist(),
            "lon": [8.5] * len(order),
            "picture_id": [f"picture {number * 7919 % num}" for number in picture],
            "sequence_id": ["drive"] * len(order),
            "captured_at": [f"2026-01-01T00:00:{number:02d}Z" for number in picture],
        }
    )


def test_faces_of_a_panorama_share_a_fold_and_neighbours_do_not() -> None:
    table = panoramas(40)
    fold = deal_folds(table)
    assert np.bincount(fold).tolist() == [20] * NUM_FOLDS
    for name in np.unique(table.columns["picture_id"]):
        assert len(set(fold[table.columns["picture_id"] == name])) == 1
    by_place = fold[np.argsort(table.lat, kind="stable")][::4]
    assert (by_place[1:] != by_place[:-1]).all()
    nearest = nearest_other_fold_m(table, fold)
    np.testing.assert_allclose(nearest, 11.1, atol=0.1)
