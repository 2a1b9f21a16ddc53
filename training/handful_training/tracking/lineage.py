"""What a version says of its descent: which data, which labels, which encoder, which run.

Written as tags, for programs and for MLflow's search, and as the description of the version's
page, for people. Runs bear the same words, so the way leads from either to the other.
"""

import hashlib
from pathlib import Path

from handful_bundle.manifest import Manifest

MANIFEST_TAG = "handful.manifest"
SPACE_TAG = "handful.space"
HEAD_TAG = "handful.head"
ENCODER_RUN_TAG = "handful.encoder_run_id"
SHOWN_METRICS = ("accuracy", "out_of_fold_accuracy", "out_of_fold_log_loss", "neg_elbo_nats")


def manifest_digest(bundle_dir: Path) -> str:
    """Return the digest of the manifest, and with it of all that it names."""
    data = (bundle_dir / "manifest.json").read_bytes()
    return "sha256:" + hashlib.sha256(data).hexdigest()


def version_tags(manifest: Manifest, digest: str, run_id: str, encoder_run: str) -> dict[str, str]:
    """Return the tags of a version that run `run_id` registers.

    Args:
        manifest: of its bundle.
        digest: see `manifest_digest`.
        run_id: the command's run.
        encoder_run: the run that registered this encoder first; it may be the same.
    """
    tags = {
        MANIFEST_TAG: digest,
        SPACE_TAG: manifest.space,
        "handful.run_id": run_id,
        ENCODER_RUN_TAG: encoder_run,
    }
    if manifest.provenance.data is not None:
        tags["handful.data"] = manifest.provenance.data
    if manifest.head is not None:
        tags[HEAD_TAG] = manifest.head.digest
        tags["handful.label_count"] = str(manifest.head.label_count)
        if manifest.head.labels_digest is not None:
            tags["handful.labels"] = manifest.head.labels_digest
    return tags


def describe(manifest: Manifest, run_id: str, encoder_run: str) -> str:
    """Return the description of a version, in Markdown."""
    source, head = manifest.provenance, manifest.head
    lines = [
        f"- **run** `{run_id}`",
        f"- **encoder** {manifest.embedding_dim} numbers, space `{_short(manifest.space)}`, "
        + ("of this run" if encoder_run == run_id else f"of run `{encoder_run}`"),
        f"- **images** `{_short(source.data)}`, {' × '.join(map(str, manifest.image.shape))}",
    ]
    if head is not None and manifest.labels is not None:
        lines.append(
            f"- **head** {head.kind}, {head.label_count} labels `{_short(head.labels_digest)}` of "
            f"{len(manifest.labels)} classes"
        )
    measured = [
        f"{name} {manifest.metrics[name]:.4g}" for name in SHOWN_METRICS if name in manifest.metrics
    ]
    if measured:
        lines.append(f"- **measured** {', '.join(measured)}")
    if source.git is not None:
        lines.append(f"- **code** `{source.git}`")
    return "\n".join(lines)


def _short(digest: str | None) -> str:
    return "unknown" if digest is None else digest[:19]
