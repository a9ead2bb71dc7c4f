"""A cluster that was, and pods that have started on its volumes under other names."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from couchdiscover.adopt import adopt
from couchdiscover.net.deadline import Deadline
from couchdiscover.output.report import Record
from couchdiscover.sandbox import Sandbox
from couchdiscover.state.settings import Settings
from tests.support.command import PASSWORD, REAL_PASSWORD, Command
from tests.support.processes import Ended
from tests.support.volumes import Caller, Snapshot, fill, mount, snapshots, start

Make = Callable[..., Sandbox]
"""What the fixture ``sandbox`` is."""

DATABASES = {"db": 3, "one": 1, "two": 2}
"""Databases, and how many copies each has."""

DOCUMENTS = 12
"""In each database, beside a design document."""


def caller(box: Sandbox) -> Caller:
    """Whoever asks its nodes, as its administrator."""
    return Caller(box, REAL_PASSWORD if box.is_real else PASSWORD)


@dataclass
class Original:
    """A cluster that was, and its volumes."""

    volumes: Sequence[Snapshot]
    databases: Mapping[str, int] = field(default_factory=lambda: DATABASES)

    def restored(
        self, make: Make, at: Sequence[int | None], *, namespace: str = "restored", **options: Any
    ) -> Sandbox:
        """Pods of another namespace that have started on these volumes; None is an empty one."""
        box = make(len(at), namespace=namespace, running=False, **options)
        mount(box, [None if each is None else self.volumes[each] for each in at])
        start(box)
        return box


_made: dict[object, "Original"] = {}
"""The simulated clusters that were assembled and filled before, by what they were made of."""


def original(
    make: Make,
    couchdiscover: Command,
    folder: Path,
    nodes: int = 3,
    databases: Mapping[str, int] = DATABASES,
    **options: Any,
) -> Original:
    """Assembles a cluster in namespace ``prod``, fills it, and takes snapshots of its volumes.

    Once for all tests that want the same of simulated nodes: whoever starts on a snapshot starts on
    a copy of it.
    """
    given = make.keywords if isinstance(make, functools.partial) else {}
    key = repr((nodes, sorted(databases.items()), sorted({**given, **options}.items())))
    if key in _made:
        return _made[key]
    box, _ = filled(make, couchdiscover, databases, nodes, **options)
    forget_marks(box)
    found = Original(snapshots(box, folder), databases)
    for pod in box.pods:
        box.stop(pod)
    if not box.is_real:
        _made[key] = found
    return found


def filled(
    make: Make,
    couchdiscover: Command,
    databases: Mapping[str, int],
    nodes: int = 3,
    **options: Any,
) -> tuple[Sandbox, Caller]:
    """A cluster in namespace ``prod`` with these databases, and who asks it."""
    box = make(nodes, **{"namespace": "prod", **options})
    assert couchdiscover("run", environment=box.environment()).code == 0
    call = caller(box)
    fill(call, box.pods[0], databases, DOCUMENTS)
    return box, call


def forget_marks(box: Sandbox) -> None:
    """Deletes the marks: CouchDB's own history and the files must do."""
    call = caller(box)
    for pod in box.pods:
        path = "/_node/_local/_dbs/_local/couchdiscover"
        status, mark = call(pod, "GET", path)
        if status == 200:
            assert call(pod, "DELETE", f"{path}?rev={mark['_rev']}")[0] == 200


def run(couchdiscover: Command, box: Sandbox, *arguments: str) -> Ended:
    """``adopt`` with a JSON result."""
    return couchdiscover("adopt", "-o", "json", *arguments, environment=box.environment())


def kinds(ended: Ended) -> list[str]:
    """The kinds of the steps that were taken, in their order."""
    return [step["step"] for step in ended.json["steps"]]


def readable(
    box: Sandbox, databases: Mapping[str, int] = DATABASES, but: Sequence[str] = ()
) -> None:
    """Every document is there through every node, and every map names files that are there.

    ``but`` are databases whose maps may name others.
    """
    call = caller(box)
    for pod in box.pods:
        for database in databases:
            assert call.count(pod, database) == DOCUMENTS + 1, (pod, database)
            assert call.get(pod, f"/{database}/d3")["number"] == 3
        assert call.get(pod, "/_users/org.couchdb.user:bob")["name"] == "bob"
    truthful(box, but)


def truthful(box: Sandbox, but: Sequence[str] = ()) -> None:
    """The maps are the same on all nodes, without conflicts, and name files that are there."""
    call = caller(box)
    names = {call.name(pod): pod for pod in box.pods}
    files = {pod: set(call.get(pod, "/_node/_local/_all_dbs")) for pod in box.pods}
    maps = [call.maps(pod) for pod in box.pods]
    assert all(each == maps[0] for each in maps)
    for database, document in maps[0].items():
        assert "_conflicts" not in document
        if database in but:
            continue
        suffix = "".join(map(chr, document["shard_suffix"]))
        by_node: dict[str, list[str]] = {}
        for range_, holders in document["by_range"].items():
            assert holders
            assert len(set(holders)) == len(holders)
            for name in holders:
                by_node.setdefault(name, []).append(range_)
                assert f"shards/{range_}/{database}{suffix}" in files[names[name]]
        assert {name: sorted(ranges) for name, ranges in document["by_node"].items()} == {
            name: sorted(ranges) for name, ranges in by_node.items()
        }


def nothing_left(couchdiscover: Command, box: Sandbox) -> None:
    """The same again writes nothing."""
    before = 0 if box.is_real else len(box.writes())
    again = run(couchdiscover, box)
    assert (again.code, again.json["steps"]) == (0, [])
    if not box.is_real:
        assert len(box.writes()) == before


def in_process(box: Sandbox) -> str:
    """``adopt``, in this very process; returns what it says at its end."""
    settings = Settings(
        statefulset=box.deployment.statefulset,
        namespace=box.deployment.namespace,
        kubeconfig=str(box.kubeconfig),
    )
    return adopt(settings, Deadline(60), Record("adopt"))
