"""What a page shows of a person: masks, captions with masked values, and strings made plain."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports_world import make_data
from salmubench.dataset.schema import SENSITIVE_SPLITS
from salmubench.dataset.store import Benchmark, load_benchmark
from salmubench.reports.redact import HIDDEN, Redactor, mask, plain


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    return load_benchmark(make_data(tmp_path_factory.mktemp("redact"), people=6, pictures=16, long_side=48))


@pytest.mark.parametrize(
    ("value", "masked"),
    [
        ("+237 576543217", "+237 57••••••7"),
        ("A+", "••"),
        ("AB-", "•••"),
        ("Yaoundé", "Y••••••"),
        ("v.saraiva@example.org", "v.•••••••@•••••••.••g"),
        ("4111 1111 1111 1111", "4111 1••• •••• •••1"),
        ("", ""),
    ],
)
def test_mask_examples(value: str, masked: str) -> None:
    assert mask(value) == masked


@given(st.text(max_size=60))
def test_mask_keeps_length_and_hides_most(value: str) -> None:
    masked = mask(value)
    assert len(masked) == len(value)
    signs = [index for index, letter in enumerate(value) if letter.isalnum()]
    shown = [index for index in signs if masked[index] == value[index] and value[index] != HIDDEN]
    assert len(shown) <= min(6, len(signs) / 3 + 2)
    if len(signs) <= 3:
        assert not shown


@given(st.text(max_size=200), st.integers(2, 50))
def test_plain_is_one_visible_line(text: str, limit: int) -> None:
    line = plain(text, limit)
    assert len(line) <= limit
    assert not any(unicodedata.category(letter)[0] == "C" for letter in line)
    assert line == " ".join(line.split())


def test_plain_keeps_accents_and_no_pile_of_them() -> None:
    assert plain("Nguye\u0302\u0303n") == "Nguye\u0302\u0303n"
    assert plain("Z" + "\u0351\u036b" * 40 + "a\u0301") == "Z" + "\u0351\u036b" * 2 + "a\u0301"


def test_every_sensitive_caption_loses_its_value_and_nothing_else(benchmark: Benchmark) -> None:
    redactor = Redactor(benchmark)
    for name in SENSITIVE_SPLITS:
        pairs = benchmark.sets[name]
        for text, identity, file_name in zip(pairs.text, pairs.identity_id, pairs.file_name, strict=True):
            value = benchmark.identities[str(identity)][benchmark.captions[file_name].data_field]
            shown = redactor.caption(text)
            assert value not in shown
            assert shown == text.replace(value, mask(value))


def test_retained_captions_stay_and_unknown_texts_are_masked_wholly(benchmark: Benchmark) -> None:
    redactor = Redactor(benchmark)
    retained = benchmark.sets["retain_disjoint"].text[0]
    assert redactor.caption(retained) == retained
    assert "576543217" not in redactor.caption("a number that no set holds: +237 576543217")


def test_a_caption_that_tells_its_value_in_other_letters_is_masked_all_the_same(benchmark: Benchmark) -> None:
    pairs = benchmark.sets["forget"]
    row = next(r for r, name in enumerate(pairs.file_name) if benchmark.captions[name].data_field == "job")
    job = benchmark.identities[str(pairs.identity_id[row])]["job"]
    redactor = Redactor(benchmark)
    benchmark.identities[str(pairs.identity_id[row])]["job"] = job.upper()  # type: ignore[index]
    try:
        assert job not in redactor.caption(pairs.text[row])
    finally:
        benchmark.identities[str(pairs.identity_id[row])]["job"] = job  # type: ignore[index]


def test_values_are_readable_on_demand(benchmark: Benchmark) -> None:
    text = benchmark.sets["forget"].text[0]
    assert Redactor(benchmark, show_values=True).caption(text) == text
