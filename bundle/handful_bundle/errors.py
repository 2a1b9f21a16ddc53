"""Everything that can be wrong with a bundle, an image or a device.

HandfulError
├── BundleError
│   ├── BundleMissing        no manifest: not a bundle
│   ├── BundleIncompatible   written for another format, or for other pixels code
│   └── BundleCorrupt        a file is not the one that the manifest describes, or not to be trusted
├── DeviceUnavailable        the provider that was asked for does not run here
├── DeviceOutOfMemory        the device has no room for the model, or for as few rows at once
├── DeviceFailed             the device runs nothing in this process any more
└── ImageError               one image cannot be used; `code` names the cause
    ├── ImageEmpty           no bytes
    ├── ImageUnsupported     not JPEG, PNG or WebP
    ├── ImageMismatched      declared as one format, is another
    ├── ImageTooLarge        more pixels than allowed, told from the header
    ├── ImageAnimated        more than one frame
    └── ImageUnreadable      truncated, corrupt or of impossible size
"""

from typing import ClassVar


class HandfulError(Exception):
    """Root of all errors that Handful raises on purpose. The message names the remedy."""


class BundleError(HandfulError):
    """A bundle cannot be used. The message names the file and the remedy."""


class BundleMissing(BundleError):
    """The folder has no manifest, so it is not a bundle."""


class BundleIncompatible(BundleError):
    """The bundle was written for another format or pixels version."""


class BundleCorrupt(BundleError):
    """A file is absent, unexpected, altered, or holds what a bundle may not hold."""


class DeviceUnavailable(HandfulError):
    """The execution provider that was asked for is not the one that would run."""


class DeviceOutOfMemory(HandfulError):
    """The device's memory does not hold the model, or so few rows at once. It may later."""


class DeviceFailed(HandfulError):
    """The device runs nothing in this process any more; another process may use it."""


class ImageError(HandfulError):
    """One image cannot be used. The message tells the sender what to change."""

    code: ClassVar[str] = "image_error"


class ImageEmpty(ImageError):
    """There are no bytes."""

    code = "image_empty"


class ImageUnsupported(ImageError):
    """The bytes are not a JPEG, PNG or WebP file."""

    code = "image_unsupported"


class ImageMismatched(ImageError):
    """The declared media type is not the one that the bytes begin with."""

    code = "image_mismatched"


class ImageTooLarge(ImageError):
    """The header announces more pixels than are allowed; nothing was decoded."""

    code = "image_too_large"


class ImageAnimated(ImageError):
    """The file holds more than one frame."""

    code = "image_animated"


class ImageUnreadable(ImageError):
    """The file is truncated, corrupt or of an impossible size."""

    code = "image_unreadable"
