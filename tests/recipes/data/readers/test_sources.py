"""A recipe names files by paths, patterns, folders, samples and pinned Hub data sets."""

from __future__ import annotations

from pathlib import Path

import pytest

from recipes.data import catalog
from recipes.data.findings import Findings
from recipes.data.readers import files_of, hub
from recipes.errors import InputError
from tests.recipes.data.readers.reading import CSV, A, B, values
from tests.recipes.rows import places, prepared, write_jsonl


def test_files_are_found_by_path_by_pattern_and_by_sample_name(tmp_path: Path) -> None:
    folder = tmp_path / "with [brackets] and *"
    folder.mkdir()
    for name in ("b.jsonl", "a.jsonl", "c.csv"):
        (folder / name).write_text("x")
    assert [p.name for p in files_of(["*.jsonl"], folder)] == ["a.jsonl", "b.jsonl"]
    assert [p.name for p in files_of(["b.jsonl", "*"], folder)] == ["b.jsonl", "a.jsonl", "c.csv"]
    assert files_of([str(tmp_path / "*" / "c.csv")], Path("/nowhere")) == [folder / "c.csv"]
    [sample] = files_of(["sample:qa/policies.jsonl"], folder)
    assert sample.is_file()


def test_files_with_brackets_at_any_depth_and_in_folders_are_found_or_told(tmp_path: Path) -> None:
    for name in ("a.jsonl", "x/b.jsonl", "x/y/c.jsonl", "br[1].jsonl", "~$plan.xlsx"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    found = files_of(["**/*.jsonl"], tmp_path)
    assert [p.name for p in found] == ["a.jsonl", "br[1].jsonl", "b.jsonl", "c.jsonl"]
    assert [p.name for p in files_of(["br[1].jsonl", "~$plan.xlsx"], tmp_path)] == [
        "br[1].jsonl",
        "~$plan.xlsx",
    ]
    assert [p.name for p in files_of(["x"], tmp_path)] == ["b.jsonl", "c.jsonl"]
    (tmp_path / "M\udcfcller.jsonl").write_text("x")
    with pytest.raises(InputError, match="is not UTF-8; rename it"):
        files_of(["*.jsonl"], tmp_path)


def test_a_pattern_without_a_file_is_refused(tmp_path: Path) -> None:
    for pattern in ("none.jsonl", "*.parquet", "sample:none.jsonl"):
        with pytest.raises(InputError, match="there is no file"):
            files_of([pattern], tmp_path)


def test_a_folder_is_all_files_of_known_kinds_in_it_and_the_others_are_named(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "export"
    names = ("b.jsonl", "a.csv.gz", "2026/c.parquet", "notes.docx", "data.parquet.gz")
    for name in (*names, ".hidden.csv", "~$b.xlsx", ".git/d.csv", "Makefile"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    findings = Findings()
    for pattern in ("export", "export/", str(folder)):
        found = files_of([pattern], tmp_path, findings)
        assert [str(p.relative_to(folder)) for p in found] == [
            "2026/c.parquet",
            "a.csv.gz",
            "b.jsonl",
        ]
    assert {finding.kind for finding in findings.all()} == {catalog.UNKNOWN_FILE}
    named = [place.partition(": ")[0] for place in places(findings)[:3]]
    assert named == [str(folder / name) for name in ("Makefile", "data.parquet.gz", "notes.docx")]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="in the folder empty there is no file of a known kind"):
        files_of(["empty"], tmp_path)


def test_a_folder_of_a_recipe_is_read_and_what_is_not_read_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    write_jsonl(tmp_path / "rows" / "a.jsonl", [{"text": f"text {i}"} for i in range(10)])
    (tmp_path / "rows" / "readme.pdf").write_text("x")
    assert [Path(path).name for path in prepared(tmp_path, train="rows").files] == ["a.jsonl"]


@pytest.mark.parametrize("compression", ["gz", "bz2", "xz", "zst"])
def test_compressed_text_is_read(tmp_path: Path, compression: str) -> None:
    path = tmp_path / f"a.csv.{compression}"
    path.write_bytes(compressed(CSV.encode(), compression))
    assert values(path) == [A, B]
    upper = path.rename(tmp_path / f"a.CSV.{compression.upper()}")
    assert values(upper) == [A, B]


@pytest.mark.parametrize("compression", ["gz", "bz2", "xz", "zst"])
def test_a_damaged_compressed_file_is_refused(tmp_path: Path, compression: str) -> None:
    text = "text,label\n" + "".join(f"{i * i} {i}é,x\n" for i in range(3000))
    whole = compressed(text.encode(), compression)
    path = tmp_path / f"a.csv.{compression}"
    middle = len(whole) // 2
    for content in (whole[:middle], b"not compressed", whole[:middle] + b"\xff" * 200):
        path.write_bytes(content)
        with pytest.raises(InputError, match="cannot be read"):
            values(path)


def compressed(content: bytes, compression: str) -> bytes:
    import bz2
    import gzip
    import lzma

    import pyarrow

    match compression:
        case "gz":
            return gzip.compress(content)
        case "bz2":
            return bz2.compress(content)
        case "xz":
            return lzma.compress(content)
        case _:
            return bytes(pyarrow.Codec("zstd").compress(content, asbytes=True))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a.doc", r"a\.doc is of no known kind; wanted one of \.jsonl"),
        ("a", "of no known kind"),
        ("a.gz", "of no known kind"),
        ("a.parquet.gz", r"a \.parquet file is compressed by itself; decompress it first"),
    ],
)
def test_a_file_of_no_known_kind_is_refused(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / name).write_text("x")
    with pytest.raises(InputError, match=words):
        values(tmp_path / name)


