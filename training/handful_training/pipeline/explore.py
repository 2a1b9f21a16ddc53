"""The command that shows what a version's decoder has learnt."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handful_bundle import golden
from handful_bundle.arrays import unpack_arrays
from handful_bundle.bundle import Bundle
from handful_bundle.errors import ImageError
from handful_bundle.pixels import decode
from handful_bundle.session import Device
from handful_training.errors import InputError
from handful_training.explore.page import explore_page
from handful_training.explore.pool import Pool, choose_rows, encode_pool
from handful_training.explore.views import End
from handful_training.labels.choice import LabelChoice
from handful_training.labels.labels import Labels
from handful_training.likelihood import ACTIVE_NATS
from handful_training.pages.write import check_folder, write_page
from handful_training.pipeline.fetch import fetch
from handful_training.pipeline.finish import run_folder
from handful_training.pipeline.inputs import read_inputs
from handful_training.pipeline.work import work_folder
from handful_training.sources.sendable import as_sendable
from handful_training.tracking import Tracker, origin


@dataclass(frozen=True)
class Ends:
    """Images to interpolate between: keys of IMAGES, and files."""

    keys: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()

    def __len__(self) -> int:
        return len(self.keys) + len(self.files)


def explore(
    reference: str,
    images: str | None,
    choice: LabelChoice | None,
    ends: Ends,
    *,
    output: Path | None,
    seed: int,
    device: Device,
) -> dict[str, Any]:
    """Write what the decoder of `reference` shows, as PNG files and one HTML page.

    Args:
        reference: of a version.
        images: what IMAGES names; None: the bundle's own golden images.
        choice: which labels.
        ends: two or three images to interpolate between, or none.
        output: folder; None: one in the work folder.
        seed: of everything that is drawn.
        device: where the model runs.

    Raises:
        InputError: the version has no decoder, or an input cannot be used.
    """
    if len(ends) not in (0, 2, 3):
        raise InputError(f"{len(ends)} images to interpolate between; give two or three")
    if images is None and (choice is not None or ends.keys):
        raise InputError("--labels and --between speak of IMAGES; give these after NAME")
    check_folder(output)
    work = work_folder()
    tracker = Tracker.open(work=work)
    version, bundle = fetch(tracker, reference, work, device)
    pool = _golden(bundle) if images is None else _read(bundle, images, choice, ends, work, seed)
    chosen = [_of_pool(pool, key) for key in ends.keys]
    names = [path.name for path in ends.files]
    chosen += [
        _of_file(bundle, path, "/".join(path.parts[-1 - (names.count(path.name) > 1) :]))
        for path in ends.files
    ]
    facts = (
        ("model", f"{version.name}, version {version.version}"),
        ("images looked at", f"{len(pool):,}{' golden ones' * (images is None)}"),
        ("image", " × ".join(map(str, bundle.manifest.image.shape))),
        ("latent dimensions", f"{bundle.manifest.latent_dim}"),
        ("seed", f"{seed}"),
    )
    page = explore_page(version.name, bundle, pool, chosen, facts=facts, seed=seed)
    with tracker.run(version.name, title="explore", tags=origin()) as run:
        run.params({"version": version.version, "seed": seed})
        active = int((pool.kl > ACTIVE_NATS).sum())
        run.metrics({"active_dimensions": active, "rate": float(pool.kl.sum())})
        folder = output or run_folder(work, version.name, run)
        written = write_page(page, folder)
        for path in written:  # not the folder: it may hold what is not ours
            run.artifacts(path, folder="explore")
    return {
        "name": version.name,
        "version": version.version,
        "images": len(pool),
        "active_dimensions": active,
        "rate_nats": float(pool.kl.sum()),
        "folder": str(folder),
        "page": str(written[0]),
    }


def _golden(bundle: Bundle) -> Pool:
    """Return the pool that every bundle brings along."""
    stored = unpack_arrays((bundle.root / golden.FILE).read_bytes(), golden.FILE)
    images = stored["images"]
    return encode_pool(bundle, images, tuple(f"golden image {i}" for i in range(len(images))))


def _read(
    bundle: Bundle,
    images: str,
    choice: LabelChoice | None,
    ends: Ends,
    work: Path,
    seed: int,
) -> Pool:
    inputs = read_inputs(
        images, work, choice=choice, spec=bundle.manifest.image, minimum=1, min_classes=1
    )
    pack = inputs.pack
    known = np.full(len(pack), -1)
    if inputs.labels is not None:
        known[inputs.labels.index] = _by_name(bundle, inputs.labels)
    place = {key: row for row, key in enumerate(pack.keys)} if ends.keys else {}
    if unknown := [key for key in ends.keys if key not in place]:
        raise InputError(
            f"--between {unknown[0]}: no readable image of {images} is called so; they are called "
            f"like {', '.join(pack.keys[:3])}"
        )
    wanted = [place[key] for key in ends.keys]
    rows = choose_rows(len(pack), np.flatnonzero(known >= 0), wanted, seed)
    return encode_pool(
        bundle,
        np.array(pack.images[rows]),
        tuple(pack.keys[row] for row in rows.tolist()),
        known[rows] if inputs.labels is not None else None,
    )


def _by_name(bundle: Bundle, labels: Labels) -> NDArray[np.int64]:
    """Return the head's number of each label."""
    known = bundle.manifest.labels
    if known is None:
        raise InputError("this version has no head, hence no classes; leave --labels out")
    if unknown := sorted(set(labels.names) - set(known)):
        raise InputError(
            f"the labels name {', '.join(unknown[:5])}, which the head does not know; "
            f"it knows {', '.join(known[:20])}"
        )
    return np.array([known.index(name) for name in labels.names])[labels.target]


def _of_pool(pool: Pool, key: str) -> End:
    row = pool.keys.index(key)
    return End(key, pool.images[row], pool.mean[row])


def _of_file(bundle: Bundle, path: Path, name: str) -> End:
    try:
        image = decode(as_sendable(path.read_bytes()), bundle.manifest.image)
    except OSError as error:
        raise InputError(f"--image {path}: {error.strerror or error}") from error
    except ImageError as error:
        raise InputError(f"--image {path}: {error}") from error
    return End(name, image, bundle.encoder(image[None]).mean[0])
