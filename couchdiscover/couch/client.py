"""CouchDB's HTTP interface: one method per endpoint, no policy.

The only place that talks to CouchDB. Whatever goes wrong is raised as ``CouchFailure``.
"""

import json as jsonlib
import re
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard
from urllib.parse import quote, urlencode

import requests
from requests.auth import HTTPBasicAuth

from couchdiscover import __version__
from couchdiscover.errors import Denied
from couchdiscover.net.deadline import Deadline
from couchdiscover.net.http import AnswerTooLarge, BoundedAdapter, Door, Gateway, explain, refused
from couchdiscover.output.log import LOGGER
from couchdiscover.output.redaction import Redactor
from couchdiscover.state.nodes import DEFAULT_DATABASES, SetupState
from couchdiscover.state.topology import Address, Credentials, Pod
from couchdiscover.state.volumes import Checkpoint, FileInfo, Mark, ShardFile, ShardMap, Trace

SAMPLE = 25
"""Documents looked at to tell whether a system database holds more than its design documents."""

MARK = "_local/couchdiscover"
"""The local document in a node's own ``_dbs`` that says which node the volume was verified as."""

SYNC_DOCUMENTS = ("_local/shard-sync-", "_local/purge-mem3-")
"""How the names of internal replication's checkpoints begin: of changes, of purges (CouchDB's
source, src/mem3/src/mem3_rep.erl)."""

OWN_FILES = frozenset({"_dbs", "_nodes", "_users", "_replicator", "_metadata"})
"""Files that each node makes for itself: no copies of anything (CouchDB's default.ini)."""


class CouchFailure(Exception):
    """A request that did not do what it was to do. The text says what came instead."""


class NoAnswer(CouchFailure):
    """Nothing came that CouchDB could have sent, or more of it than is taken.

    ``nobody`` is true where nobody listens, ``too_large`` where asking for less may help.
    """

    def __init__(self, text: str, *, nobody: bool = False, too_large: bool = False) -> None:
        super().__init__(text)
        self.nobody = nobody
        self.too_large = too_large


class ErrorAnswer(CouchFailure):
    """CouchDB answered with an error."""

    def __init__(self, request: str, status: int, error: str, reason: str) -> None:
        super().__init__(f"{request} was answered {status} {error}: {reason}")
        self.status = status
        self.reason = reason
        self.status_word = ""
        """What ``/_up`` gives as the status, in an answer that has no error."""


@dataclass(frozen=True, slots=True)
class Access:
    """How CouchDB is reached: ``verify`` is a CA file, or whether to verify at all; seconds.

    ``door`` leads to the pods through the Kubernetes API server; None where they are near.
    """

    credentials: Credentials
    scheme: str = "http"
    verify: bool | str = True
    request_timeout: float = 5.0
    door: Door | None = None


