"""A folder of parquet splits in Croissant 1.0 (mlcommons.org/croissant), readable from the folder itself."""

from collections.abc import Mapping, Sequence
from typing import Any

_CONTEXT: Mapping[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}

_COLUMNS = (
    ("image", "sc:ImageObject", "The encoded picture."),
    ("text", "sc:Text", "The caption."),
    ("identity_id", "sc:Text", "The person shown; null where it is nobody of the set."),
    ("file_name", "sc:Text", "The picture's name, unique over the data set."),
)


def _field(split: str, column: str, data_type: str, description: str) -> dict[str, Any]:
    source: dict[str, Any] = {"fileSet": {"@id": f"{split}-files"}, "extract": {"column": column}}
    if column == "image":
        source["transform"] = {"jsonPath": "bytes"}
    return {
        "@type": "cr:Field",
        "@id": f"{split}/{column}",
        "name": column,
        "description": description,
        "dataType": data_type,
        "source": source,
    }


def croissant(
    name: str, description: str, *, splits: Mapping[str, str], licences: Sequence[str], version: str
) -> dict[str, Any]:
    """The content of ``croissant.json``.

    Args:
        name: the data set's name.
        description: one paragraph.
        splits: split -> what it is; its files are ``data/<split>-*.parquet``.
        licences: addresses of the licences.
        version: of the data set.
    """
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "name": name,
        "description": description,
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "license": list(licences),
        "url": "https://arxiv.org/abs/2603.26316",
        "citeAs": "Selvas-Sala, Kang, Gomez: SALMUBench. CVPR 2026, arXiv:2603.26316.",
        "version": version,
        "distribution": [
            {
                "@type": "cr:FileSet",
                "@id": f"{split}-files",
                "name": f"{split}-files",
                "description": meaning,
                "encodingFormat": "application/x-parquet",
                "includes": f"data/{split}-*.parquet",
            }
            for split, meaning in splits.items()
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": split,
                "name": split,
                "description": meaning,
                "field": [_field(split, *column) for column in _COLUMNS],
            }
            for split, meaning in splits.items()
        ],
    }
