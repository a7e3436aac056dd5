"""Images listed in a CSV or Parquet table: paths, or encoded bytes, with or without labels."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from topwork.data.decoding import SUFFIXES as IMAGE_SUFFIXES
from topwork.data.labels import label_texts
from topwork.data.paths import Located, locate
from topwork.data.sources import FileImages, ImageSource, ParquetImages
from topwork.data.table import SPLIT_OF_NAME, LabelTable
from topwork.errors import DataError, did_you_mean
from topwork.files import open_regular, printable
from topwork.memory import available_memory, fits, gigabytes
from topwork.progress import Reporter
from topwork.types import StrArray
from topwork.words import counted

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet

SUFFIXES = frozenset({".csv", ".tsv", ".parquet"})
IMAGE_COLUMNS = (
    "image",
    "img",
    "path",
    "image_path",
    "filepath",
    "file_path",
    "file",
    "filename",
    "file_name",
    "bytes",
)
LABEL_COLUMNS = ("label", "labels", "class", "class_name", "target", "category", "species")
SPLIT_COLUMN = "split"
_LIKE_SPLIT = frozenset({"subset", "set", "partition", "phase", "usage", "fold", "kfold"})
"""Columns that may hold a split, as those with "split" in their name and `is_train`, `is_valid`, `is_test` may."""
NAME_COLUMNS = ("name", "id", "file_name", "filename")


_BYTES_A_ROW = 200
"""Of memory that the name, the label and the digest of an image take, as Python and NumPy hold them."""
_MOST_TIMES, _ALWAYS_FINE = 100, 64 << 20
"""How many times larger than in the file a column may become: encoded images do not shrink, labels do. Of a row group,
64 MB are always fine."""
_LONGEST_HEADER = 1 << 20


@dataclass(frozen=True)
class Columns:
    """The columns a user named; None where they are to be found by their usual names."""

    image: str | None = None
    label: str | None = None
    split: str | None = None
    group: str | None = None

    def arguments(self) -> dict[str, str | None]:
        """As `ImageDataset.from_table` calls them."""
        return {f"{name}_column": column for name, column in asdict(self).items()}


def read_table(path: Path, columns: Columns, image_root: Path | None = None) -> LabelTable:
    """The images that a table lists, with their labels.

    Args:
        path: a `.csv`, `.tsv` or `.parquet` file.
        columns: which of its columns are meant.
        image_root: the folder that its paths start from; None is the table's own.

    Raises:
        DataError: no such table, not readable as one, a column that isn't there, a row without an image, or more than
            half of the images are not where the table says.
    """
    shown = printable(str(path))
    table, schema = _read(path)
    all_names = schema.names
    image = _find(columns.image, IMAGE_COLUMNS, all_names, "image", shown)
    label = _find(columns.label, LABEL_COLUMNS, all_names, "label", shown)
    split = columns.split and _find(columns.split, (), all_names, "split", shown)
    split = split or next((name for name in all_names if name.strip().lower() == SPLIT_COLUMN), None)
    notes: list[str] = []
    if split is None and (like := _like_split(table.column_names, {image, label, columns.group})):
        values = {str(value).strip().lower() for value in table.column(like).unique().to_pylist()}
        if len({SPLIT_OF_NAME.get(value) for value in values}) > 1 and values <= SPLIT_OF_NAME.keys():
            split = like
            notes.append(f"the column {printable(like)!r} of {shown!r} is taken as the split.")
        else:
            notes.append(
                f"the column {printable(like)!r} of {shown!r} may be meant as a split, and is not read. A split is a "
                "column called split, with train, validation or test in each row."
            )
    group = columns.group and _find(columns.group, (), all_names, "group", shown)
    labels = _labels(table, schema, label, shown)
    class_names = _class_names(schema, label) if _holds_numbers(schema.field(label).type) else None
    if _holds_images(schema.field(image).type):
        source: ImageSource = _encoded(path, table, image)
    else:
        found = _located(path, table, image, image_root, None if class_names else label_texts(labels))
        if 2 * found.missing > len(found.paths):
            raise DataError(found.problem)
        notes += [text for text in (found.searched, found.problem) if text]
        source = FileImages(found.paths, str(image_root or path.parent))
    return LabelTable(
        source=source,
        labels=labels,
        class_names=class_names,
        notes=tuple(notes),
        splits=_strings(_whole_column(table, split, "split", shown)) if split else None,
        groups=_strings(_whole_column(table, group, "group", shown)) if group else None,
    )


def read_images(
    path: Path,
    image_column: str | None = None,
    image_root: Path | None = None,
    reporter: Reporter | None = None,
) -> ImageSource:
    """The images that a table lists; labels are not asked for.

    Args:
        path: a `.csv`, `.tsv` or `.parquet` file.
        image_column: the column with paths or encoded bytes; None finds it by its usual names.
        image_root: the folder that its paths start from; None is the table's own.
        reporter: hears of images that are not where the table says.

    Raises:
        DataError: no such table, not readable as one, a column that isn't there, a row without an image, or none of the
            images is where the table says.
    """
    wanted = {image_column} if image_column else {*IMAGE_COLUMNS}
    table, schema = _read(path, frozenset({*wanted, *NAME_COLUMNS}))
    image = _find(image_column, IMAGE_COLUMNS, schema.names, "image", printable(str(path)))
    if _holds_images(schema.field(image).type):
        return _encoded(path, table, image)
    found = _located(path, table, image, image_root, None)
    if found.paths and found.missing == len(found.paths):
        raise DataError(found.problem)
    for text in (found.searched, found.problem):
        if text and reporter is not None:
            reporter.warning(text)
    return FileImages(found.paths, str(image_root or path.parent))


def _read(path: Path, wanted: frozenset[str] | None = None) -> tuple[pa.Table, pa.Schema]:
    """The whole schema, and the columns called as in `wanted` (None: all), but those that hold images."""
    shown = printable(str(path))
    if not path.exists():
        raise DataError(f"There is no file {shown!r}.")
    table, schema = _read_columns(path, wanted)
    for name in schema.names:
        if schema.names.count(name) > 1:
            raise DataError(f"{shown!r} has {schema.names.count(name)} columns called {name!r}. Rename all but one.")
    return table, schema


def _read_columns(path: Path, wanted: frozenset[str] | None) -> tuple[pa.Table, pa.Schema]:
    import pyarrow as pa
    import pyarrow.parquet

    try:
        if path.suffix.lower() != ".parquet":
            return _read_csv(path)
        with open_regular(path) as file:  # opened here: pyarrow takes names in UTF-8 only
            metadata = pyarrow.parquet.read_metadata(file)
            schema = metadata.schema.to_arrow_schema()
            _require_sane(metadata, printable(str(path)))
            plain = [field.name for field in schema if not _holds_images(field.type)]
            if wanted is not None:
                plain = [name for name in plain if name in wanted or name.strip().lower() in wanted]
            return pyarrow.parquet.ParquetFile(file).read(columns=plain), schema
    except (pa.ArrowException, OSError, ValueError) as error:
        is_parquet = path.suffix.lower() == ".parquet"
        reason = (str(error).splitlines() or [type(error).__name__])[0].replace("\0", "")
        remedy = "Get the file again" if is_parquet else "Save it as “CSV UTF-8”"
        kind = "Parquet" if is_parquet else "CSV"
        raise DataError(f"{printable(str(path))!r} can't be read as {kind}: {reason}. {remedy}.") from error


def _require_sane(metadata: pyarrow.parquet.FileMetaData, shown: str) -> None:
    """Raise a `DataError` for a table that a few bytes blow up to more than memory has room for."""
    needed = _BYTES_A_ROW * metadata.num_rows
    if not fits(needed):
        raise DataError(
            f"{shown!r} has {metadata.num_rows:,} rows. Their names and labels would take about {gigabytes(needed)} of "
            f"memory, and {gigabytes(available_memory())} are free. Divide the table."
        )
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for column in map(group.column, range(group.num_columns)):
            if column.total_uncompressed_size > _MOST_TIMES * column.total_compressed_size + _ALWAYS_FINE:
                raise DataError(
                    f"{shown!r}: {column.total_compressed_size:,} bytes of its column {column.path_in_schema!r} would "
                    f"become {column.total_uncompressed_size:,}. Refused as a decompression bomb."
                )


def _read_csv(path: Path) -> tuple[pa.Table, pa.Schema]:
    """Every column as text; an empty cell is missing."""
    import pyarrow as pa
    import pyarrow.csv

    parse = pyarrow.csv.ParseOptions(delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
    with open_regular(path) as file:
        header = file.readline(_LONGEST_HEADER)
    names = pyarrow.csv.read_csv(pa.BufferReader(header), parse_options=parse).schema.names
    as_text = pyarrow.csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True, null_values=[""]
    )
    with open_regular(path) as file:
        table = pyarrow.csv.read_csv(file, parse_options=parse, convert_options=as_text)
    return table, table.schema


def _holds_images(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_struct(kind))


def _find(named: str | None, usual: tuple[str, ...], there: list[str], what: str, shown: str) -> str:
    if named is not None:
        if named not in there:
            raise DataError(
                f"{shown!r} has no column {named!r} for the {what}.{did_you_mean(named, there)} "
                f"Its columns are {', '.join(map(repr, there))}."
            )
        return named
    if len(there) == 1 and any(mark in there[0] for mark in ";\t|"):
        raise DataError(
            f"{shown!r} has one column, {there[0]!r}: its values seem to be separated by something else than commas. "
            "Save it with commas, or as .tsv with tabs."
        )
    lowered = {name.strip().lower(): name for name in there}
    for name in usual:
        if name in lowered:
            return lowered[name]
    if any(Path(name.strip()).suffix.lower() in IMAGE_SUFFIXES for name in there):
        raise DataError(
            f"{shown!r} has no line with the names of its columns: the first is {', '.join(map(repr, there))}. Add "
            "such a line, as path,label."
        )
    raise DataError(
        f"{shown!r} has no column that looks like the {what} ({', '.join(usual)}). "
        f"Its columns are {', '.join(map(repr, there))}: name the right one with `{what}_column=NAME`."
    )


def _like_split(names: list[str], others: set[str | None]) -> str | None:
    """The first column that may hold a split under another name."""
    for name in names:
        lowered = name.strip().lower()
        is_like = (
            lowered in _LIKE_SPLIT or "split" in lowered or re.fullmatch(r"(is|for)_?(train|val|test)\w*", lowered)
        )
        if is_like and name not in others:
            return name
    return None


def _labels(table: pa.Table, schema: pa.Schema, name: str, shown: str) -> Any:
    """The labels as they come: None or NaN where one is missing."""
    import pyarrow as pa

    kind = schema.field(name).type
    if pa.types.is_nested(kind):
        raise DataError(
            f"Column {name!r} of {shown!r} holds {kind}. Expected one label for each image, a name or a number; for "
            "images with several labels, choose one, or make a class of each combination."
        )
    column = _column(table, name, "label", shown)
    if column.null_count and pa.types.is_integer(column.type):  # as an array, they would become floating point
        return np.array(column.to_pylist(), dtype=object)
    return column.to_numpy()


def _whole_column(table: pa.Table, name: str, what: str, shown: str) -> Any:
    """A column's values as an array, none of them missing."""
    import pyarrow.compute

    column = _column(table, name, what, shown)
    is_missing = pyarrow.compute.is_null(column, nan_is_null=True).to_numpy()
    if np.any(is_missing):
        rows = np.flatnonzero(is_missing)
        raise DataError(
            f"{counted(len(rows), 'row')} of {shown!r} {'has' if len(rows) == 1 else 'have'} no {what} (the first is "
            f"row {rows[0]}, counted from 0). Fill them in, or leave those rows out."
        )
    values = column.to_numpy()
    return _strings(values) if values.dtype == object else values


