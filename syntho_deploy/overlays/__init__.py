"""Overlays: JSON Patch (RFC 6902) over a chart's values and over its manifests."""
