"""The official image: from an environment, files and arguments to a CouchDB node, or to none.

Facts from the image's ``docker-entrypoint.sh``, ``vm.args`` and ``10-docker-default.ini``
(github.com/apache/couchdb-docker, 2.3.1 to 3.5.1), CouchDB's reader of ini files (``config``
application) and the Erlang/OTP documentation of ``erl``.
"""

import posixpath
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from couchdiscover.sandbox import bitnami, scripts
from couchdiscover.sandbox.kubelet import Mount, expand

NEWEST = "3.5.2"
"""What a tag that names no whole version is taken for, where it allows it."""

_NEWEST = {
    (3, 5): "3.5.2", (3, 4): "3.4.3", (3, 3): "3.3.3", (3, 2): "3.2.3", (3, 1): "3.1.2",
    (3, 0): "3.0.1", (2, 3): "2.3.1", (2, 2): "2.2.0", (2, 1): "2.1.2", (1, 7): "1.7.2",
    (1, 6): "1.6.1", (3,): "3.5.2", (2,): "2.3.1", (1,): "1.7.2",
}  # fmt: skip
"""The last release of each line that the sandbox knows."""

_OFFICIAL = re.compile(r"((index\.)?docker\.io/)?(library/|apache/)?couchdb")
_COUCHDB = re.compile(r"(.*/)?couchdb-?[0-9.]*")

ETC = "/opt/couchdb/etc"
ZONE_SINCE = (3, 5, 1)
"""Since when CouchDB takes its zone from COUCHDB_ZONE."""
COOKIE_SINCE = (3, 2)
"""Since when the image acts on COUCHDB_ERLANG_COOKIE (the chart's values.yaml: 3.2.1)."""


@dataclass(frozen=True, slots=True)
class Image:
    """What an image's name tells."""

    version: str
    is_couchdb: bool
    is_official: bool
    note: str = ""
    is_bitnami: bool = False


@dataclass(frozen=True, slots=True)
class Boot:
    """How CouchDB starts. With ``crash`` it does not; ``notes`` are what is not certain of it."""

    version: str
    name: str
    cookie: str | None = field(repr=False)
    settings: Mapping[str, Mapping[str, str]] = field(repr=False)
    crash: str = ""
    notes: tuple[str, ...] = ()
    reads_all: bool = True
    """Whether everything that may configure it is known."""
    zone: str | None = None
    short_names: bool = False
    makes: tuple[str, ...] = ()
    """Databases that are made on it at its first start."""

    @property
    def is_distributed(self) -> bool:
        """Whether the node has a name by which others could connect to it."""
        return self.name != "nonode@nohost"


def parse_image(reference: str) -> Image:
    """``docker.io/library/couchdb:3.5`` → what runs in it, and how certain that is."""
    bare, _, digest = reference.partition("@")
    head, _, last = bare.rpartition("/")
    last, _, tag = last.partition(":")
    repository = f"{head}/{last}" if head else last
    official = _OFFICIAL.fullmatch(repository) is not None
    is_couchdb = official or _COUCHDB.fullmatch(repository) is not None
    found = re.search(r"couchdb-?v?([0-9]+(?:\.[0-9]+)+)", tag) or re.match(
        r"v?([0-9]+(?:\.[0-9]+){0,3})", tag
    )
    numbers = tuple(int(part) for part in found[1].split(".")[:3]) if found else ()
    # The version of somebody's image need not be CouchDB's.
    is_known = numbers[:1] in _NEWEST and (official or numbers >= (2,))
    notes = []
    if len(numbers) == 3 and is_known:
        version = ".".join(str(part) for part in numbers)
    else:
        lines = [_NEWEST.get(numbers[:length]) for length in (2, 1)] if is_known else []
        version = next((line for line in lines if line), NEWEST)
        if not is_known:
            what = f"the digest {digest[:19]}…" if digest else f"the tag {tag or 'latest'}"
            notes.append(f"{what} names no version of CouchDB: taken for {version}")
    is_bitnami = bitnami.IMAGE.fullmatch(repository) is not None
    if is_bitnami:
        notes.append("it is Bitnami's: played by its variables")
    elif not official:
        notes.append("it is not the official image: played as if it were")
    note = f"image {reference}: {'; '.join(notes)}" if notes else ""
    return Image(version, is_couchdb, official, note, is_bitnami)


