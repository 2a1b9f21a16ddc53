"""What can end a training command, and with which exit status.

HandfulError
├── InputError      the images, labels or settings cannot be used: exit status 2
└── TrainingError   something failed on the way: exit status 1
"""

from handful_bundle.errors import HandfulError


class InputError(HandfulError):
    """The images, labels or settings cannot be used. The message says what was found."""


class TrainingError(HandfulError):
    """The work could not be finished. The message names what is left intact."""
