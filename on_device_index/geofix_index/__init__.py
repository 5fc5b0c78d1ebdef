"""Compressed cell codes in S2 order: product quantization, shards, search under a region.

Cells are S2 ids (uint64, never 0), embeddings float32, scores inner products: higher is better.
"""

from geofix_index.errors import ShardFormatError
from geofix_index.index import CellIndex
from geofix_index.kernel import instructions, kernel_version
from geofix_index.matches import Matches
from geofix_index.quantizer import ProductQuantizer
from geofix_index.region import Box, CellUnion, Disk, Region
from geofix_index.shard import Shard, ShardFiles, build_shard
from geofix_index.tuning import tune

__all__ = [
    "Box",
    "CellIndex",
    "CellUnion",
    "Disk",
    "Matches",
    "ProductQuantizer",
    "Region",
    "Shard",
    "ShardFiles",
    "ShardFormatError",
    "build_shard",
    "instructions",
    "kernel_version",
    "tune",
]