def parse_ini(text: str) -> dict[str, dict[str, str]]:
    """An ini file as CouchDB reads it: one line a value, trimmed, cut at `` ;``."""
    found: dict[str, dict[str, str]] = {}
    section = ""
    for raw in re.split(r"\r\n|\n|\r|\x1a", text):
        line = re.split(r"[ \t];", raw.strip())[0].strip()
        if not line or line.startswith(";"):
            continue
        if line.startswith("["):
            name, closed, rest = line[1:].partition("]")
            if name and closed and not rest:
                section = name
            continue
        key, sign, value = line.partition(" = ")
        if not sign:
            key, sign, value = line.partition("=")
        if section and sign and key.strip() and value.strip():
            found.setdefault(section, {})[key.strip()] = value.strip()
    return found


def boot(
    container: Mapping[str, Any],
    variables: Mapping[str, str],
    arguments: Sequence[str],
    mounted: Sequence[Mount],
    hosts: tuple[str, str],
) -> Boot:
    """How the container starts: ``hosts`` are its full and its short host name."""
    image = parse_image(str(container.get("image") or ""))
    release = tuple(int(part) for part in image.version.split("."))
    notes = [image.note] if image.note else []
    makes: tuple[str, ...] = ()
    etc = bitnami.ETC if image.is_bitnami else ETC
    files, unknown, crash = _configuration(mounted, etc)
    notes += unknown
    extra: list[str] = []
    if container.get("command"):
        words = [expand(str(word), variables) for word in container["command"]]
        variables, extra = scripts.settings(" ".join([*words, *arguments]), variables, hosts)
        notes.append(
            f"container {container['name']} has a command of its own, which is not played but for "
            "the NODENAME and the Erlang flags that it sets: it is taken to start CouchDB as the "
            "image's entry point does"
        )
        arguments, crash = (), ""
    if image.is_bitnami:
        variables = bitnami.as_official(bitnami.with_files(variables, mounted))
        makes = (
            scripts.SYSTEM_DBS if variables.get("COUCHDB_CREATE_DATABASES", "yes") == "yes" else ()
        )
        files.setdefault("default.d/10-bitnami.ini", bitnami.ini(variables))
        if not crash and not variables.get("COUCHDB_PASSWORD"):
            crash = "the image ends at once: COUCHDB_PASSWORD is not set, or empty"
    docker = posixpath.join("local.d", "docker.ini")
    local = [text for path, text in files.items() if path == "local.ini" or _is_local(path)]
    files[docker] = files.get(docker, "") + _additions(variables, local, release)
    is_plain = release >= (3, 0) and not container.get("command")
    if not crash and is_plain and not _has_admin(files):
        crash = (
            "the image ends at once without an administrator: COUCHDB_USER and COUCHDB_PASSWORD "
            f"are not both set in container {container['name']}"
        )
    settings: dict[str, dict[str, str]] = {}
    for path in sorted(files, key=_order):
        if path.endswith(".ini"):
            for section, values in parse_ini(files[path]).items():
                settings.setdefault(section, {}).update(values)
    if not crash and is_plain and not settings.get("admins"):
        crash = (
            "CouchDB ends at once: its ini files make no administrator ([admins] NAME = PASSWORD, "
            "in one line: is a line break in COUCHDB_USER?)"
        )
    flags = _flags(files.get("vm.args", ""), variables, [*arguments, *extra])
    name, problem = _name(flags, hosts)
    cookie = next((value for flag, value in flags if flag == "-setcookie" and value), None)
    if cookie is None and release >= COOKIE_SINCE:
        cookie = variables.get("COUCHDB_ERLANG_COOKIE") or None
    return Boot(
        version=image.version,
        name=name,
        cookie=cookie,
        settings=settings,
        crash=crash or problem,
        notes=tuple(notes),
        reads_all=image.is_official and not unknown and not container.get("command"),
        zone=(variables.get("COUCHDB_ZONE") or None) if release >= ZONE_SINCE else None,
        short_names=any(flag == "-sname" for flag, _ in flags),
        makes=makes,
    )


