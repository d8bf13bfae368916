"""Data files as spreadsheets, data frames and downloads leave them: read as they are meant, or one sentence."""

import bz2
import gzip
import io
import json
import lzma
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from loaded_source import bad_of, loaded, texts_of

from presafe.errors import UserError

LINES = "text,label\nname a river,x\nname a lake,y\n"
NAMES = ["name a river", "name a lake"]
OBJECTS = [{"text": name} for name in NAMES]


def write(tmp_path, name: str, data: str | bytes):
    path = tmp_path / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("name", ["p.csv", "p.jsonl", "p.json"])
def test_a_byte_order_mark_says_the_encoding(tmp_path, name, encoding):
    content = {"p.csv": LINES, "p.jsonl": "\n".join(map(json.dumps, OBJECTS)), "p.json": json.dumps(OBJECTS)}[name]
    assert texts_of(write(tmp_path, name, content.encode(encoding))) == NAMES


def test_big_endian_text_with_a_mark_is_read_and_without_one_it_is_told(tmp_path):
    assert texts_of(write(tmp_path, "p.csv", b"\xfe\xff" + LINES.encode("utf-16-be"))) == NAMES
    bare = write(tmp_path, "bare.csv", LINES.encode("utf-16-le"))
    with pytest.raises(UserError, match=r"looks like UTF-16 without a byte order mark.*set the encoding to utf-16-le"):
        texts_of(bare)
    assert texts_of(bare, encoding="utf-16-le") == NAMES


@pytest.mark.parametrize(
    "content",
    [
        LINES.replace(",", ";"),
        LINES.replace(",", "\t"),
        LINES.replace(",", "|"),
        "sep=;\n" + LINES.replace(",", ";"),
        'text;"a,b,c,d"\nname a river;x\nname a lake;y\n',
        '"a;b;c;d",text\nx,name a river\ny,name a lake\n',
        '"text","label"\r\n"name a river","x"\r\n"name a lake","y"\r\n',
        '"label\n(ours)",text\nx,name a river\ny,name a lake\n',
        "label, text\nx, name a river\ny, name a lake\n",
        'label, text\nx, "name a river"\ny, "name a lake"\n',
        "\n\n" + LINES + "\n,\n,\n",
        "text,label,,\nname a river,x,,\nname a lake,y,,,,\n",
        LINES.replace("\n", "\r"),
        "text\nname a river\nname a lake",
    ],
)
def test_what_spreadsheets_write_is_read(tmp_path, content):
    found = loaded(write(tmp_path, "p.csv", content))
    assert [prompt.text for prompt in found.good] == NAMES
    assert found.bad == []


def test_a_tab_separated_file_may_hold_commas_and_a_setting_goes_before_the_header(tmp_path):
    assert texts_of(write(tmp_path, "p.tsv", "id\ttext\n1\ta, b, c\n")) == ["a, b, c"]
    odd = write(tmp_path, "odd.csv", "id~text\n1~a, b\n")
    with pytest.raises(UserError, match=r"no column 'text' in source 'mine'.*where there is id~text;"):
        texts_of(odd)
    assert texts_of(odd, delimiter="~") == ["a, b"]


def test_another_encoding_costs_its_rows_and_is_named(tmp_path):
    path = write(tmp_path, "p.csv", "text\nit\u2019s a river\nname a lake\n".encode("cp1252"))
    assert texts_of(path) == ["name a lake"]
    (bad,) = bad_of(path)
    assert (bad.reason, bad.detail) == ("not UTF-8", "byte 0x92 at character 2: is its encoding cp1252, say?")
    assert texts_of(path, encoding="cp1252") == ["it\u2019s a river", "name a lake"]
    with pytest.raises(ValueError, match=r"unknown encoding: klingon; utf-8, cp1252"):
        texts_of(path, encoding="klingon")


def packed(name: str, data: bytes) -> bytes:
    if name == "zip":
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("p.csv", data)
        return file.getvalue()
    return {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}[name](data)


@pytest.mark.parametrize("name", ["gz", "bz2", "xz", "zip"])
def test_a_compressed_file_is_read_whatever_it_is_called(tmp_path, name):
    assert texts_of(write(tmp_path, f"p.csv.{name}", packed(name, LINES.encode()))) == NAMES
    assert texts_of(write(tmp_path, "hidden.csv", packed(name, LINES.encode()))) == NAMES
    assert texts_of(write(tmp_path, f"unpacked.csv.{name}", LINES)) == NAMES


