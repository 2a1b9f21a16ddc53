"""Where each class lies in latent space: for sampling by label and for prototypes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from handful_bundle.arrays import pack_arrays, unpack_arrays
from handful_bundle.errors import BundleCorrupt

FILE = "classes.npz"


@dataclass(frozen=True, eq=False)
class Classes:
    """Statistics of the posterior means of each class, in the order of the manifest's labels."""

    count: NDArray[np.int64]  # [K]
    mean: NDArray[np.float32]  # [K, D]
    variance: NDArray[np.float32]  # [K, D], >= 0

    def pack(self) -> bytes:
        """Return the content of `classes.npz`."""
        return pack_arrays(vars(self))

    @classmethod
    def unpack(cls, data: bytes, class_count: int, latent_dim: int) -> "Classes":
        """Read `classes.npz`.

        Raises:
            BundleCorrupt: other arrays, shapes or types than these.
        """
        arrays = unpack_arrays(data, FILE)
        shapes = {
            "count": (np.int64, (class_count,)),
            "mean": (np.float32, (class_count, latent_dim)),
            "variance": (np.float32, (class_count, latent_dim)),
        }
        if arrays.keys() != shapes.keys() or any(
            arrays[name].dtype != kind or arrays[name].shape != shape
            for name, (kind, shape) in shapes.items()
        ):
            raise BundleCorrupt(
                f"{FILE}: not count, mean and variance per class; fit the head again"
            )
        if not all(np.isfinite(array).all() for array in arrays.values()):
            raise BundleCorrupt(f"{FILE}: not finite; fit the head again")
        if arrays["count"].min() < 0 or arrays["variance"].min() < 0:
            raise BundleCorrupt(f"{FILE}: counts or variances below 0; fit the head again")
        return cls(**arrays)
