"""What people answered in Label Studio: its exports as JSON, JSON-MIN and CSV. Knows no images.

A task is labelled if its annotations agree on one choice about the whole image. Skipped
annotations do not count, drafts and predictions never; where some are ground truth, only those
count. Nothing is guessed: tasks with several choices, and those on which annotators disagree,
stay unlabelled and are counted.
"""

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from handful_training.errors import InputError
from handful_training.labels.places import read_place
from handful_training.sources.folder import SUFFIXES
from handful_training.sources.table import read_table

COLUMNS = ("image", "choice")  # of the CSV export, under the names of the usual set-up

EMPTY, SKIPPED = "without a label", "skipped"
SEVERAL, DISAGREE = "with several choices", "on which annotators disagree"

_ABOUT = {
    *("id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement"),
    *("annotations", "completions", "predictions", "drafts", "was_cancelled"),
}
_REGION = {"x", "y", "points", "vertices", "rle", "start", "sequence"}  # of a part of the image


class Answer(NamedTuple):
    """What is known of one task, or of one annotation of it."""

    label: str | None
    why: str = ""  # there is no label


class Export(NamedTuple):
    """The labels of an export, by the URL or path of the image, and what has none."""

    label_of: dict[str, str]
    left_out: Counter[str]  # reason -> images


def read_json(path: Path) -> Export:
    """Read a JSON or a JSON-MIN export.

    Raises:
        InputError: it is neither, it answers several questions, or its tasks name no image.
    """
    try:
        tasks = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON ({error}); export it again") from error
    tasks = [tasks] if isinstance(tasks, dict) and "data" in tasks else tasks
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise InputError(
            f"{path} is no export of Label Studio, which is a list of tasks; choose JSON, JSON-MIN "
            "or CSV when exporting"
        )
    if any("data" in task for task in tasks):
        return _settled(_from_tasks(tasks, path))
    return _settled(_from_records(tasks, path))


def is_csv(path: Path) -> bool:
    """Say whether a CSV file is an export rather than a table of paths and labels."""
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            header = {cell.strip() for cell in next(csv.reader(file), [])}
    except (OSError, csv.Error):
        return False  # whoever reads it as a table says what is wrong
    return header.issuperset(COLUMNS) and "path" not in header


def read_csv(path: Path) -> Export:
    """Read a CSV export with the columns `image` and `choice`.

    Raises:
        InputError: not such a table.
    """
    rows = read_table(path, COLUMNS)
    return _settled((image, _chosen(_cell(choice))) for _, (image, choice) in rows if image)


def _from_tasks(tasks: Iterable[Mapping[str, Any]], path: Path) -> Iterator[tuple[str, Answer]]:
    questions: set[str] = set()
    for number, task in enumerate(tasks, 1):
        data = task.get("data")
        url = _image(data if isinstance(data, dict) else {}, f"{path}, task {number}")
        given = [one for one in _list(task, "annotations", "completions") if isinstance(one, dict)]
        usable = [one for one in given if not (one.get("was_cancelled") or one.get("skipped"))]
        if not usable:
            yield url, Answer(None, SKIPPED if given else EMPTY)
            continue
        answers = [_annotated(one, questions) for one in usable]
        truths = [
            answer
            for one, answer in zip(usable, answers, strict=True)
            if one.get("ground_truth") and answer.why != EMPTY
        ]
        yield url, _agreed(truths or answers)
    if len(questions) > 1:
        raise InputError(
            f"{path} answers {len(questions)} questions ({', '.join(sorted(questions))}); "
            "keep the results of one of them"
        )


def _annotated(annotation: Mapping[str, Any], questions: set[str]) -> Answer:
    """Return what one annotator chose for the whole image."""
    chosen: list[Any] = []
    for result in _list(annotation, "result"):
        value = result.get("value") if isinstance(result, dict) else None
        if not isinstance(value, dict) or "choices" not in value or not _REGION.isdisjoint(value):
            continue
        questions.add(str(result.get("from_name")))
        choices = value["choices"]
        chosen += choices if isinstance(choices, list) else [choices]
    return _chosen(chosen)


def _from_records(records: Iterable[Mapping[str, Any]], path: Path) -> Iterator[tuple[str, Answer]]:
    """Read JSON-MIN: a record for each annotation, the answer under the name of the question."""
    found: list[tuple[str, dict[str, Any]]] = []
    for number, record in enumerate(records, 1):
        data = {key: value for key, value in record.items() if key not in _ABOUT}
        url = _image(data, f"{path}, record {number}")
        found.append((url, {key: value for key, value in data.items() if value != url}))
    questions = sorted({key for _, others in found for key in others})
    if "choice" in questions:
        questions = ["choice"]
    if len(questions) > 1:
        raise InputError(
            f"{path}: which of {', '.join(questions)} is the label? Export as JSON instead"
        )
    for url, others in found:
        yield url, _chosen(next((others[key] for key in questions if key in others), []))


def _chosen(choice: Any) -> Answer:
    """Return the answer that a choice is, in any of the spellings of the exports."""
    if isinstance(choice, dict):
        choice = choice.get("choices", [])
    if isinstance(choice, str):
        choice = [choice] if choice.strip() else []
    if not choice:
        return Answer(None, EMPTY)
    if len(choice) > 1 or not isinstance(choice[0], str):
        return Answer(None, SEVERAL)
    return Answer(choice[0].strip())


def _cell(text: str) -> Any:
    """Return the choice in a cell of a CSV export: a word, or JSON where there are several."""
    if text.startswith(("{", "[")):
        try:
            return json.loads(text)
        except ValueError:
            pass  # a label may begin like that
    return text


def _agreed(answers: Iterable[Answer]) -> Answer:
    """Return what several annotators say together; who said nothing does not matter."""
    answers = list(answers)
    for why in (DISAGREE, SEVERAL):
        if any(answer.why == why for answer in answers):
            return Answer(None, why)
    labels = {answer.label for answer in answers if answer.label is not None}
    if len(labels) > 1:
        return Answer(None, DISAGREE)
    return Answer(labels.pop()) if labels else answers[0]


def _settled(answers: Iterable[tuple[str, Answer]]) -> Export:
    """Bring together what is said of the same image, by several tasks or records."""
    by_image: dict[str, list[Answer]] = {}
    for url, answer in answers:
        by_image.setdefault(url, []).append(answer)
    export = Export({}, Counter())
    for url, said in by_image.items():
        label, why = _agreed(said)
        if label is None:
            export.left_out[why] += 1
        else:
            export.label_of[url] = label
    return export


def _image(data: Mapping[str, Any], place: str) -> str:
    """Return the URL or path of the image among the data of a task."""
    usual = data.get("image")
    if isinstance(usual, str) and usual:
        return usual
    found = [value for value in data.values() if isinstance(value, str) and _is_image(value)]
    if len(found) != 1:
        names = ", ".join(data) or "nothing"
        raise InputError(f"{place}: its data ({names}) name {len(found)} images, not one")
    return found[0]


def _is_image(text: str) -> bool:
    return PurePosixPath(read_place(text).path).suffix.lower() in SUFFIXES


def _list(block: Mapping[str, Any], *names: str) -> list[Any]:
    found = next((block[name] for name in names if name in block), None)
    return found if isinstance(found, list) else []
