"""A node's own interface to its files: ``/_node/{name}/_dbs``, ``_nodes``, ``shards%2F…``.

As recorded, and as probed on CouchDB 3.5.2 where the recordings are silent.
"""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from couchdiscover.sandbox.couchdb.answers import (
    OK,
    bad_request,
    conflict,
    crash,
    fault,
    missing,
    not_allowed,
)
from couchdiscover.sandbox.couchdb.databases import (
    body_object,
    change_setting,
    listing,
    local_document,
    setting_of,
    shown,
)
from couchdiscover.sandbox.couchdb.documents import ConflictError, Json, edit
from couchdiscover.sandbox.couchdb.member import Member
from couchdiscover.sandbox.couchdb.network import Network
from couchdiscover.sandbox.couchdb.volume import SHARD_PATH, File
from couchdiscover.sandbox.http import Request, Response


def all_files(request: Request, node: Member) -> Response:
    """Answers ``_all_dbs``: the names of all files of the node, whether a map names them or not."""
    if request.method not in ("GET", "HEAD"):
        raise not_allowed("GET", "HEAD")
    return Response(200, node.volume.paths)


def need_room(node: Member) -> None:
    """Raises the 500 of a node whose volume is full, which names ``enospc``."""
    if node.full_volume:
        raise crash("badmatch", "{{badmatch,{error,enospc}},[]}")


def answer(
    request: Request, network: Network, node: Member, path: str, below: list[str]
) -> Response:
    """Answers a request for one of the node's files; raises RefusalError."""
    file = node.volume.file(path)
    if request.method not in ("GET", "HEAD"):
        need_room(node)
    if not below and request.method in ("PUT", "DELETE"):
        return _make(request, network, node, path) if request.method == "PUT" else _drop(node, path)
    if file is None:
        raise missing("no_db_file")
    match request.method, below:
        case "GET" | "HEAD", []:
            return Response(200, _info(path, file))
        case "GET" | "HEAD", ["_all_docs"]:
            return Response(200, listing([file], request.query))
        case "GET" | "HEAD", ["_changes"]:
            return Response(200, _changes(file, request.query))
        case "POST", ["_revs_diff"]:
            return Response(200, _revs_diff(request, file))
        case "GET" | "HEAD", ["_local_docs"]:
            return Response(200, _local_docs(file, request.query))
        case "GET" | "HEAD", ["_security" | "_revs_limit" as setting]:
            return Response(200, setting_of(file, setting))
        case "PUT", ["_security" | "_revs_limit" as setting]:
            change_setting(request, file, setting)
            return Response(200, OK)
        case _, ["_local", name]:
            response = local_document(request, [file], name)
            if response.status != 201:
                return response
            return Response(201, response.body, _location(request, node, path, f"_local/{name}"))
        case _, [doc_id] if not doc_id.startswith("_"):
            return _document(request, network, node, path, file, doc_id)
        case _, ["_replicator" | "_users" | "_global_changes" as doc_id] if path == "_dbs":
            return _document(request, network, node, path, file, doc_id)
        case _, ["_design", name]:
            return _document(request, network, node, path, file, f"_design/{name}")
        case _, []:
            raise not_allowed("DELETE", "GET", "HEAD", "POST", "PUT")
    raise missing()


def _location(request: Request, node: Member, path: str, doc_id: str = "") -> dict[str, str]:
    host = request.headers.get("host", node.host)
    place = "/".join(quote(part, safe="") for part in (path, doc_id) if part)
    return {"location": f"http://{host}/{place}"}


def _make(request: Request, network: Network, node: Member, path: str) -> Response:
    if node.volume.file(path) is not None:
        reason = "The database could not be created, the file already exists."
        raise fault(412, "file_exists", reason)
    if SHARD_PATH.fullmatch(path) is None:
        raise missing("no_db_file")
    node.volume.make(path, {}, node.name, network.wall())
    return Response(201, OK, _location(request, node, path))


def _drop(node: Member, path: str) -> Response:
    if node.volume.shards.pop(path, None) is None:
        raise missing()
    return Response(200, OK)


def _info(path: str, file: File) -> Json:
    count = len(file.live)
    content = sum(len(str(file.docs[doc_id].winner.body)) for doc_id in file.live)
    return {
        "db_name": path,
        "engine": "couch_bt_engine",
        "doc_count": count,
        "doc_del_count": len(file.docs) - count,
        "update_seq": file.update_seq,
        "purge_seq": file.purge_seq,
        "compact_running": False,
        "sizes": {"active": content, "external": content, "file": 4292 + 4096 * file.update_seq},
        "instance_start_time": str(int(file.opened * 1_000_000)),
        "disk_format_version": 8,
        "committed_update_seq": file.update_seq,
        "compacted_seq": 0,
        "props": file.props,
        "uuid": file.uuid,
    }