def _column(table: pa.Table, name: str, what: str, shown: str) -> pa.ChunkedArray:
    import pyarrow as pa

    if name not in table.column_names:
        raise DataError(f"Column {name!r} of {shown!r} holds binary data, so it can't be the {what}.")
    column = table.column(name)
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _holds_numbers(kind: pa.DataType) -> bool:
    """Whether values of this kind can index class names: integers, or what they become beside missing ones."""
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _strings(values: Any) -> StrArray:
    return np.array([str(value) for value in values], dtype=str)


def _class_names(schema: pa.Schema, label: str) -> tuple[str, ...] | None:
    metadata = schema.metadata or {}
    if b"classes" in metadata:
        return tuple(metadata[b"classes"].decode("utf-8", "backslashreplace").splitlines())
    if b"huggingface" in metadata:
        try:
            names = json.loads(metadata[b"huggingface"])["info"]["features"][label]["names"]
        except (ValueError, LookupError, TypeError, RecursionError):
            return None
        is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
        return tuple(names) if is_list and names else None
    return None


def _encoded(path: Path, table: pa.Table, image: str) -> ParquetImages:
    name = next((name for name in NAME_COLUMNS if name in table.column_names and name != image), None)
    names = tuple(map(str, table.column(name).to_pylist())) if name else None
    return ParquetImages(path, image, table.num_rows, names)


def _located(path: Path, table: pa.Table, image: str, root: Path | None, labels: StrArray | None) -> Located:
    texts = [str(text) for text in _whole_column(table, image, "image", printable(str(path)))]
    return locate(texts, root or path.parent, printable(str(path)), None if labels is None else labels.tolist())
