import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from mimi_edge.texts import excerpt, fault_list, json_text, safe, safe_line

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=300),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner),
)


@given(st.text(st.characters()))
def test_no_text_steers_what_shows_it(text):
    assert all(letter.isprintable() or letter.isspace() or ord(letter) > 0xA0 for letter in safe(text))
    assert not set(safe(text)) & {chr(code) for code in (*range(10), 0x1B, 0x9B, 0x7F, 0x202E, 0x2066, 0xD800)}
    assert "\n" not in safe_line(text)
    safe(text).encode()


def test_what_is_shown_instead_can_be_read():
    assert safe("a\x1b[2J\x9b1m\u202eb\ud800\tä\n") == "a\\x1b[2J\\x9b1m\\u202eb\\ud800\\x09ä\n"


@given(ANYTHING)
def test_an_excerpt_is_short_and_harmless(value):
    assert len(excerpt(value)) <= 80
    assert excerpt(value) == safe_line(excerpt(value))


def test_an_excerpt_looks_at_no_more_than_it_shows():
    nested = ["x" * 10]
    for _ in range(30):
        nested = [nested] * 10  # 10^30 texts if somebody wrote them all
    assert len(excerpt(nested, 300)) <= 300
    assert excerpt(10**100_000) == "an integer of 332193 bits"
    assert excerpt("ab") == "'ab'"


def test_many_faults_are_counted_and_each_is_cut():
    listed = fault_list([f"fault {number} {'x' * 10_000}" for number in range(113)])
    assert listed.startswith("  - fault 0 x")
    assert listed.endswith("  - and 93 more")
    assert len(listed) < 20 * 410 + 100
    assert fault_list(["one"]) == "  - one"


def test_whole_messages_are_not_cut_and_all_are_shown_where_that_is_asked():
    copied = [f"cp -rL {'x' * 1000} COPY{number}" for number in range(30)]
    assert fault_list(copied, None, longest=None) == "\n".join(f"  - {one}" for one in copied)
    assert fault_list(copied, 1, longest=None) == f"  - {copied[0]}\n  - and 29 more"


@given(ANYTHING)
def test_json_holds_what_it_was_given_and_nothing_that_steers(value):
    text = json_text(value)
    assert text.replace("\n", "") == safe_line(text.replace("\n", ""))
    text.encode()

    def refuse(constant):
        raise AssertionError(constant)

    back = json.loads(text, parse_constant=refuse)
    assert json.dumps(back, allow_nan=False) == json.dumps(json.loads(json_text(back)))


def test_json_keeps_letters_and_makes_null_of_what_is_not_finite():
    assert json_text({"ä\x9b": [float("nan"), 1.5, "\ud800\x7f"]}, indent=None) == (
        '{"ä\\u009b": [null, 1.5, "\\ud800\\u007f"]}'
    )


def test_json_in_order_in_ascii_and_of_what_it_cannot_hold():
    document = {"b": "ä", "a": {"path": Path("x"), "loss": float("inf")}}
    text = json_text(document, indent=None, sort_keys=True, ascii_only=True, default=str)
    assert text == '{"a": {"loss": null, "path": "x"}, "b": "\\u00e4"}'