class CouchNode:
    """One node, over one keep-alive connection. Not for two threads at once.

    With a gateway it is asked through that, with a session of CouchDB's: whatever stands in between
    keeps the Authorization header for itself. A node without a chttpd_auth secret would be changed
    by the session, so that this is for nodes only that have one. With the Erlang name of a
    ``member`` that it is connected to, it is that one's volume which is read through this node.
    """

    def __init__(
        self,
        address: Address,
        host_name: str,
        access: Access,
        deadline: Deadline,
        gateway: Gateway | None = None,
        member: str = "_local",
    ):
        self.address = address
        self._at = f"/_node/{quote(member, safe='@')}"
        self.version: str | None = None
        self._access = access
        self._deadline = deadline
        self._gateway = gateway
        self._logged_in = False
        self._redactor = Redactor()  # an error may repeat what was sent, and is cut short after
        user, password = access.credentials.user, access.credentials.password
        self._redactor.hide(password, f"{user}:{password}")
        self._base = gateway.url if gateway else f"{access.scheme}://{address}"
        session = gateway.session if gateway else _direct_session(access, host_name)
        session.headers.update(
            {
                "Accept": "application/json",  # with text/html a 401 becomes a redirect
                "Accept-Encoding": "identity",
                "User-Agent": f"couchdiscover/{__version__}",
            }
        )
        if host_name and gateway is None:
            session.headers["Host"] = f"{host_name}:{address.port}"
        self._session = session

    def close(self) -> None:
        """Closes the connection."""
        self._session.close()

    # --- reading ---

    def welcome(self) -> None:
        """The welcome message, upon which a node that has no uuid makes itself one."""
        self._get("/")

    def local_name(self) -> str:
        """The node's Erlang name."""
        path = "/_node/_local"
        name: str = _member(self._get(path), "name", str, path)
        if "@" not in name or not name.isprintable():
            raise NoAnswer(f"GET {path} gave no Erlang name")
        return name

    def setup_state(self, databases: Collection[str] = DEFAULT_DATABASES) -> SetupState:
        """How far the node is set up; finished only where ``databases`` can be opened from it."""
        path = "/_cluster_setup"
        if set(databases) != set(DEFAULT_DATABASES):
            path += "?" + urlencode({"ensure_dbs_exist": jsonlib.dumps(sorted(databases))})
        state = _member(self._get(path), "state", str, path)
        try:
            return SetupState(state)
        except ValueError:
            raise NoAnswer(f"GET {path} gave a state that is not known here") from None

    def membership(self) -> tuple[frozenset[str], frozenset[str]]:
        """``all_nodes`` (connected) and ``cluster_nodes`` (members), as this node knows them."""
        path = "/_membership"
        answer = self._get(path)
        return _names(answer, "all_nodes", path), _names(answer, "cluster_nodes", path)

    def databases(self) -> frozenset[str]:
        """The names of all databases that this node knows of."""
        path = "/_all_dbs"
        return _strings(self._get(path), path)

    def holds_documents(self, database: str) -> bool:
        """Whether a database has a document that is no design document."""
        path = f"/{quote(database, safe='')}/_all_docs?limit={SAMPLE}"
        rows = _member(self._get(path), "rows", list, path)
        ids = [row.get("id", "") if isinstance(row, dict) else "" for row in rows]
        return len(ids) >= SAMPLE or any(not str(i).startswith("_design/") for i in ids)

    def config(self) -> Mapping[str, Mapping[str, str]]:
        """The node's whole configuration: sections of keys. It holds secrets."""
        path = "/_node/_local/_config"
        sections = _object(self._get(path), path)
        return {
            name: {key: value for key, value in keys.items() if _is_text(value)}
            for name, keys in sections.items()
            if isinstance(keys, dict)
        }

    def uptime(self) -> float:
        """Seconds since the node started."""
        path = "/_node/_local/_system"
        seconds: int = _member(self._get(path), "uptime", int, path)
        return float(min(seconds, 10**12))  # a number from outside may be too large for a float

    def shard_maps(self, limit: int, after: str | None = None) -> list[ShardMap]:
        """A page of the shard maps that this node knows of, by database, from behind ``after``."""
        path = "/_node/_local/_dbs/_all_docs"
        query = {"include_docs": "true", "conflicts": "true", "limit": limit}
        if after is not None:
            query |= {"startkey": jsonlib.dumps(after), "skip": 1}
        rows = _member(self._get(f"{path}?{urlencode(query)}"), "rows", list, path)
        return [_shard_map(row, path) for row in rows]

    def up(self) -> str:
        """The node's own word on whether it is to get requests: ``ok``, or why not."""
        try:
            return plain(_member(self._get("/_up"), "status", str, "/_up"), 64)
        except ErrorAnswer as failure:
            if failure.status != 404:
                raise
            return failure.status_word or "not up"

    # --- reading the volume ---

    def files(self) -> frozenset[ShardFile]:
        """Every database file on this node's volume, named by a map or not."""
        path = f"{self._at}/_all_dbs"
        names = _strings(self._get(path), path)
        return frozenset(ShardFile.of(name) for name in names - OWN_FILES)

    def dbs_info(self, name: str = "") -> FileInfo:
        """Of a node's own ``_dbs``: its uuid above all. ``name`` may be another node's."""
        path = f"/_node/{quote(name, safe='@')}/_dbs" if name else f"{self._at}/_dbs"
        return _file_info(self._get(path), path)

    def mark_and_traces(self) -> tuple[Mark | None, tuple[Trace, ...]]:
        """The mark, if there is one, and who CouchDB itself remembers to have replicated with."""
        path = f"{self._at}/_dbs/_local_docs"
        rows = _member(self._get(f"{path}?include_docs=true"), "rows", list, path)
        documents = [row.get("doc") for row in rows if isinstance(row, dict)]
        known = [each for each in documents if isinstance(each, dict)]
        marks = [_mark(each) for each in known if each.get("_id") == MARK]
        traces = {trace for each in known for trace in _traces(each)}
        order = sorted(traces, key=lambda trace: (trace.at, trace.node, trace.uuid), reverse=True)
        return (marks[0] if marks else None), tuple(order)

    def map_document(self, database: str) -> dict[str, Any]:
        """A shard map's whole document, unknown keys too, with its revisions and conflicts."""
        path = f"/_node/_local/_dbs/{quote(database, safe='')}"
        return _object(self._get(f"{path}?revs=true&conflicts=true"), path)

    def map_with_history(self, database: str) -> ShardMap:
        """A shard map with its document's revisions."""
        return shard_map_of(database, self.map_document(database))

    def node_documents(self) -> dict[str, dict[str, Any]]:
        """The documents of all members in this node's ``_nodes``, by Erlang name."""
        path = "/_node/_local/_nodes/_all_docs"
        rows = _member(self._get(f"{path}?include_docs=true"), "rows", list, path)
        found = {}
        for row in rows:
            name, document = _member(row, "id", str, path), row.get("doc")
            if not isinstance(document, dict) or not name.isprintable():
                raise NoAnswer(f"GET {path} gave a row without its document: not CouchDB")
            if not name.startswith("_design/"):
                found[name] = document
        return found

    def file_info(self, file: ShardFile) -> FileInfo:
        """What a file on this node holds. Raises ErrorAnswer with 404 where there is none."""
        path = self._path_of(file)
        return _file_info(self._get(path), path)

    def file_is_filled(self, file: ShardFile) -> bool:
        """Whether a file on this node has a document that is no design document."""
        path = f"{self._path_of(file)}/_all_docs"
        rows = _member(self._get(f"{path}?limit={SAMPLE}"), "rows", list, path)
        ids = [row.get("id", "") if isinstance(row, dict) else "" for row in rows]
        return len(ids) >= SAMPLE or any(not str(i).startswith("_design/") for i in ids)

    def file_changes_after(self, file: ShardFile, seq: int) -> bool:
        """Whether a document of a file changed after this sequence: purges and limits do not."""
        path = f"{self._path_of(file)}/_changes"
        return bool(_member(self._get(f"{path}?since={seq}&limit=1"), "results", list, path))

    def checkpoints(self, file: ShardFile) -> dict[str, Checkpoint]:
        """What a file knows of internal replication from and to it, by the documents' names."""
        path = f"{self._path_of(file)}/_local_docs"
        first, last = "_local/purge-mem3-", "_local/shard-sync-~"
        query = {"include_docs": "true", "startkey": f'"{first}"', "endkey": f'"{last}"'}
        rows = _member(self._get(f"{path}?{urlencode(query)}"), "rows", list, path)
        return {
            row["id"]: checkpoint
            for row in rows
            if isinstance(row, dict)
            and _is_word(row.get("id"))
            and (checkpoint := _checkpoint(row["id"], row.get("doc"))) is not None
        }

    def file_security(self, file: ShardFile) -> str:
        """A file's ``_security``, as a text that is equal where it says the same."""
        path = f"{self._path_of(file)}/_security"
        return jsonlib.dumps(_object(self._get(path), path), sort_keys=True)

    def file_documents(self, file: ShardFile, page: int) -> Iterator[dict[str, Any]]:
        """All documents of a file that are no design documents, read ``page`` at a time."""
        path = f"{self._path_of(file)}/_all_docs"
        query: dict[str, Any] = {"include_docs": "true", "limit": page}
        while True:
            rows = _member(self._get(f"{path}?{urlencode(query)}"), "rows", list, path)
            documents = [row.get("doc") for row in rows if isinstance(row, dict)]
            found = [each for each in documents if isinstance(each, dict) and "_id" in each]
            yield from (each for each in found if not str(each["_id"]).startswith("_design/"))
            if len(rows) < page or not found:
                return
            query |= {"startkey": jsonlib.dumps(found[-1]["_id"]), "skip": 1}

    def purged(self, database: str) -> dict[str, list[str]]:
        """Revisions that were purged, by the document's id, as far back as CouchDB remembers.

        Since CouchDB 3.4; before, 404.
        """
        path = f"/{quote(database, safe='')}/_purged_infos"
        found: dict[str, list[str]] = {}
        for each in _member(self._get(path), "purged_infos", list, path):
            revisions = found.setdefault(str(_member(each, "id", str, path)), [])
            revisions += map(str, _member(each, "revs", list, path))
        return found

    def file_lacks(
        self, file: ShardFile, revisions: Mapping[str, Sequence[str]]
    ) -> dict[str, list[str]]:
        """Those of some documents' revisions that a file on this node does not have."""
        path = f"{self._path_of(file)}/_revs_diff"
        answer = self._exchange("POST", path, {name: list(r) for name, r in revisions.items()})[1]
        if not isinstance(answer, dict):
            raise NoAnswer(f"POST {path} did not answer with documents: not CouchDB")
        return {name: _member(each, "missing", list, path) for name, each in answer.items()}

    def document(self, database: str, name: str) -> Mapping[str, Any]:
        """A document."""
        path = f"/{quote(database, safe='')}/{quote(name, safe='')}"
        return _object(self._get(path), path)

    # --- writing: the status of the answer, where it is no error ---

    def enable_cluster(self, node_count: int, bind_address: str) -> int:
        """Binds the node to an address that its peers reach; sets [cluster] n, to 3 at most.

        The administrator is not sent along: there is one, or this request would not be allowed, and
        CouchDB would hash the password anew (a second, and a hash unlike the other nodes').
        """
        return self._setup("enable_cluster", bind_address=bind_address, node_count=node_count)

    def enable_single_node(self, bind_address: str) -> int:
        """Sets the node up as a cluster of one."""
        return self._setup("enable_single_node", bind_address=bind_address)

    def finish_cluster(self, databases: Sequence[str]) -> int:
        """Makes the system databases and pushes this node's identity to every member."""
        if set(databases) == set(DEFAULT_DATABASES):
            return self._setup("finish_cluster")
        return self._setup("finish_cluster", ensure_dbs_exist=list(databases))

    def add_member(self, name: str, document: Mapping[str, Any] | None = None) -> int:
        """Makes another node, by its Erlang name, a member of this node's cluster.

        ``document`` are its ``zone`` and the like, where it is to have some from the start.
        """
        path = f"/_node/_local/_nodes/{quote(name, safe='@')}"
        return self._send("PUT", path, dict(document or {}))

    def delete_member(self, name: str, revision: str) -> int:
        """Takes a node out of this node's list of members, by its document's revision."""
        path = f"/_node/_local/_nodes/{quote(name, safe='@')}"
        return self._send("DELETE", f"{path}?{urlencode({'rev': revision})}")

    def put_map(self, database: str, document: Mapping[str, Any]) -> int:
        """Writes a shard map over the revision that ``document`` names; 409 if that is stale."""
        return self._send("PUT", f"/_node/_local/_dbs/{quote(database, safe='')}", dict(document))

    def put_mark(self, mark: Mark) -> int:
        """Leaves the mark on this node's volume, over whatever mark is there."""
        document = {
            "format": 1,
            "node": mark.node,
            "uuid": mark.uuid,
            "seen": {name: list(uuids) for name, uuids in mark.seen.items()},
            "at": mark.at,
        }
        if mark.was:
            document["was"] = list(mark.was)
        return self._send("PUT", f"/_node/_local/_dbs/{MARK}", document)

    def sync_shards(self, database: str) -> int:
        """Has each copy of a database pushed to every other one; returns before that is done."""
        return self._send("POST", f"/{quote(database, safe='')}/_sync_shards")

    def delete_local(self, file: ShardFile, name: str, revision: str) -> int:
        """Removes a local document of a file on this node."""
        query = urlencode({"rev": revision})
        return self._send("DELETE", f"{self._path_of(file)}/{name}?{query}")

    def create_database(self, name: str) -> int:
        """Makes a database."""
        return self._send("PUT", f"/{quote(name, safe='')}")

    def delete_database(self, name: str) -> int:
        """Removes a database with all that it holds."""
        return self._send("DELETE", f"/{quote(name, safe='')}")

    def store(self, database: str, name: str, document: Mapping[str, Any]) -> int:
        """Stores a new document; 202 where fewer than a majority of its copies took it."""
        path = f"/{quote(database, safe='')}/{quote(name, safe='')}"
        return self._send("PUT", path, dict(document))

    def log_in(self) -> int:
        """Opens a session, upon which CouchDB makes itself a chttpd_auth secret if it has none."""
        user, password = self._access.credentials.user, self._access.credentials.password
        return self._send("POST", "/_session", {"name": user, "password": password})

    def set_config(self, section: str, key: str, value: str, *, persist: bool = True) -> int:
        """Sets one value of the node's configuration; in memory only without ``persist``."""
        path = f"/_node/_local/_config/{quote(section, safe='')}/{quote(key, safe='')}"
        self._redactor.hide(value)
        headers = None if persist else {"X-Couch-Persist": "false"}
        return self._send("PUT", path, value, headers=headers)

    # --- sessions ---

    def session_cookie(self) -> str:
        """A session's cookie. Only for a node that has a secret: any other makes itself one."""
        self.log_in()
        cookie = self._session.cookies.get("AuthSession") or ""
        if self._gateway is None:
            self._session.cookies.clear()  # we log in by name and password
        if not cookie:
            raise NoAnswer("POST /_session opened no session")
        self._redactor.hide(cookie)
        return cookie

    def accepts_session(self, cookie: str) -> bool:
        """Whether the node takes a session that another one has opened."""
        self._redactor.hide(cookie)
        path = "/_session"
        try:
            answer = self._exchange(
                "GET", path, None, headers={"Cookie": f"AuthSession={cookie}"}, anonymous=True
            )[1]
        except ErrorAnswer as failure:
            if failure.status in (400, 401, 403):
                return False
            raise
        return bool(_member(answer, "userCtx", dict, path).get("name"))

    # --- the wire ---

    def _path_of(self, file: ShardFile) -> str:
        return f"{self._at}/{quote(file.path, safe='')}"

    def _setup(self, action: str, **arguments: Any) -> int:
        return self._send("POST", "/_cluster_setup", {"action": action, **arguments}, patient=True)

    def _get(self, path: str) -> Any:
        return self._exchange("GET", path, None)[1]

    def _send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        patient: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> int:
        status, answer = self._exchange(method, path, body, patient=patient, headers=headers)
        # A setting's former value is a string; everything else that CouchDB does it says is done.
        done = isinstance(answer, str) or (isinstance(answer, dict) and answer.get("ok") is True)
        if not done:
            what = f"{method} {path.partition('?')[0]}"
            raise NoAnswer(f"{what} was answered {status}, and not as done: not CouchDB")
        return status

    def _exchange(
        self,
        method: str,
        path: str,
        body: Any,
        *,
        patient: bool = False,
        headers: Mapping[str, str] | None = None,
        anonymous: bool = False,
    ) -> tuple[int, Any]:
        if self._gateway is None or path == "/_session":
            return self._request(
                method, path, body, patient=patient, headers=headers, anonymous=anonymous
            )
        fresh = not self._logged_in
        if fresh:
            self._open_session()
        try:
            return self._request(method, path, body, patient=patient, headers=headers)
        except ErrorAnswer as failure:
            if failure.status != 401 or fresh:
                raise
        self._open_session()  # a node that was restarted does not know the former one any more
        return self._request(method, path, body, patient=patient, headers=headers)

    def _open_session(self) -> None:
        self._logged_in = False
        self._session.cookies.clear()
        self.log_in()
        if "AuthSession" not in self._session.cookies:
            # Going on as nobody would end in a 401, and look as if the password were wrong.
            raise NoAnswer("POST /_session opened no session")
        self._logged_in = True

    def _request(
        self,
        method: str,
        path: str,
        body: Any,
        *,
        patient: bool = False,
        headers: Mapping[str, str] | None = None,
        anonymous: bool = False,
    ) -> tuple[int, Any]:
        # finish_cluster answers after 5.0 s where a member is not connected: that answer is wanted.
        seconds = max(self._access.request_timeout, 10.0) if patient else None
        timeout = self._deadline.cap(seconds or self._access.request_timeout)
        what = f"{method} {path.partition('?')[0]}"
        started = time.monotonic()
        try:
            response = self._session.request(
                method,
                self._base + path,
                json=body,
                headers=headers,
                auth=_nobody if anonymous else None,
                timeout=timeout,
                allow_redirects=False,
            )
        except (requests.RequestException, OSError, ValueError) as error:
            LOGGER.debug(f"{self.address} {what}: {explain(error)}")
            too_large = isinstance(error, AnswerTooLarge)
            raise NoAnswer(explain(error), nobody=refused(error), too_large=too_large) from error
        spent = (time.monotonic() - started) * 1000
        LOGGER.debug(f"{self.address} {what}: {response.status_code} after {spent:.0f} ms")
        self._note_version(response.headers.get("Server", ""))
        try:
            answer = jsonlib.loads(response.content)  # requests would guess at the encoding
        except (ValueError, RecursionError):
            answer = None
        if (
            self._gateway is not None
            and isinstance(answer, dict)
            and answer.get("kind") == "Status"
        ):
            message = self._shown(answer.get("message", ""), 200)
            raise _stopped(method, self._gateway, response.status_code, message)
        if not 200 <= response.status_code < 300:
            raise self._as_error(what, response.status_code, answer)
        if answer is None:
            raise NoAnswer(f"{what} was answered {response.status_code} without JSON: not CouchDB")
        return response.status_code, answer

    def _as_error(self, what: str, status: int, answer: Any) -> CouchFailure:
        """An error answer, cut, without control characters and secrets: it comes from outside."""
        if not isinstance(answer, dict):
            return NoAnswer(f"{what} was answered {status} without JSON: not CouchDB")
        error = self._shown(answer.get("error", ""), 80)
        failure = ErrorAnswer(what, status, error, self._shown(answer.get("reason", ""), 200))
        failure.status_word = self._shown(answer.get("status", ""), 64)
        return failure

    def _shown(self, text: object, limit: int) -> str:
        return plain(self._redactor.clean(str(text)), limit)

    def _note_version(self, server: str) -> None:
        if server.startswith("CouchDB/"):
            self.version = plain(server.removeprefix("CouchDB/").split(" ")[0], 32) or None


