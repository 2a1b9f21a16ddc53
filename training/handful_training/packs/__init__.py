"""Pixels read once and kept on disk, mapped into memory by everything that follows."""
