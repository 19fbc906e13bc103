"""The job that all contenders run."""

#: Its arguments, everywhere.
ARGUMENTS = {"order": "SO-00001", "pieces": 2}


def noop(order: str, pieces: int) -> int:
    return pieces
