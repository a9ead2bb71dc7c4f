"""Kubernetes' names, and the identity that a StatefulSet pod's name carries."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from couchdiscover.kube.names import (
    PodIdentity,
    is_label,
    is_subdomain,
    parse_host_name,
    parse_pod_name,
)

labels = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)
ordinals = st.integers(0, 2**31 - 1)
domains = st.lists(labels, min_size=1, max_size=3).map(".".join)


@given(statefulset=labels, ordinal=ordinals)
def test_a_pod_name_gives_back_what_it_was_made_of(statefulset: str, ordinal: int) -> None:
    name = f"{statefulset}-{ordinal}"
    assert parse_pod_name(name) == PodIdentity(name, statefulset, ordinal)


@given(statefulset=labels, ordinal=ordinals, service=labels, namespace=labels, domain=domains)
def test_a_host_name_gives_back_what_it_was_made_of(
    statefulset: str, ordinal: int, service: str, namespace: str, domain: str
) -> None:
    pod = f"{statefulset}-{ordinal}"
    expected = PodIdentity(pod, statefulset, ordinal, service, namespace, domain)
    host = f"{pod}.{service}.{namespace}.svc.{domain}"
    assert parse_host_name(host) == expected
    assert parse_host_name(host.upper() + ".") == expected


@given(st.text(max_size=80))
def test_any_text_is_a_name_or_not_and_never_an_error(text: str) -> None:
    found = parse_pod_name(text)
    if found is not None:
        assert f"{found.statefulset}-{found.ordinal}" == text
        assert is_subdomain(found.statefulset)
    parse_host_name(text)


@pytest.mark.parametrize(
    ("name", "statefulset", "ordinal"),
    [
        ("couchdb-0", "couchdb", 0),
        ("my-couch-12", "my-couch", 12),
        ("couch-1-2", "couch-1", 2),
        ("0-0", "0", 0),
        ("my.couch-3", "my.couch", 3),
    ],
)
def test_pod_names(name: str, statefulset: str, ordinal: int) -> None:
    assert parse_pod_name(name) == PodIdentity(name, statefulset, ordinal)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "couchdb",
        "couchdb-",
        "-0",
        "couchdb-00",  # Kubernetes writes no leading zeros
        "couchdb-01",
        "couchdb--0",  # a StatefulSet's name cannot end with a hyphen
        "couchdb-0\n",
        "couchdb_x-0",
        "CouchDB-0",
        "couchdb-x2kz9",  # a Deployment's or a Job's
        "couchdb-12345678901",
        "couchdb-٣",  # a digit, but not one of ours
    ],
)
def test_what_is_no_pod_of_a_statefulset(name: str) -> None:
    assert parse_pod_name(name) is None


@pytest.mark.parametrize(
    "host",
    [
        "couchdb-0",
        "couchdb-0.couchdb",
        "couchdb-0.couchdb.db.svc",
        "couchdb-0.couchdb.db.cluster.local",
        "couchdb.couchdb.db.svc.cluster.local",
        "couchdb-0..db.svc.cluster.local",
        "couchdb-0.couchdb.db.svc.cluster..local",
        "couchdb-0.couch_db.db.svc.cluster.local",
        "laptop-1.fritz.box",
        "localhost",
        "",
    ],
)
def test_what_is_no_host_name_of_such_a_pod(host: str) -> None:
    assert parse_host_name(host) is None


@pytest.mark.parametrize(
    ("name", "label", "subdomain"),
    [
        ("db", True, True),
        ("0", True, True),
        ("a" * 63, True, True),
        ("a" * 64, False, False),
        ("a.b", False, True),
        (".".join(["a" * 63] * 4)[:253], False, True),
        (".".join(["a" * 63] * 5), False, False),
        ("", False, False),
        ("-a", False, False),
        ("a-", False, False),
        ("a..b", False, False),
        ("A", False, False),
        ("a\n", False, False),
        ("../secrets/x", False, False),
        ("a%2fb", False, False),
        ("ü", False, False),
    ],
)
def test_labels_and_subdomains(name: str, label: bool, subdomain: bool) -> None:
    assert (is_label(name), is_subdomain(name)) == (label, subdomain)