def _nobody(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Authenticates as nobody, where the session would send user and password."""
    return request


def _direct_session(access: Access, host_name: str) -> requests.Session:
    session = requests.Session()
    session.trust_env = False  # neither proxies nor netrc of the environment
    session.verify = access.verify
    tls_name = host_name if access.scheme == "https" else None
    session.mount(f"{access.scheme}://", BoundedAdapter(tls_name=tls_name or None))
    user, password = access.credentials.user, access.credentials.password
    session.auth = HTTPBasicAuth(user.encode(), password.encode())  # str is sent as latin-1
    return session


def _stopped(method: str, gateway: Gateway, status: int, message: str) -> CouchFailure | Denied:
    """The Kubernetes API server's own answer in CouchDB's place."""
    where = gateway.url.partition("/api/v1/")[2]
    verb = {"GET": "get", "POST": "create", "PUT": "update", "DELETE": "delete"}.get(method, method)
    if status in (401, 403):
        return Denied(
            f"the Kubernetes API does not allow to {verb} {where} ({status}); grant `{verb}` on "
            "pods/proxy (docs/kubernetes-access.md), or check from a Job"
        )
    if status == 404:
        return NoAnswer("its pod does not exist", nobody=True)
    return NoAnswer(f"the API server answered {status} in its place: {message}", nobody=True)


def _file_info(answer: Any, path: str) -> FileInfo:
    return FileInfo(
        _uuid(_member(answer, "uuid", str, path), path),
        documents=_member(answer, "doc_count", int, path),
        deleted=_member(answer, "doc_del_count", int, path),
        update_seq=_member(answer, "update_seq", int, path),
        purge_seq=_member(answer, "purge_seq", int, path),
    )


def _uuid(text: str, path: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{32}", text):
        raise NoAnswer(f"GET {path} gave no uuid: not CouchDB")
    return text


def _mark(document: dict[str, Any]) -> Mark | None:
    """The mark; None where it is none that this version can read: it is no evidence then."""
    seen = document.get("seen")
    if document.get("format") != 1 or not isinstance(seen, dict):
        return None
    if not _is_word(document.get("node")) or not _is_word(document.get("uuid")):
        return None
    was = document.get("was")
    return Mark(
        document["node"],
        document["uuid"],
        {name: _words(uuids) for name, uuids in seen.items() if _is_word(name)},
        plain(document.get("at", ""), 64),
        _words(was),
    )


def _is_word(value: object) -> TypeGuard[str]:
    return _is_text(value) and 0 < len(value) <= 512 and value.isprintable()


def _words(values: object) -> tuple[str, ...]:
    return tuple(each for each in values if _is_word(each)) if isinstance(values, list) else ()


def _entries(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The history of a checkpoint of internal replication."""
    history = document.get("history")
    groups = history.values() if isinstance(history, dict) else ()
    return [e for group in groups if isinstance(group, list) for e in group if isinstance(e, dict)]


def _traces(document: dict[str, Any]) -> list[Trace]:
    if not str(document.get("_id", "")).startswith("_local/shard-sync-"):
        return []
    return [
        Trace(entry[f"{side}_node"], entry[f"{side}_uuid"], plain(entry.get("timestamp", ""), 64))
        for entry in _entries(document)
        for side in ("source", "target")
        if _is_word(entry.get(f"{side}_node")) and _is_word(entry.get(f"{side}_uuid"))
    ]


def _checkpoint(name: str, document: Any) -> Checkpoint | None:
    """A checkpoint of changes or of purges; None where the document is something else."""
    if not isinstance(document, dict) or not name.startswith(SYNC_DOCUMENTS):
        return None
    seq = document.get("purge_seq" if name.startswith(SYNC_DOCUMENTS[1]) else "seq")
    if not isinstance(seq, int):
        return None
    return Checkpoint(seq, _reached(document), plain(document.get("_rev", ""), 64))


def _reached(document: dict[str, Any]) -> int:
    seqs = [entry.get("target_seq") for entry in _entries(document)]
    return max((seq for seq in seqs if isinstance(seq, int)), default=0)


def _shard_map(row: Any, path: str) -> ShardMap:
    database = _member(row, "id", str, path)
    document = row.get("doc")
    return shard_map_of(database, document if isinstance(document, dict) else {})


def shard_map_of(database: str, document: Mapping[str, Any]) -> ShardMap:
    """What a document of ``_dbs`` says; one that somebody wrote by hand may lack anything."""
    ranges = document.get("by_range")
    return ShardMap(
        plain(database, 256),
        {
            str(name): tuple(plain(holder, 256) for holder in holders)
            for name, holders in (ranges.items() if isinstance(ranges, dict) else ())
            if isinstance(holders, list)
        },
        conflicting=bool(document.get("_conflicts")),
        suffix=_suffix(document.get("shard_suffix")),
        revision=plain(document.get("_rev", ""), 128),
        history=_revisions(document.get("_revisions")),
        split=_was_split(document.get("changelog")),
    )


def _was_split(changelog: Any) -> bool:
    """Whether a map's changelog has a split (src/mem3/src/mem3_reshard_dbdoc.erl)."""
    entries = changelog if isinstance(changelog, list) else []
    return any(isinstance(entry, list) and entry[:1] == ["split"] for entry in entries)


def _revisions(told: Any) -> tuple[str, ...]:
    """A document's revisions, the newest first, as its ``_revisions`` tell them."""
    if not isinstance(told, dict):
        return ()
    start, ids = told.get("start"), told.get("ids")
    if not isinstance(start, int) or not isinstance(ids, list):
        return ()
    return tuple(f"{start - back}-{plain(each, 64)}" for back, each in enumerate(ids))


def _suffix(points: Any) -> str:
    """What ends the names of a database's files, written down as a list of code points."""
    if not isinstance(points, list) or not all(
        isinstance(p, int) and 32 < p < 127 for p in points[:64]
    ):
        return ""
    return "".join(map(chr, points[:64]))


def _is_text(value: object) -> TypeGuard[str]:
    """Whether it is a text that UTF-8 can hold: JSON can write halves of characters, too."""
    try:
        str(value).encode()
    except UnicodeEncodeError:
        return False
    return isinstance(value, str)


def plain(text: object, limit: int) -> str:
    """A text from outside in one line, cut, without control characters."""
    words = " ".join(str(text).split())[:limit]
    return "".join(character if character.isprintable() else "?" for character in words)


def _object(answer: Any, path: str) -> dict[str, Any]:
    if not isinstance(answer, dict):
        raise NoAnswer(f"GET {path} gave no JSON object: not CouchDB")
    return answer


def _member(answer: Any, key: str, kind: type, path: str) -> Any:
    value = _object(answer, path).get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise NoAnswer(f"GET {path} gave no {key!r}: not CouchDB")
    return value


def _names(answer: Any, key: str, path: str) -> frozenset[str]:
    return _strings(_member(answer, key, list, path), path)


def _strings(values: Any, path: str) -> frozenset[str]:
    # Line breaks and the like are in no name, and would forge lines of the log.
    try:
        printable = isinstance(values, list) and "".join(values).isprintable()
    except TypeError:
        printable = False
    if not printable:
        raise NoAnswer(f"GET {path} gave no list of names: not CouchDB")
    return frozenset(values)


class Fleet:
    """The connections to all nodes: one for each pod and address, kept for the whole run."""

    def __init__(self, access: Access, deadline: Deadline) -> None:
        self.access = access
        self._deadline = deadline
        self._nodes: dict[tuple[str, Address, str], CouchNode] = {}

    @property
    def patience(self) -> float:
        """Seconds within which a thread must be done with a node: all its questions, and more."""
        return self._deadline.cap(6 * self.access.request_timeout)

    def node(self, pod: Pod, address: Address, member: str = "_local") -> CouchNode:
        """The connection to a pod at one of its addresses.

        With a ``member``'s Erlang name, one of its own to read that one's volume through.
        """
        key = (pod.name, address, member)
        if key not in self._nodes:
            door = self.access.door
            gateway = door(pod.name, address.port) if door else None
            self._nodes[key] = CouchNode(
                address, pod.host_name, self.access, self._deadline, gateway, member
            )
        return self._nodes[key]

    def forget(self, pod: str) -> None:
        """Lets go of a pod's connections, for one that a thread may still be waiting on."""
        for key in [key for key in list(self._nodes) if key[0] == pod]:
            self._nodes.pop(key, None)
