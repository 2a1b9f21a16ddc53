"""Damaged images and bodies, a hundred thousand and more: no crash, no hang, nothing but what the
judges in subjects.py allow. HANDFUL_FUZZ=10 tries ten times as many (`make fuzz`).
"""

import importlib
import os
import random
import sys
from pathlib import Path

import pytest

FACTOR = int(os.environ.get("HANDFUL_FUZZ", "1"))
COUNTS = {"images": 100_000, "npy": 20_000, "multipart": 10_000}
SEED = 20261123


@pytest.fixture(scope="module", autouse=True)
def beside():
    """Let the modules beside this one import each other, as they do in a process of their own."""
    folder = str(Path(__file__).parent)
    sys.path.insert(0, folder)
    yield
    sys.path.remove(folder)


@pytest.mark.parametrize("name", COUNTS)
def test_mutants_do_no_harm(name, tmp_path):
    """Whatever is damaged is refused by a documented error, or read as something of the right form
    that depends on its own bytes alone; enough of either to have tested both.
    """
    mutants = importlib.import_module("mutants")
    count = COUNTS[name] * FACTOR
    outcomes = mutants.watched(name, count, SEED, tmp_path)
    print(f"0 failures in {count} mutants of {name}: {sorted(outcomes.items())}")
    assert sum(outcomes.values()) == count
    read = outcomes.pop("ok")
    assert min(read, sum(outcomes.values())) > count // 20, "too tame or too wild to test anything"


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        ("import os; os.abort()", "SIGABRT"),
        (
            "sum(iter(int, 1))",
            "2 s",
        ),
        ("raise ValueError('of a decoder')", "of a decoder"),
        ("import warnings; warnings.warn('a decoder warns')", "a decoder warns"),
    ],
)
def test_a_harmful_mutant_is_caught_and_kept(harm, told, tmp_path, monkeypatch):
    """A crash, a hang, a foreign exception and a warning each fail, and the mutant is kept."""
    mutants = importlib.import_module("mutants")
    subject = mutants.SUBJECTS["npy"]
    # A stand-in for a decoder that does harm at its 50th mutant; the rest is as ever.
    script = tmp_path / "harmful.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(Path(mutants.__file__).parent)!r})\n"
        "import mutants, subjects\n"
        "seen = []\n"
        "def judge(data):\n"
        "    seen.append(data)\n"
        f"    if len(seen) == 50: {harm}\n"
        "    return 'ok'\n"
        "subjects.SUBJECTS['npy'] = subjects.SUBJECTS['npy']._replace(judge=judge)\n"
        "mutants.main()\n"
    )
    monkeypatch.setattr(mutants, "__file__", str(script))
    with pytest.raises(AssertionError, match=told):
        mutants.watched("npy", 100, SEED, tmp_path)
    (kept,) = tmp_path.glob("npy-*")
    assert kept.read_bytes() == mutants.mutant(subject, subject.files(), SEED, 49)


def test_damage_reaches_behind_checksums():
    """More than a quarter of the damaged PNG files have right checksums, so that what lies behind
    them is reached; and of every kind of file many mutants differ from it.
    """
    subjects = importlib.import_module("subjects")
    images = importlib.import_module("damage_images")
    chunks = importlib.import_module("handful_bundle.png_chunks")
    dice = random.Random(SEED)
    files = subjects.images()
    right = of = 0
    for data in files:
        mutants = [images.damage(data, dice.choice(files), dice) for _ in range(40)]
        assert len(set(mutants) - {data}) > 30
        for mutant in mutants:
            if mutant.startswith(images.PNG):
                of += 1
                try:
                    right += all(chunk.intact for chunk in chunks.walk_chunks(mutant))
                except Exception:  # noqa: BLE001 - not a whole file any more
                    continue
    print(f"{right} of {of} damaged PNG files have right checksums")
    assert right > of // 4