@pytest.mark.parametrize("form", ["gz", "bz2", "xz"])
def test_a_compressed_file_that_breaks_off_is_one_sentence(tmp_path, form):
    whole = packed(form, "".join(f'{{"text": "{k} {hash(str(k))}"}}\n' for k in range(9000)).encode())
    with pytest.raises(UserError, match=r"p\.jsonl\.\w+, which cannot be read \(.*needed a whole file"):
        texts_of(write(tmp_path, f"p.jsonl.{form}", whole[: len(whole) // 2]))


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(OBJECTS),
        json.dumps(OBJECTS, indent=2),
        "\n".join(json.dumps(one, indent=2) for one in OBJECTS),
        "\r".join(map(json.dumps, OBJECTS)),
        "".join(map(json.dumps, OBJECTS)),
        "\r\n\r\n".join(map(json.dumps, OBJECTS)),
        "\n\ufeff".join(map(json.dumps, OBJECTS)),
    ],
)
@pytest.mark.parametrize("name", ["p.json", "p.jsonl", "p.ndjson"])
def test_json_is_read_as_an_array_over_several_lines_and_a_line_each(tmp_path, name, content):
    assert texts_of(write(tmp_path, name, content)) == NAMES


def test_a_first_line_that_is_an_array_costs_its_row_in_a_file_of_lines(tmp_path):
    path = write(tmp_path, "p.jsonl", '[1]\n{"text": "name a river"}\n{"text": \n')
    assert texts_of(path, share=0.9) == ["name a river"]
    assert [(bad.row, bad.reason) for bad in bad_of(path, share=0.9)] == [(1, "not an object"), (3, "not JSON")]


@pytest.mark.parametrize("name", ["p.jsonl", "p.csv", "p.parquet", "p.json.gz"])
@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 7\n", "a Git LFS pointer"),
        ("<!DOCTYPE html><html><body>404</body></html>", "a web page"),
        ("\n<html><body>log in</body></html>", "a web page"),
        ("%PDF-1.7", "a PDF"),
    ],
)
def test_what_is_no_data_is_told_in_one_sentence(tmp_path, name, content, what):
    with pytest.raises(UserError, match=f"which is {what}") as caught:
        texts_of(write(tmp_path, name, content))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["p.jsonl", "p.csv", "p.json", "p.parquet"])
def test_an_empty_file_and_a_folder_are_one_sentence(tmp_path, name):
    (tmp_path / "folder" / name).mkdir(parents=True)
    with pytest.raises(UserError, match=r"found the folder .*name a file in it"):
        texts_of(tmp_path / "folder" / name)
    with pytest.raises(UserError, match=r"no prompt in source|cannot be read|no column 'text'"):
        texts_of(write(tmp_path, name, ""))


def parquet(tmp_path, table: pa.Table):
    pq.write_table(table, tmp_path / "p.parquet")
    return tmp_path / "p.parquet"


@pytest.mark.parametrize("end", [-20, 200, 4])
def test_a_cut_parquet_file_is_one_sentence(tmp_path, end):
    whole = parquet(tmp_path, pa.table({"text": NAMES})).read_bytes()
    with pytest.raises(UserError, match=r"which cannot be read.*fetch or write it again") as caught:
        texts_of(write(tmp_path, "cut.parquet", whole[:end]))
    assert "\n" not in str(caught.value)


def undecodable(texts: list[bytes]) -> pa.Array:
    return pa.array(texts, pa.binary()).view(pa.string())


def test_a_column_that_nobody_reads_does_no_harm(tmp_path):
    far = pa.array([2**62] * 2, pa.timestamp("us"))
    lists = pa.ListArray.from_arrays(pa.array([0, 1, 2]), undecodable([b"\xff", b"\xfe"]))
    notes = [far, lists, undecodable([b"\xff", b"x"]), pa.array([1, 2])]
    table = pa.table([pa.array(NAMES), *notes, pa.array([3, 4])], ["text", "when", "tags", "raw", "note", "note"])
    assert texts_of(parquet(tmp_path, table)) == NAMES
    doubled = write(tmp_path, "p.csv", b"text,note,note\nname a river,\xff,\xfe\nname a lake,,\n")
    assert texts_of(doubled) == NAMES


def test_a_value_that_python_cannot_hold_costs_its_row(tmp_path):
    far = pa.array([2**62, 0], pa.timestamp("us"))
    path = parquet(tmp_path, pa.table({"text": NAMES, "when": far}))
    assert texts_of(path, columns={"category": "when"}) == ["name a lake"]
    assert [bad.reason for bad in bad_of(path, columns={"category": "when"})] == ["unreadable value"]
    tags = pa.ListArray.from_arrays(pa.array([0, 1, 2]), undecodable([b"\xff", b"fine"]))
    path = parquet(tmp_path, pa.table({"text": NAMES, "tags": tags}))
    assert texts_of(path, columns={"category": "tags[0]"}) == ["name a lake"]
    assert [bad.reason for bad in bad_of(path, columns={"category": "tags[0]"})] == ["not UTF-8"]


@pytest.mark.parametrize("name", ["p.csv", "p.parquet"])
def test_a_doubled_column_that_is_read_is_told(tmp_path, name):
    if name == "p.csv":
        path = write(tmp_path, name, "text,text\na,b\n")
    else:
        path = parquet(tmp_path, pa.table([pa.array(["a"]), pa.array(["b"])], names=["text", "text"]))
    with pytest.raises(UserError, match=r"found several columns 'text' in .*rename the others"):
        texts_of(path)


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]
)
def test_every_arrow_type_of_text_is_read(tmp_path, kind):
    assert texts_of(parquet(tmp_path, pa.table({"text": pa.array(NAMES).cast(kind)}))) == NAMES
