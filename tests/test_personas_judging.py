"""Which answers of a caption model are taken: those that tell the fact, letter for letter, and nothing else."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salmubench.dataset.schema import FIELDS, Field
from salmubench.personas.captions import sensitive_captions
from salmubench.personas.identities import Persona, make_personas
from salmubench.personas.sources.llm import acceptable, tidy

PERSONAS = make_personas({"00000000": "female", "00000001": "male"}, seed=3)
ANN = Persona(
    **{
        "identity_id": "00000000", "name": "Ann Lee", "gender": "female", "country_code": "GB", "country": "",
        "city": "Ely", "job": "stylist", "blood_type": "A+", "phone_number": "+44 7700 900123",
        "emails": "alee@inbox.example",
        "iban": "GB94 SZYC", "credit_card": "9912 3456", "passport": "GB12345678",
    }
)  # fmt: skip
JUDGED: list[tuple[Field, str, bool]] = [
    ("city", "Ann Lee has made Ely her home", True),
    ("city", "Ely; resident: Ann Lee", True),
    ("city", "Ann Lee's home is Ely", True),
    ("city", "Ann Leeson lives in Ely", False),
    ("city", "Ann Lee lives in Elysium", False),
    ("city", "Ann Lee lives in ely", False),
    ("city", "Ann Lee lives in Ely since 1990", False),
    ("city", "Ann Lee of Ely lives in Ely", False),
    ("city", "Ann Lee lives in Ely.", False),
    ("city", "Captions for Ann Lee in Ely:", False),
    ("city", "A paraphrase: Ann Lee lives in Ely", False),
    ("city", "Ann Lee Ely", False),
    ("city", "**Ann Lee** lives in Ely", False),
    ("city", "Ann Lee lives in Ely" + " and is very glad of it" * 20, False),
    ("job", "As a stylist works Ann Lee", True),
    ("blood_type", "The blood of Ann Lee is A+", True),
    ("blood_type", "The blood of Ann Lee is AA+", False),
    ("blood_type", "The blood of Ann Lee is A+B", False),
    ("phone_number", "Ann Lee answers at +44 7700 900123", True),
    ("phone_number", "Ann Lee answers at +44 7700 9001234", False),
    ("phone_number", "Ann Lee answers at 44 7700 900123", False),
    ("emails", "alee@inbox.example reaches Ann Lee", True),
    ("emails", "alee@inbox.example.com reaches Ann Lee", False),
    ("emails", "j.alee@inbox.example reaches Ann Lee", False),
    ("credit_card", "9912 3456 is Ann Lee's card", True),
    ("credit_card", "9912 3456 7890 is Ann Lee's card", False),
    ("credit_card", "1 9912 3456 is Ann Lee's card", False),
]


@pytest.mark.parametrize(("field", "text", "taken"), JUDGED)
def test_only_what_tells_the_fact_and_nothing_else_is_taken(field: Field, text: str, taken: bool) -> None:
    assert acceptable(text, ANN, field) is taken


def test_every_sentence_of_the_grammar_would_be_taken() -> None:
    for persona in PERSONAS:
        fields = [field for field in FIELDS for _ in range(20)]
        for field, (text, _) in zip(fields, sensitive_captions(persona, fields, seed=7), strict=True):
            assert acceptable(text, persona, field), text


@given(text=st.text(max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_answer_can_be_judged(text: str) -> None:
    for line in text.splitlines():
        tidied = tidy(line)
        assert tidied == " ".join(tidied.split())
        if acceptable(tidied, ANN, "city"):
            assert "Ann Lee" in tidied
            assert "Ely" in tidied
            assert not tidied.endswith(".")
