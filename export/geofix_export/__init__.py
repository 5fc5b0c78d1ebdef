"""Export encoders, quantize cell codes, and build region packs."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geofix_export.build import build_pack
    from geofix_export.encoder import export_encoder

__all__ = ["build_pack", "export_encoder"]


def __getattr__(name: str) -> Any:
    """Import on first use: the command answers where torch is absent, and without a wait."""
    if name == "build_pack":
        from geofix_export.build import build_pack

        return build_pack
    if name == "export_encoder":
        from geofix_export.encoder import export_encoder

        return export_encoder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