REVISION = "0123456789abcdef" * 2 + "01234567"

CARD = """---
configs:
- config_name: en
  default: true
  data_files:
  - {split: train, path: en/train-*}
  - {split: test, path: en/test-*}
- config_name: de
  data_files:
  - {split: train, path: de/*}
---
"""


@pytest.fixture
def hub_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set as the Hub's cache holds it; nothing is fetched."""
    folder = tmp_path / "snapshot"
    for name in ("en/train-0.jsonl", "en/train-1.jsonl", "en/test-0.jsonl", "de/a.jsonl"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_jsonl(folder / name, [{"text": name}])
    (folder / "README.md").write_text(CARD)

    def fetch(wanted: hub.HubSplit) -> Path:
        assert (wanted.name, wanted.revision) == ("acme/tickets", REVISION)
        return folder

    monkeypatch.setattr(hub, "fetch", fetch)
    return folder


@pytest.mark.parametrize(
    ("rest", "names"),
    [
        ("", ["en/train-0.jsonl", "en/train-1.jsonl"]),
        ("/test", ["en/test-0.jsonl"]),
        ("?split=test", ["en/test-0.jsonl"]),
        ("/train?config=de", ["de/a.jsonl"]),
        ("?files=*/train-*", ["en/train-0.jsonl", "en/train-1.jsonl"]),
    ],
)
def test_a_data_set_of_the_hub_is_read_by_split_and_configuration(
    hub_folder: Path, rest: str, names: list[str]
) -> None:
    found = files_of([f"hub:acme/tickets@{REVISION}{rest}"], Path())
    assert [path.relative_to(hub_folder).as_posix() for path in found] == names
    assert values(found[0]) == [{"text": names[0]}]


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("hub:acme/tickets", "is not of the form hub:ORG/NAME@REVISION"),
        ("hub:tickets@main", "is not of the form"),
        ("hub:acme/tickets@main", "must be a commit of 40 hexadecimal digits"),
        (f"hub:acme/tickets@{REVISION}?subset=de", "unknown option 'subset'"),
        (f"hub:acme/tickets@{REVISION}/tset", r"no split 'tset'; did you mean test\?"),
        (f"hub:acme/tickets@{REVISION}?config=fr", "its splits cannot be determined: .*'fr'"),
        (f"hub:acme/tickets@{REVISION}?files=*.csv", "names no files that can be read"),
    ],
)
@pytest.mark.usefixtures("hub_folder")
def test_a_wrong_reference_to_the_hub_is_refused(reference: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        files_of([reference], Path())


def test_a_data_set_that_cannot_be_fetched_says_how_to_fetch_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"not in the cache, .* hf download acme/tickets --repo"):
        files_of([f"hub:acme/tickets@{REVISION}"], Path())


def test_a_path_of_windows_that_leads_nowhere_is_told_how_paths_are_written(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rows.csv").write_text("a\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"no file data\\rows\.csv .*divide folders by /"):
        files_of(["data\\rows.csv"], tmp_path)
