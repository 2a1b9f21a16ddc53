"""The stages of `handful-train`, and how they follow one another."""