def _configuration(
    mounted: Sequence[Mount], etc: str = ETC
) -> tuple[dict[str, str], list[str], str]:
    """The files below etc, what of it is unknown, and why the entry point would fail."""
    files = {"default.d/10-docker-default.ini": "[chttpd]\nbind_address = any\n"}
    if etc != ETC:
        files = {}
    notes = []
    crash = ""
    for mount in mounted:
        inside = posixpath.relpath(mount.path, etc)
        if inside.startswith(".."):
            continue
        below = "" if inside == "." else f"{inside}/"
        if mount.is_file:
            files[inside] = mount.files[""]
            continue
        if mount.unknown:
            notes.append(f"what is mounted at {mount.path} ({mount.unknown}) cannot be read")
            continue
        for path in [path for path in files if path.startswith(below)]:
            del files[path]
        files |= {f"{below}{path}": text for path, text in mount.files.items()}
        if mount.read_only and inside in (".", "local.d"):
            crash = (
                f"the image ends at once: what is mounted at {mount.path} is read-only, and its "
                "entry point writes local.d/docker.ini there (mount single files by subPath)"
            )
    return files, notes, crash


def _is_local(path: str) -> bool:
    return path.startswith("local.d/") and path.endswith(".ini") and path.count("/") == 1


def _order(path: str) -> tuple[int, str]:
    """CouchDB reads default.d, then local.ini, then local.d, each by name; the last one wins."""
    order = ("default.ini", "default.d", "local.ini", "local.d")
    folder = path.partition("/")[0]
    return order.index(folder) if folder in order else 0, path


def _additions(variables: Mapping[str, str], local: Sequence[str], release: tuple[int, ...]) -> str:
    """What the entry point appends to docker.ini."""
    user, password = variables.get("COUCHDB_USER"), variables.get("COUCHDB_PASSWORD")
    found = ""
    if user and password and not any(f"[admins]\n{user} =" in text for text in local):
        found += f"\n[admins]\n{user} = {password}\n"
    secret = variables.get("COUCHDB_SECRET")
    section = "chttpd_auth" if release >= (3, 2) else "couch_httpd_auth"
    if secret and not any(f"[{section}]\nsecret =" in text for text in local):
        found += f"\n[{section}]\nsecret = {secret}\n"
    return found


def _has_admin(files: Mapping[str, str]) -> bool:
    looked_at = ("default.d/", "local.d/")
    return any(
        re.search(r"\[admins\]\n[^;]\w+", text)
        for path, text in files.items()
        if path == "local.ini" or (path.startswith(looked_at) and path.endswith(".ini"))
    )


# --- Erlang's flags ---


def _flags(
    vm_args: str, variables: Mapping[str, str], arguments: Sequence[str]
) -> list[tuple[str, str]]:
    """Flags and their first values, in the order in which Erlang sees them.

    ``erl`` puts ERL_AFLAGS before and ERL_FLAGS and ERL_ZFLAGS behind the command line. Of several
    ``-name`` the first one counts.
    """
    lines = [re.sub(r"(^|\s)#.*", "", line) for line in vm_args.splitlines()]
    of_file = _words(" ".join(lines))
    if variables.get("NODENAME") and "couchdb@" not in vm_args:
        of_file += ["-name", f"couchdb@{variables['NODENAME']}"]
    words = [
        *_words(variables.get("ERL_AFLAGS", "")),
        *of_file,
        *arguments,
        *_words(variables.get("ERL_FLAGS", "")),
        *_words(variables.get("ERL_ZFLAGS", "")),
    ]
    found = []
    for at, word in enumerate(words):
        following = words[at + 1] if at + 1 < len(words) else ""
        if word.startswith("-"):
            found.append((word, "" if following.startswith(("-", "+")) else following))
    return found


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


def _name(flags: Sequence[tuple[str, str]], hosts: tuple[str, str]) -> tuple[str, str]:
    """The node's name, and why Erlang does not start with it."""
    full, short = hosts
    for wanted, host in (("-sname", short), ("-name", full)):
        given = next((value for flag, value in flags if flag == wanted and value), None)
        if given is None:
            continue
        if wanted == "-name" and "@" not in given and "." not in host:
            return given, f"Erlang does not start with -name {given}: {host} is no full host name"
        name = given if "@" in given else f"{given}@{host}"
        if wanted == "-sname" and "." in name.partition("@")[2]:
            return name, f"Erlang does not start with -sname {name}: a short name has no dot"
        if name.count("@") != 1 or not all(name.split("@")) or re.search(r"\s", name):
            return name, f"Erlang does not start with the name {name!r}: it takes one name@host"
        return name, ""
    return "nonode@nohost", ""
