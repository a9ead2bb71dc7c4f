"""What must never be printed: gone in every form, and nothing else with it."""

import base64
import json
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from couchdiscover.output.redaction import MASK, Redactor

SECRET = "pa$s/wörd \"and\" 'more'\\+€\n%"

FORMS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "stripped": str.strip,
    "in a URL": lambda s: quote(s, safe=""),
    "in a form": quote_plus,
    "in JSON": json.dumps,
    "in JSON as UTF-8": lambda s: json.dumps(s, ensure_ascii=False),
    "in a repr": repr,
    "in a repr of bytes": lambda s: repr(s.encode()),
    "in base64": lambda s: base64.b64encode(s.encode()).decode(),
    "in base64 without padding": lambda s: base64.b64encode(s.encode()).decode().rstrip("="),
    "in URL-safe base64": lambda s: base64.urlsafe_b64encode(s.encode()).decode(),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_secret_is_masked_in_every_form(form: str) -> None:
    redactor = Redactor()
    redactor.hide(SECRET)
    travelling = FORMS[form](SECRET)
    cleaned = redactor.clean(f"sent <{travelling}>, got 401")
    assert cleaned.startswith("sent <")
    assert cleaned.endswith(">, got 401")
    assert travelling.strip("\"'b") not in cleaned
    assert MASK in cleaned


printable = st.characters(codec="utf-8", exclude_characters="*")  # which is what masks are made of


@given(
    secret=st.text(printable, min_size=3, max_size=20),
    form=st.sampled_from(sorted(FORMS)),
    before=st.text(max_size=20),
    after=st.text(max_size=20),
)
def test_no_secret_passes_in_any_form(secret: str, form: str, before: str, after: str) -> None:
    assume(len(secret.strip()) > 2)
    travelling = FORMS[form](secret)
    redactor = Redactor()
    redactor.hide(secret)
    cleaned = redactor.clean(before + travelling + after)
    assert secret not in cleaned
    assert travelling not in cleaned


@given(st.lists(st.text(printable, max_size=8), max_size=5), st.text(max_size=60))
def test_whatever_is_hidden_is_gone_and_nothing_breaks(secrets: list[str], text: str) -> None:
    redactor = Redactor()
    redactor.hide(*secrets)
    once = redactor.clean(text)
    assert not [secret for secret in secrets if len(secret) > 2 and secret in once]


def test_of_two_secrets_the_longer_goes_first() -> None:
    redactor = Redactor()
    redactor.hide("hunter")
    redactor.hide("hunter2000")
    assert redactor.clean("hunter2000 hunter") == f"{MASK} {MASK}"


@pytest.mark.parametrize("secret", ["", "a", "ab", " a ", "\n\n"])
def test_what_is_too_short_masks_nothing(secret: str) -> None:
    redactor = Redactor()
    redactor.hide(secret)
    assert redactor.clean("a line about ab and nothing else") == "a line about ab and nothing else"


def test_a_variable_that_is_no_utf_8() -> None:
    """As os.environ has it: the bytes that do not decode are surrogates."""
    redactor = Redactor()
    redactor.hide("hunter\udcff")
    assert redactor.clean("hunter\udcff hunter%FF") == f"{MASK} {MASK}"


def test_the_environments_secrets() -> None:
    redactor = Redactor()
    redactor.hide_environment(
        {"A_PASSWORD": "hunter2", "ERLANG_COOKIE": "monster", "PASSWORD_FILE": "/etc/pw"}.items()
    )
    assert redactor.clean("hunter2 monster /etc/pw") == f"{MASK} {MASK} /etc/pw"


# --- names are no secrets, even where the secret sounds like one ---

NAMES = ("couchdb-0", "couchdb", "couchdb@couchdb-0.couchdb.db.svc", "10.0.0.4:5984", "my.couch")


def named(*secrets: str) -> Redactor:
    redactor = Redactor(lambda: NAMES)
    redactor.hide(*secrets)
    return redactor


@pytest.mark.parametrize(
    ("secret", "text", "cleaned"),
    [
        ("couchdb", "couchdb-0 is down", "couchdb-0 is down"),
        ("couchdb", "{couchdb-0, couchdb-1}", "{couchdb-0, ***-1}"),
        ("couchdb", "sent couchdb, got 401", "sent ***, got 401"),
        ("couchdb", "/_node/couchdb@couchdb-0.couchdb.db.svc/_config", None),
        ("couchdb", "couchdb@couchdb-0.couchdb.db.svc.", None),
        ("couchdb", "xcouchdb-0 couchdb-01 couchdb-0.x", "x***-0 ***-01 ***-0.x"),
        ("0.0", "at 10.0.0.4:5984 after 0.0 s", "at 10.0.0.4:5984 after *** s"),
        ("db-0 is", "couchdb-0 is down", "couch*** down"),
        ("couchdb-0", "couchdb-0 is down", "*** is down"),
        ("0 is", "couchdb-0 is, couchdb-0", "couchdb-***, couchdb-0"),
        ("couch", "my.couch and couch and my.couches", "my.couch and *** and my.***es"),
    ],
)
def test_parts_of_names_are_kept(secret: str, text: str, cleaned: str | None) -> None:
    assert named(secret).clean(text) == (text if cleaned is None else cleaned)


def test_a_login_is_masked_where_its_password_is_a_part_of_a_name() -> None:
    assert named("couchdb", "admin:couchdb").clean("as admin:couchdb at couchdb-0") == (
        f"as {MASK} at couchdb-0"
    )


def test_names_are_those_of_the_moment() -> None:
    names: list[str] = []
    redactor = Redactor(lambda: names)
    redactor.hide("couchdb")
    assert redactor.clean("couchdb-0") == f"{MASK}-0"
    names.append("couchdb-0")
    assert redactor.clean("couchdb-0") == "couchdb-0"


@given(
    st.lists(st.text("abc-.", min_size=3, max_size=6), min_size=1, max_size=3),
    st.lists(st.text("abc-.", min_size=1, max_size=8), max_size=3),
    st.text("abc-. ", max_size=30),
)
def test_a_secret_is_left_only_within_a_name(
    secrets: list[str], names: list[str], text: str
) -> None:
    redactor = Redactor(lambda: names)
    redactor.hide(*secrets)
    cleaned = redactor.clean(text)
    for secret in secrets:
        if secret in cleaned:
            assert any(secret in name and secret != name for name in names)
