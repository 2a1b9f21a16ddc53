"""The client by itself: installed as users install it, with nothing else around."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "clients" / "python"


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """An interpreter of a fresh environment that holds the client and what it needs."""
    root = tmp_path_factory.mktemp("alone")
    subprocess.run([sys.executable, "-m", "venv", root], check=True)
    pip = [root / "bin" / "pip", "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*pip, SOURCE], check=True)
    return root / "bin" / "python"


def run(python, code, service):
    environment = {"PATH": os.environ["PATH"], "HANDFUL_URL": service}
    done = subprocess.run(
        [python, "-W", "error", "-c", code],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_works_without_numpy(python, service, photos, tmp_path):
    """With httpx and pydantic alone embeddings are lists, and all else is as ever."""
    for index, photo in enumerate(photos):
        (tmp_path / f"{index:02}").write_bytes(photo)
    code = f"""
import asyncio, importlib.util, pathlib
others = ["numpy", "PIL", "sklearn", "pyarrow", "handful_bundle"]
assert not any(map(importlib.util.find_spec, others))
from handful_client import AsyncHandful, Handful, HandfulError, PartialFailure, errors
paths = sorted(pathlib.Path({str(tmp_path)!r}).iterdir()) + [b"no image"]
with Handful() as client:
    result = client.embed(paths)
    assert [row is not None for row in result.embeddings] == result.ok == [True] * 12 + [False]
    assert {{len(row) for row in result.embeddings[:12]}} == {{8}}
    kept = client.classify(embeddings=result, errors="return")
    direct = client.classify(paths, errors="return")
    assert [a.label for a in kept[:12]] == [b.label for b in direct[:12]] and kept[12] == direct[12]
    assert [item.index for item in client.embed_stream(paths, batch_size=5)] == list(range(13))
    latents = client.embed(paths[:3], space="latent")
    assert client.decode(latents).png[0].startswith(b"\\x89PNG")
    assert len(client.interpolate(*paths[:2], steps=3).raise_for_errors().png) == 3
    for call, extra in [
        (lambda: client.decode(latents).pixels, "arrays"),
        (lambda: client.embed(b"II*\\0 a TIFF file"), "arrays"),
        (lambda: Handful.local("."), "local"),
        (lambda: __import__("handful_client").HandfulEmbedder, "sklearn"),
    ]:
        try:
            call()
        except errors.MissingExtra as error:
            assert f"pip install 'handful-client[{{extra}}]'" in str(error), error
        else:
            raise SystemExit(f"{{extra}} is not missed")
async def main():
    async with AsyncHandful() as client:
        return [p.label for p in await client.classify(paths[:12])]
assert asyncio.run(main()) == [b.label for b in direct[:12]]
print("done")
"""
    assert run(python, code, service) == "done\n"


def test_its_command_works_alone(python, service, photos, tmp_path):
    """The installed `handful` writes CSV and JSON; forms that need more name what to install."""
    (tmp_path / "a.jpg").write_bytes(photos[0])
    command = [python.parent / "handful", "embed", tmp_path, "--url", service]
    printed = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    assert len(json.loads(printed.stdout)["results"][0]["embedding"]) == 8
    subprocess.run([*command, "-o", tmp_path / "out.csv"], capture_output=True, check=True)
    assert (tmp_path / "out.csv").read_text().startswith("path,error,e0")
    for name, extra in (("out.parquet", "parquet"), ("out.npy", "arrays")):
        done = subprocess.run(
            [*command, "-o", tmp_path / name], capture_output=True, text=True, check=False
        )
        assert done.returncode == 2
        assert f"pip install 'handful-client[{extra}]'" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jpg", "out.csv"]


def test_it_is_typed_and_versioned(python, service):
    """The installed package tells type checkers that it is typed, and users its version."""
    code = """
from importlib import metadata, resources
import handful_client
assert (resources.files("handful_client") / "py.typed").is_file()
assert handful_client.__version__ == metadata.version("handful-client")
print("done")
"""
    assert run(python, code, service) == "done\n"
