"""Labels from exports of Label Studio."""

import json
from pathlib import Path
from typing import Any

import pytest

from handful_training.errors import InputError
from handful_training.labels.label_studio import read_csv, read_json
from handful_training.labels.labels import Labels, read_labels
from handful_training.labels.places import match, read_place
from handful_training.sources.source import open_source

CANCELLED = {"was_cancelled": True}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Return a folder of images, two of which have the same name."""
    for name in ("cat/a.jpg", "cat/b.jpg", "dog/c.jpg", "dog/a.jpg", "e f(1).jpg", "deep/er/g.tif"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path / "images"


def chose(*choices: str, question: str = "choice", **more: Any) -> dict[str, Any]:
    """Return an annotation as exported: one result of a <Choices>."""
    result = {
        "value": {"choices": list(choices)},
        "id": "abc",
        "from_name": question,
        "to_name": "image",
        "type": "choices",
        "origin": "manual",
    }
    return {"id": 1, "result": [result] if choices else [], "was_cancelled": False} | more


def task(image: str, *annotations: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "id": 1,
        "annotations": list(annotations),
        "data": {"image": image},
        "predictions": [],
        "drafts": [],
    } | more


def export(folder: Path, tasks: object, name: str = "export.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(tasks), encoding="utf-8")
    return path


def read(images: Path, tasks: object) -> tuple[dict[str, str], Labels]:
    path = export(images.parent, tasks)
    _, labels = read_labels(str(path), open_source(images), images, min_classes=1)
    names = [labels.names[k] for k in labels.target.tolist()]
    return dict(zip(labels.keys, names, strict=True)), labels


def test_an_export_labels_by_path(images: Path):
    """Whatever the question is called, its choice about an image becomes the label."""
    found, labels = read(
        images,
        [
            task("cat/a.jpg", chose("cat", question="what")),
            task("/data/local-files/?d=images/dog/c.jpg", chose("dog", question="what")),
            task("s3://bucket/some/deep/er/g.tif", chose("café", question="what")),
        ],
    )
    assert found == {"cat/a.jpg": "cat", "dog/c.jpg": "dog", "deep/er/g.tif": "café"}
    assert labels.notes == ()


@pytest.mark.parametrize(
    ("annotations", "label"),
    [
        ([chose("cat")], "cat"),
        ([chose("cat"), chose("cat")], "cat"),
        ([chose("cat"), chose("dog")], None),  # they disagree
        ([chose("cat"), chose("dog", ground_truth=True)], "dog"),
        ([chose("cat", ground_truth=True), chose("dog", ground_truth=True)], None),
        ([chose("cat"), chose(ground_truth=True)], "cat"),  # a truth that says nothing
        ([chose("cat", **CANCELLED), chose("dog")], "dog"),
        ([chose("cat", **CANCELLED)], None),
        ([chose("cat", skipped=True)], None),
        ([chose("cat"), chose()], "cat"),
        ([chose()], None),
        ([chose("cat", "dog")], None),
        ([chose("cat"), chose("cat", "dog")], None),
        ([], None),
    ],
)
@pytest.mark.parametrize("key", ["annotations", "completions"])
def test_what_annotators_say_together(
    tmp_path: Path, annotations: list[dict[str, Any]], label: str | None, key: str
):
    """One choice that all agree on is the label; anything else is no label, never a guess."""
    found = read_json(export(tmp_path, [{"id": 1, "data": {"image": "x"}, key: annotations}]))
    assert found.label_of == ({"x": label} if label else {})
    assert found.left_out.total() == (0 if label else 1)


def test_predictions_and_drafts_are_no_labels(tmp_path: Path):
    """Only what a person submitted counts."""
    tasks = [task("x", predictions=[chose("cat")], drafts=[chose("dog")])]
    assert read_json(export(tmp_path, tasks)).label_of == {}


def test_choices_about_a_part_of_the_image_are_no_labels(tmp_path: Path):
    """A choice that belongs to a box says nothing of the image as a whole."""
    boxed = chose("wheel")
    boxed["result"][0]["value"] |= {"x": 1, "y": 2, "width": 3, "height": 4}
    both = chose("car")
    both["result"] = boxed["result"] + both["result"]
    found = read_json(export(tmp_path, [task("x", boxed), task("y", both)]))
    assert found.label_of == {"y": "car"}


def test_what_stays_unlabelled_is_counted(images: Path):
    """The notes tell how many images have no label, and why."""
    found, labels = read(
        images,
        [
            task("cat/a.jpg", chose("cat")),
            task("cat/b.jpg", chose("cat"), chose("dog")),
            task("dog/c.jpg", chose("cat", "dog")),
            task("dog/a.jpg", chose("dog", **CANCELLED)),
            task("deep/er/g.tif"),
            task("gone.jpg", chose("cat")),
        ],
    )
    assert found == {"cat/a.jpg": "cat"}
    first, second = labels.notes
    for part in (
        "1 on which annotators disagree", "1 with several choices", "1 skipped", "1 without a label"
    ):  # fmt: skip
        assert part in first
    assert second.startswith("1 of 2 labels")
    assert second.endswith("gone.jpg")


def test_tasks_that_were_imported_twice_must_agree(images: Path):
    """Two tasks about one image are two opinions, also under different URLs."""
    found, labels = read(
        images,
        [
            task("cat/a.jpg", chose("cat")),
            task("cat/a.jpg", chose("cat")),
            task("cat/b.jpg", chose("cat")),
            task("s3://bucket/cat/b.jpg", chose("dog")),
        ],
    )
    assert found == {"cat/a.jpg": "cat"}
    assert "1 images have two labels" in labels.notes[-1]
    assert "cat/b.jpg" in labels.notes[-1]


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("a/b.jpg", "a/b.jpg"),
        ("./a/b.jpg", "a/b.jpg"),
        ("a\\b.jpg", "a/b.jpg"),
        ("/data/local-files/?d=a%20b/c%2Bd.jpg", "a b/c+d.jpg"),
        ("/data/upload/3/1f2e3d4c-b.jpg", "data/upload/3/1f2e3d4c-b.jpg"),
        ("http://host:8080/data/local-files/?d=a/b.jpg", "a/b.jpg"),
        ("https://host/a%20b/c.jpg?signature=x#y", "a b/c.jpg"),
        ("s3://bucket/a b/c%20#d.jpg", "a b/c%20#d.jpg"),
        ("http://[/a.jpg", "http://[/a.jpg"),
    ],
)
def test_places(url: str, path: str):
    """The path is found in every way in which an image is named."""
    assert read_place(url).path == path


KEYS = (
    "cat/a.jpg",
    "dog/a.jpg",
    "b.jpg",
    "x/b2.jpg",
    "e f(1).jpg",
    "1f2e3d4c-h.jpg",
    "y/cat/k.jpg",
)


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("cat/a.jpg", "cat/a.jpg"),
        ("/data/local-files/?d=root/dog/a.jpg", "dog/a.jpg"),
        ("/home/me/set/cat/k.jpg", "y/cat/k.jpg"),  # by its name
        ("cat/k.jpg", "y/cat/k.jpg"),
        ("/data/upload/1/0a1b2c3d-b2.jpg", "x/b2.jpg"),
        ("/data/upload/1/0a1b2c3d-e_f1.jpg", "e f(1).jpg"),  # as an upload spells it
        ("/data/upload/1/1f2e3d4c-h.jpg", "1f2e3d4c-h.jpg"),  # the upload folder itself
        ("https://host/x/b2.jpg?k=v", "x/b2.jpg"),
        ("a.jpg", None),  # two of them
        ("owl/a.jpg", None),
        ("/data/upload/1/0a1b2c3d-a.jpg", None),
        ("0a1b2c3d-b.jpg", None),  # no upload: that may be its name
        ("z.jpg", None),
    ],
)
def test_images_are_found_by_the_end_of_their_path(url: str, key: str | None):
    """The longest agreement wins, and two equally good ones are none."""
    found = match([url], KEYS)
    assert [KEYS[row] for row in found.row_of.values()] == ([key] if key else [])
    assert found.open + found.unknown == ([] if key else [url])


def test_a_name_alone_never_takes_an_image_from_a_path():
    """Of two tasks with one file name, the one whose path agrees is meant, the other is none."""
    found = match(["owl/k.jpg", "cat/k.jpg", "q/b.jpg", "r/b.jpg"], KEYS)
    assert found.row_of == {"cat/k.jpg": 6}
    assert found.unknown == ["owl/k.jpg"]
    assert found.open == ["q/b.jpg", "r/b.jpg"]
    assert match(["q/b.jpg"], KEYS).by_name == ["q/b.jpg"]


def test_json_min(tmp_path: Path):
    """One record for each annotation, the answer under the name of the question."""
    about = {"annotator": 1, "annotation_id": 2, "created_at": "", "updated_at": "", "lead_time": 1}
    records = [
        {"image": "a", "id": 1, "what": "cat"} | about,
        {"image": "a", "id": 1, "what": "cat"} | about,
        {"image": "b", "id": 2, "what": "cat"} | about,
        {"image": "b", "id": 2, "what": "dog"} | about,
        {"image": "c", "id": 3, "what": {"choices": ["cat", "dog"]}} | about,
        {"image": "d", "id": 4} | about,
    ]
    found = read_json(export(tmp_path, records))
    assert found.label_of == {"a": "cat"}
    assert sum(found.left_out.values()) == 3


def test_csv(images: Path):
    """The columns `image` and `choice` are enough; several choices are JSON in a cell."""
    path = images.parent / "export.csv"
    path.write_text(
        "image,id,choice,annotator,annotation_id\n"
        "/data/local-files/?d=images/cat/a.jpg,1,cat,1,1\n"
        'cat/b.jpg,2,"{""choices"": [""cat"", ""dog""]}",1,2\n'
        "dog/c.jpg,3,dog,1,3\ndog/a.jpg,4,,1,4\n"
    )
    assert read_csv(path).label_of == {
        "/data/local-files/?d=images/cat/a.jpg": "cat",
        "dog/c.jpg": "dog",
    }
    source, labels = read_labels(str(path), open_source(images), images)
    assert [source.keys[row] for row in labels.index] == ["cat/a.jpg", "dog/c.jpg"]


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ({"images": [], "annotations": []}, "no export of Label Studio.*choose JSON"),
        ([1, 2], "no export of Label Studio"),
        ([], "has no label of a whole image"),
        ([task("cat/a.jpg")], "has no label.*1 without a label"),
        ([task("x.jpg", chose("cat"))], r"are no image of .*called like cat/a\.jpg"),
        (
            [task("cat/a.jpg", chose("cat"), chose("good", question="quality"))],
            r"answers 2 questions \(choice, quality\); keep",
        ),
        ([{"id": 1, "data": {"text": "hello"}}], r"task 1: its data \(text\) name 0 images"),
        ([{"image": "x.jpg", "what": "cat", "who": "me"}], "which of what, who is the label"),
    ],
)
def test_exports_that_cannot_be_used_are_refused(images: Path, tasks: object, message: str):
    """The message says what was found, and what to do."""
    with pytest.raises(InputError, match=message):
        read(images, tasks)


def test_what_is_no_json_is_refused(images: Path):
    """A file that is cut off says so."""
    path = images.parent / "export.json"
    path.write_text('[{"id": 1,')
    with pytest.raises(InputError, match=r"is not JSON .*export it again"):
        read_labels(str(path), open_source(images), images)


def test_the_image_may_have_any_name_among_the_data(tmp_path: Path):
    """Beside other data the one value that names an image file is it."""
    data = {"photo": "s3://bucket/a.JPG", "patient": "17", "note": "left"}
    tasks = [{"id": 1, "data": data, "annotations": [chose("cat")]}]
    assert read_json(export(tmp_path, tasks)).label_of == {"s3://bucket/a.JPG": "cat"}
