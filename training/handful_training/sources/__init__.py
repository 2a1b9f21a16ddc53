"""Where images come from: folders, tables of paths, idx files; and what size to bring them to."""
