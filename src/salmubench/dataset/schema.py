"""The data set's vocabulary: fields, styles, sets, side files and the row that every split is made of."""

from dataclasses import dataclass
from typing import Literal, get_args

Field = Literal["city", "job", "blood_type", "phone_number", "emails", "iban", "credit_card", "passport"]
FIELDS: tuple[Field, ...] = get_args(Field)
"""The eight sensitive facts of a person, by their published names. The person's own name is the anchor, not a field."""

Style = Literal["plain", "possessive", "formal", "inverted", "record"]
STYLES: tuple[Style, ...] = get_args(Style)

AssociationSplit = Literal["pair", "field"]

SENSITIVE_SPLITS = ("forget", "holdout_association", "holdout_identity")
HOLDOUT_SPLITS = ("holdout_association", "holdout_identity")
EVALUATION_SPLITS = (*SENSITIVE_SPLITS, "retain_synth")

IDENTITIES_FILE = "identities_metadata.json"
"""identity id -> {name, country_code, city, job, blood_type, phone_number, emails, iban, credit_card, passport}."""
CAPTIONS_FILE = "sensitive_set_captions_metadata.json"
"""file name -> {data_field, caption, style}; one entry a sensitive picture, over all three sensitive splits."""
GENERIC_CAPTIONS_FILE = "sensitive_set_generic_captions.json"
"""file name of a sensitive picture -> its generic caption (no name, no fact)."""
FRAGILE_IDS_FILE = "fragile_set_ids.json"
"""List of file names: the fragile set, the 5 % of retain_disjoint that Compromised aligns worst."""
FRAGILE_SIMILARITIES_FILE = "fragile_set_all_similarities.json"
"""file name of a retain_disjoint picture -> its image-text cosine under Compromised."""
SIDE_FILES = (
    IDENTITIES_FILE,
    CAPTIONS_FILE,
    GENERIC_CAPTIONS_FILE,
    FRAGILE_IDS_FILE,
    FRAGILE_SIMILARITIES_FILE,
)
MANIFEST_FILE = "manifest.json"


@dataclass(frozen=True)
class Row:
    """One picture-caption pair, as it stands in a parquet file of the official layout.

    Attributes:
        image: the encoded picture (JPEG, PNG or WebP bytes).
        text: the caption.
        identity_id: the person shown, or None where the picture shows nobody of the set.
        file_name: ``<8-digit identity>_<3-digit image>_ar-<w/h>.<ext>`` for people; unique over the data set.
    """

    image: bytes
    text: str
    identity_id: str | None
    file_name: str


@dataclass(frozen=True)
class CaptionInfo:
    """What the side files know of one sensitive picture's caption. ``style`` is None in the published data."""

    data_field: Field
    caption: str
    style: Style | None = None
