"""The report as a page: the verdict, the ladder, and what else is known, each beside its words."""

from collections.abc import Iterator

from handful_bundle.manifest import Manifest
from handful_training.ladder.catalogue import ENTRIES
from handful_training.pages.view import Bar, Bars, Page, Plot, Section, Strip, Table, Text, View
from handful_training.report import words
from handful_training.report.findings import Findings, Ladder, Pictures
from handful_training.report.verdict import percent, points, verdict

PER_STRIP = 8  # images in a row: two rows of them on a wide screen


def report_page(
    name: str, version: str | None, manifest: Manifest, findings: Findings, pictures: Pictures
) -> Page:
    """Return the page.

    Args:
        name: the model's.
        version: None where it was not registered yet.
        manifest: of the version's bundle.
        findings: the numbers.
        pictures: the images and plots.
    """
    data, ladder = findings.data, findings.ladder
    facts = [("model", f"{name}, version {version}" if version else name)]
    facts.append(("images", f"{data.images:,}"))
    if data.classes:
        facts.append(("labels", f"{sum(data.classes.values()):,}"))
        facts.append(("classes", f"{len(data.classes):,}"))
    if ladder is not None:
        facts.append(("measured on", f"{ladder.rungs[ladder.served].n:,} images, {ladder.on}"))
    if "neg_elbo_nats" in manifest.metrics:
        facts.append(("−ELBO", f"{manifest.metrics['neg_elbo_nats']:.1f} nats"))
    sections = [
        *_accuracy(findings),
        *_labels_wanted(name, findings, pictures),
        *_honesty(findings, pictures),
        *_looks(pictures),
        *_origin(manifest, findings),
        Text("How to read this page", words.READING),
    ]
    return Page(
        f"Is the VAE worth it? “{name}”", verdict(findings).sentence, tuple(facts), tuple(sections)
    )


def _accuracy(findings: Findings) -> Iterator[Section]:
    title = "Accuracy on the same labels"
    ladder = findings.ladder
    if ladder is None:
        yield Text(title, words.NO_LADDER if findings.data.classes else words.NO_LADDER_LABELS)
        return
    text = words.LADDER[ladder.on].format(
        n=ladder.rungs[ladder.served].n, labels=sum(findings.data.classes.values())
    )
    text += words.COMPARED
    if any(ENTRIES[key].transductive for key in ladder.rungs):
        text += words.TRANSDUCTIVE
    yield Bars(
        title,
        text,
        ("accuracy", "95 %", "served is better by", "log loss", "calibration error"),
        tuple(_bar(key, ladder) for key in ladder.rungs),
    )


def _bar(key: str, ladder: Ladder) -> Bar:
    scores, entry = ladder.rungs[key], ENTRIES[key]
    low, high = scores.accuracy_ci
    beside = "–"
    if key in ladder.against:
        paired = ladder.against[key]
        beside = (
            f"{points(paired.difference, unit=False)} "
            f"({points(paired.low, unit=False)} to {points(paired.high, unit=False)})"
        )
    note = entry.text + " Needs the images beforehand." * entry.transductive
    cells = (
        percent(scores.accuracy),
        f"{percent(low)} to {percent(high)}",
        beside,
        f"{scores.log_loss:.3f}",
        percent(scores.ece),
    )
    return Bar(entry.title, note, scores.accuracy, (low, high), cells, marked=key == ladder.served)


def _labels_wanted(name: str, findings: Findings, pictures: Pictures) -> Iterator[Section]:
    png = pictures.plot("learning_curve")
    if png is not None:
        sentence = str((findings.curve or {}).get("sentence", ""))
        yield Plot(
            "What more labels bring",
            "\n\n".join(filter(None, (sentence, words.CURVE))),
            png,
            sentence or "Accuracy against the number of labels, with intervals.",
        )
    if findings.suggested:
        text = words.SUGGESTED.format(name=name, count=len(findings.suggested))
        yield _gallery("suggested", "What to label next", text, findings, pictures)


def _gallery(key: str, title: str, text: str, findings: Findings, pictures: Pictures) -> View:
    shown, images = getattr(findings, key), pictures[key]
    strips = tuple(
        Strip(
            f"{start + 1} to {start + len(part)}",
            images[start : start + len(part)],
            alt=[f"{one.key}: {one.note}" for one in part],
        )
        for start in range(0, len(shown), PER_STRIP)
        if (part := shown[start : start + PER_STRIP])
    )
    return View(key, title, title, text, strips)


