"""Export encoders, quantize cell codes, and build region packs."""

from geofix_export.build import build_pack
from geofix_export.encoder import export_encoder

__all__ = ["build_pack", "export_encoder"]
