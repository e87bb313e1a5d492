"""File formats of tables: parquet, feather, CSV, JSON, and those inside a zip or gzip file."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import re
import zipfile
from collections.abc import Callable, Collection
from pathlib import PurePath

import pandas as pd

from candlecast.candles.schema import PRICE_COLUMNS
from candlecast.errors import InvalidCandles

NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
"""A number with a decimal point, with or without an exponent."""

MISSING = ("", "nan", "NaN", "null", "NULL", "None", "NA", "N/A")
"""Texts of a value that is not known."""

_COMMENT = re.compile(r"#.*|https?://[^,;\t]*|sep=.?")  # spreadsheets write the last one
_MARK = "\ufeff"
_THOUSANDS = re.compile(r"[1-9][0-9]{0,2}(\.[0-9]{3})+")
_OTHER_FORMATS = {
    b"\x1f\x8b": "a gzip file: let its name end in .gz",
    b"PK\x03\x04": "a zip file, or a workbook: let its name end in .zip, or save the sheet as CSV UTF-8",
    b"\xd0\xcf\x11\xe0": "a workbook: save the sheet as CSV UTF-8",
    b"PAR1": "a parquet file: let its name end in .parquet",
    b"ARROW1": "a feather file: let its name end in .feather",
}
"""First bytes of formats that may have the name of a text file."""
_BYTE_ORDER_MARKS = {  # the longer ones first, because UTF-32 begins as UTF-16 does
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def read_format(name: str, content: bytes, texts: Collection[str]) -> pd.DataFrame:
    """Read a file's table as it is; columns without names are numbered.

    A header line that is repeated, as in files put one after the other, is left out.

    Args:
        name: File name, whose ending names the format.
        texts: Columns of a CSV that are read as texts, by their names in lower case.

    Raises:
        InvalidCandles: Another ending, or not of that format; names the row (0-based, without header lines).
        OSError, ValueError, RuntimeError, EOFError, zlib.error, csv.Error, zipfile.BadZipFile: As libraries raise them.
    """
    ending = PurePath(name).suffix.lower()
    if ending == ".gz":
        return read_format(PurePath(name).stem, gzip.decompress(content), texts)
    if ending == ".zip":
        return _parsed(_decoded(_unzipped(content)), texts)
    if ending == ".csv":
        return _parsed(_decoded(content), texts)
    if ending not in _READERS:
        raise InvalidCandles(f"the name must end in {', '.join((*_READERS, '.csv', '.zip'))}, or in these and .gz")
    return _READERS[ending](content)


def _read_json(content: bytes) -> pd.DataFrame:
    wanted = "a list of rows [open_time, open, high, low, close, volume] is wanted"
    try:
        rows = json.loads(_decoded(content))
    except json.JSONDecodeError as exc:
        raise InvalidCandles(f"{exc}; {wanted}") from exc
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise InvalidCandles(wanted)
    if not rows:
        raise InvalidCandles("no candle in it")
    for number, row in enumerate(rows):
        if len(row) != len(rows[0]):
            raise InvalidCandles(f"row {number}: {len(row)} values, {len(rows[0])} in the first row", number)
    return pd.DataFrame(rows, dtype=object)


_READERS: dict[str, Callable[[bytes], pd.DataFrame]] = {
    ".parquet": lambda content: pd.read_parquet(io.BytesIO(content)),
    ".feather": lambda content: pd.read_feather(io.BytesIO(content)),
    ".json": _read_json,
}


def _unzipped(content: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        # macOS adds a folder of its own.
        names = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX/")]
        if len(names) != 1 or not names[0].lower().endswith(".csv"):
            raise InvalidCandles(f"one .csv file is wanted in it, found {', '.join(names) or 'none'}")
        return archive.read(names[0])


def _decoded(content: bytes) -> str:
    for beginning, remedy in _OTHER_FORMATS.items():
        if content.startswith(beginning):
            raise InvalidCandles(f"it is {remedy}")
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS.items() if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as exc:
        raise InvalidCandles(f"byte {exc.start} is not {encoding}; save the file as UTF-8") from exc
    if "\0" in text:  # UTF-16 without its mark, or a damaged disk
        raise InvalidCandles(f"character {text.index(chr(0))} is NUL; save the file as UTF-8")
    return text


def _parsed(text: str, texts: Collection[str]) -> pd.DataFrame:
    lines = text.splitlines(keepends=True)
    begin = next((at for at, line in enumerate(lines) if line.strip() and not _COMMENT.fullmatch(line.strip())), None)
    if begin is None:
        raise InvalidCandles("no candle in it")
    separator = next((one for one in ",;\t" if one in lines[begin]), ",")
    rows = filter(None, csv.reader(lines[begin:], delimiter=separator))
    header = next(rows)
    is_data = all(NUMBER.fullmatch(cell.strip()) for cell in header)
    names = [] if is_data else [cell.strip().lower() for cell in header]
    twice = next((name for at, name in enumerate(names) if name and name in names[:at]), None)
    if twice is not None:  # pandas would give it another name
        raise InvalidCandles(f"column {twice} is there twice")
    # With semicolons a decimal comma is usual, and so is a point between thousands.
    grouped = {at for at, name in enumerate(names) if separator == ";" and name in PRICE_COLUMNS}
    repeated: list[int] = []
    for at, row in enumerate(rows):
        if not is_data and row[-1] == header[-1] and [cell.lstrip(_MARK) for cell in row] == header:
            repeated.append(at)
        elif len(row) != len(header):  # pandas would shift or cut the row
            number = at + is_data - len(repeated)
            raise InvalidCandles(f"row {number}: {len(row)} values for {len(header)} columns", number)
        else:
            grouped = {column for column in grouped if _THOUSANDS.fullmatch(row[column].strip())}
    if grouped:
        raise InvalidCandles(
            f"every {names[min(grouped)]} has a point before its last three digits, which may separate thousands: "
            "write prices without such points, or commas between the columns"
        )
    table = pd.read_csv(
        io.StringIO("".join(lines[begin:])),
        sep=separator,
        header=None if is_data else 0,
        index_col=False,
        # As texts, because a number has lost how it was written.
        dtype={0: str} if is_data else {name: str for name in header if name.strip().lower() in texts},
        float_precision="round_trip",  # else the last digit may differ
        keep_default_na=False,
        na_values=MISSING,
        low_memory=False,
    )
    return table.drop(index=repeated).reset_index(drop=True) if repeated else table