def _honesty(findings: Findings, pictures: Pictures) -> Iterator[Section]:
    ladder, sets, novelty = findings.ladder, findings.sets, findings.novelty
    if ladder is not None and (png := pictures.plot("reliability")) is not None:
        ece = percent(ladder.rungs[ladder.served].ece)
        yield Plot(
            "How far its confidence holds",
            words.RELIABILITY.format(ece=ece),
            png,
            f"Accuracy against confidence; calibration error {ece}.",
        )
    if sets is not None:
        text, png = _of_sets(findings), pictures.plot("prediction_sets")
        if png is None:
            yield Text("Sets of classes", text)
        else:
            yield Plot("Sets of classes", text, png, "How large the sets are, and how often right.")
    if novelty is not None and findings.novel:
        text = words.NOVELTY.format(
            threshold=novelty.threshold,
            rate=percent(novelty.false_alarm_rate),
            n=novelty.n,
            above=percent(novelty.above),
        )
        yield _gallery("novel", "What is unlike the rest", text, findings, pictures)
    elif findings.data.classes:
        yield Text("What is unlike the rest", words.NO_NOVELTY)
    if ladder is not None and (png := pictures.plot("confusion_matrix")) is not None:
        yield Plot(
            "Which classes are confused", words.CONFUSION, png,
            "Images by right class and by answer.",
        )  # fmt: skip


def _of_sets(findings: Findings) -> str:
    sets, ladder = findings.sets, findings.ladder
    assert sets is not None
    level = f"{100 * sets.level:.0f} %"
    if sets.threshold is None:
        needed = round(1 / (1 - sets.level)) - 1
        return words.SETS_NONE.format(level=level, needed=needed, count=sets.count)
    text = words.SETS.format(
        level=level,
        n=sets.n,
        coverage=percent(sets.coverage),
        low=percent(sets.coverage_ci[0]),
        high=percent(sets.coverage_ci[1]),
        size=sets.mean_size,
        count=sets.count,
    )
    return text + words.SETS_SAME * (ladder is not None and ladder.on == "out of fold")


LOOKS = (
    ("embedding_map", "Map of the embeddings", words.MAP,
     "Every dot is an image; near dots are images that the encoder takes for alike."),
    ("reconstructions", "What the code keeps", words.RECONSTRUCTIONS,
     "Images above what the decoder makes of them."),
    ("samples", "Samples", words.SAMPLES, "A square of images decoded from random codes."),
    ("views", "What the encoder was taught to ignore", words.VIEWS,
     "Images beside transformed views of themselves."),
    ("learning_curves", "The training", words.TRAINING,
     "−ELBO, distortion, rate and invariance loss by epoch."),
)  # fmt: skip


def _looks(pictures: Pictures) -> Iterator[Section]:
    for stem, title, text, alt in LOOKS:
        if (png := pictures.plot(stem)) is not None:
            yield Plot(title, text, png, alt)


def _origin(manifest: Manifest, findings: Findings) -> Iterator[Section]:
    data = findings.data
    rows = [
        ("images", f"{data.images:,}"),
        ("from", data.source),
        ("brought to", " × ".join(map(str, data.shape))),
        ("unreadable, left out", f"{data.rejected:,}"),
        ("same pixels as another", f"{data.duplicates:,}"),
        *((f"labels of “{label}”", f"{count:,}") for label, count in data.classes.items()),
    ]
    if data.unused:
        rows.append(("labels left over, to measure on", f"{data.unused:,}"))
    yield Table("The data", words.DATA, ("", ""), tuple(rows))
    origin = manifest.provenance
    made = {
        "made": manifest.created.strftime("%Y-%m-%d %H:%M UTC"),
        "run": origin.run_id,
        "code": origin.git,
        "images": origin.data,
        "seed": origin.seed,
        "space": manifest.space,
        "labels": manifest.head.labels_digest if manifest.head else None,
        "head": manifest.head.kind if manifest.head else None,
        "versions": ", ".join(f"{k} {v}" for k, v in sorted(origin.versions.items())),
    }
    yield Table(
        "Provenance",
        words.PROVENANCE,
        ("", ""),
        tuple((key, f"{value}") for key, value in made.items() if value not in (None, "")),
    )
