"""How close an exported encoder stays to the trained one: embeddings, and what they find."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from geofix_export.recipe import ExportRecipe
from geofix_index import CellIndex
from geofix_index import cells as s2
from geofix_index.sphere import great_circle_m

RIGHT_WITHIN_M = 100.0

Floats = npt.NDArray[np.float32]


class ParityError(ValueError):
    """An exported encoder that does not equal the trained one."""


@dataclass(frozen=True)
class Parity:
    """What photos that training did not see say of an exported encoder."""

    num_photos: int
    min_cosine: float  # of embeddings with the trained encoder's
    p01_cosine: float  # 1st percentile
    mean_cosine: float
    recall_100m: float  # share of photos whose best cell lies within 100 m
    trained_recall_100m: float  # of the trained encoder
    same_cell: float  # share of photos whose best cell is that of the trained encoder

    @property
    def recall_loss(self) -> float:
        """What the export costs, as a share of the photos; negative where it gains."""
        return self.trained_recall_100m - self.recall_100m

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, as manifests carry it."""
        return {
            name: value if isinstance(value, int) else round(value, 6)
            for name, value in asdict(self).items()
        }

    def failures(self, recipe: ExportRecipe) -> list[str]:
        """Return a sentence for each number of the recipe's gate that is missed."""
        checks = (
            ("mean cosine", self.mean_cosine, recipe.min_mean_cosine),
            ("1st percentile of cosines", self.p01_cosine, recipe.min_p01_cosine),
            ("share of unchanged best cells", self.same_cell, recipe.min_same_cell),
        )
        missed = [
            f"{what} is {value:.4f}, want {least:g}" for what, value, least in checks
            if not value >= least
        ]  # fmt: skip
        if not self.recall_loss <= recipe.max_recall_loss:
            missed.append(
                f"recall@1 at 100 m is {self.recall_100m:.4f}, the trained encoder's "
                f"{self.trained_recall_100m:.4f}, want at most {recipe.max_recall_loss:g} less"
            )
        return missed


def measure_parity(
    exported: Floats, trained: Floats, places: npt.NDArray[np.float64], index: CellIndex
) -> Parity:
    """Compare the embeddings of the same photos.

    Args:
        exported: (N, D) by the exported encoder, each of unit length.
        trained: (N, D) by the trained one.
        places: (N, 2), where the photos were taken.
        index: of the cells that they are found in.
    """
    cosine = (exported.astype(np.float64) * trained).sum(axis=1)
    found, wanted = (best_cells(index, embeddings) for embeddings in (exported, trained))
    return Parity(
        num_photos=len(places),
        min_cosine=float(cosine.min()),
        p01_cosine=float(np.quantile(cosine, 0.01)),
        mean_cosine=float(cosine.mean()),
        recall_100m=_recall(found, places),
        trained_recall_100m=_recall(wanted, places),
        same_cell=float((found == wanted).mean()),
    )


def best_cells(index: CellIndex, embeddings: Floats) -> npt.NDArray[np.uint64]:
    """Return the best cell of each embedding, (N,)."""
    return np.array([index.search(e, k=1).cells[0] for e in embeddings], np.uint64)


def _recall(cells: npt.NDArray[np.uint64], places: npt.NDArray[np.float64]) -> float:
    centres = s2.latlon_from_cell(cells)
    return float((great_circle_m(*places.T, *centres.T) <= RIGHT_WITHIN_M).mean())
