"""The parts of the command `handful`: finding files, writing tables, telling progress."""