def _revs_diff(request: Request, file: File) -> Json:
    found: Json = {}
    for doc_id, revisions in body_object(request).items():
        document = file.get(doc_id)
        known: set[str] = set()
        for leaf in document.leaves if document is not None else ():
            digests = (leaf.digest, *leaf.ancestors)
            known |= {f"{leaf.position - age}-{digest}" for age, digest in enumerate(digests)}
        if missing_ones := [revision for revision in revisions if revision not in known]:
            found[doc_id] = {"missing": missing_ones}
    return found


def _changes(file: File, query: Mapping[str, str]) -> Json:
    try:
        since, limit = int(query.get("since", 0)), int(query.get("limit", len(file.docs)))
    except ValueError:
        raise bad_request("invalid_integer") from None
    results: list[Json] = []
    for seq, document in file.changes(since):
        if len(results) >= limit:
            break
        row: Json = {"seq": seq, "id": document.id, "changes": [{"rev": document.winner.name}]}
        if document.winner.deleted:
            row["deleted"] = True
        if query.get("include_docs") == "true":
            row["doc"] = shown(document, query)
        results.append(row)
    # Purges and settings raise the update sequence, and no last sequence tells of them.
    return {"results": results, "last_seq": results[-1]["seq"] if results else since}


def _local_docs(file: File, query: Mapping[str, str]) -> Json:
    rows = []
    first = _key(query.get("startkey", query.get("start_key", '""')))
    last = _key(query.get("endkey", query.get("end_key", '"\uffff"')))
    for name in sorted(file.local):
        body = file.local[name]
        if not first <= body["_id"] <= last:
            continue
        row: dict[str, Any] = {
            "id": body["_id"],
            "key": body["_id"],
            "value": {"rev": body["_rev"]},
        }
        if query.get("include_docs") == "true":
            row["doc"] = body
        rows.append(row)
    return {"total_rows": None, "offset": None, "rows": rows}


def _key(text: str) -> str:
    try:
        return str(json.loads(text))
    except ValueError:
        raise bad_request("invalid UTF-8 JSON") from None


def _document(
    request: Request, network: Network, node: Member, path: str, file: File, doc_id: str
) -> Response:
    match request.method:
        case "GET" | "HEAD":
            document = file.get(doc_id)
            if document is None:
                raise missing()
            if document.winner.deleted:
                raise missing("deleted")
            return Response(200, shown(document, request.query))
        case "PUT" | "DELETE":
            return edit_document(request, network, node, path, doc_id)
    raise not_allowed("DELETE", "GET", "HEAD", "PUT")


def edit_document(
    request: Request, network: Network, node: Member, path: str, doc_id: str
) -> Response:
    """Answers a PUT or a DELETE of a document in one of the node's files; raises RefusalError."""
    file = node.volume.file(path)
    if file is None:
        raise missing("no_db_file")
    deleted = request.method == "DELETE"
    body = {} if deleted else body_object(request)
    revision = body.pop("_rev", request.query.get("rev"))
    body.pop("_id", None)
    if deleted and file.get(doc_id) is None:
        raise missing()
    if path == "_dbs" and not deleted and node.release >= (3, 2):
        _check_map(body)
    try:
        document = edit(file.get(doc_id), doc_id, body, revision, deleted=deleted)
    except ConflictError:
        raise conflict() from None
    file.put(document)
    if path == "_nodes":
        network.member_changed(node, doc_id)
    elif path == "_dbs":
        network.spread(node, dbs=[doc_id])
    else:
        network.replication.written(node.name, path)
    done = {"ok": True, "id": doc_id, "rev": document.winner.name}
    if deleted:
        return Response(200, done)
    return Response(201, done, _location(request, node, path, doc_id))


def _check_map(body: Json) -> None:
    """A shard map must say the same by node and by range; raises a 403.

    Since 3.2.1 (CouchDB's source, src/mem3/src/mem3_bdu.erl). A map that loses a range is fine.
    """
    for key in ("by_node", "by_range"):
        if key not in body:
            raise fault(403, "forbidden", f"{key} is mandatory")
    for key in ("by_node", "by_range"):
        if not isinstance(body[key], dict):
            raise fault(403, "forbidden", f"{key} not an object")
    for mine, other in (("by_node", "by_range"), ("by_range", "by_node")):
        for name in sorted(body[mine]):
            for listed in body[mine][name]:
                reason = f"{other} for {listed} missing"
                if listed not in body[other]:
                    raise fault(403, "forbidden", reason)
                if name not in body[other][listed]:
                    raise fault(403, "forbidden", f"{reason} {name}")
