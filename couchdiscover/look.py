"""Discovery and observation, put together: one look at the StatefulSet and all of its nodes."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from couchdiscover.couch.client import Access, Fleet
from couchdiscover.couch.observer import Observer
from couchdiscover.decide.membership import match
from couchdiscover.errors import NotYet, UsageProblem
from couchdiscover.kube.client import Kube
from couchdiscover.kube.discovery import Discovery, find_target
from couchdiscover.net.deadline import Deadline
from couchdiscover.output.events import Narrator, hidden_pods
from couchdiscover.output.log import LOGGER
from couchdiscover.output.report import Record
from couchdiscover.state.nodes import ClusterView
from couchdiscover.state.settings import Settings
from couchdiscover.state.topology import Scope, Topology

TOPOLOGY_SECONDS = 1.0
"""The StatefulSet and its endpoints are read again this often, at most: the API server is
everybody's, and an address is published well before CouchDB listens there."""


@dataclass(slots=True)
class Outlook:
    """Looks, again and again, and fills the record. What it has found out once, it keeps."""

    settings: Settings
    deadline: Deadline
    record: Record
    narrator: Narrator
    on_secret: Callable[[str, str], None]
    _discovery: Discovery | None = None
    _observer: Observer | None = None
    _topology: Topology | None = None
    _read_at: float = 0.0
    _strangers: frozenset[str] = frozenset()

    def look(self, *, quick: bool = False) -> tuple[Topology, ClusterView]:
        """Reads the StatefulSet, now and then, and asks every node. Raises NotYet."""
        while True:
            topology, view = self._look(quick)
            if not self._has_grown(topology, view):
                return topology, view

    def _look(self, quick: bool) -> tuple[Topology, ClusterView]:
        observer = self._observe(self._discover())
        topology = self._topology
        if topology is None or time.monotonic() - self._read_at >= TOPOLOGY_SECONDS:
            topology = self.read()
        self.record.topology = topology
        self.narrator.warn(topology.warnings)
        if topology.unpublished and topology.own:
            self.narrator.warn([hidden_pods(topology)])
        view = self.record.view = observer.look(topology, quick=quick)
        self.narrator.seen(view)
        return topology, view

    def _has_grown(self, topology: Topology, view: ClusterView) -> bool:
        """Whether the StatefulSet is another by now, where members appear that are no pod of it.

        One that another run has added in a scale-up would look like one that a scale-down has left.
        Raises NotYet.
        """
        members = frozenset().union(*{node.cluster_nodes for node in view.nodes})
        strangers = frozenset(match(topology, view, members).strangers)
        if strangers <= self._strangers or self.deadline.passed:
            return False
        self._strangers = strangers
        return self.read().expected != topology.expected

    def read(self) -> Topology:
        """The StatefulSet and its endpoints as they are now. Raises NotYet."""
        self._topology = self._discover().topology()
        self._read_at = time.monotonic()
        return self._topology

    @property
    def scope(self) -> Scope:
        """Whose membership this is about."""
        return self._discover().target.scope

    @property
    def observer(self) -> Observer:
        """Who asks the nodes."""
        return self._observe(self._discover())

    def _discover(self) -> Discovery:
        if self._discovery is None:
            settings = self.settings
            kube = Kube(
                self.deadline,
                kubeconfig=settings.kubeconfig,
                context=settings.context,
                request_timeout=settings.request_timeout,
            )
            target = find_target(settings, kube)
            self.record.namespace, self.record.statefulset = target.namespace, target.statefulset
            self._discovery = Discovery(kube, settings, target)
            LOGGER.info(
                f"StatefulSet {target.statefulset} in {target.namespace}, scope {target.scope}"
                + (f" ({target.own.pod})" if target.own else "")
            )
        return self._discovery

    def _observe(self, discovery: Discovery) -> Observer:
        if self._observer is None:
            settings = self.settings
            credentials = discovery.credentials()
            self.on_secret(credentials.user, credentials.password)
            access = Access(credentials, settings.scheme, settings.verify, settings.request_timeout)
            if settings.via == "api-proxy":
                access = _through_the_api(access, discovery)
            self._observer = Observer(
                Fleet(access, self.deadline),
                self.deadline,
                discovery.target.scope,
                settings.databases,
                foresees=settings.dry_run,
                only_looks=settings.dry_run or self.record.command != "run",
            )
        return self._observer


def _through_the_api(access: Access, discovery: Discovery) -> Access:
    """The same, through the API server's pod proxy.

    The proxy keeps the Authorization header, so this needs CouchDB's sessions, and opening one on a
    node that has no secret makes it set one: looking would change it. Whether a node has one can be
    seen neither without logging in nor from outside, so it must be known beforehand.
    """
    if discovery.has_older_pods():
        raise NotYet(
            f"pods of StatefulSet {discovery.target.statefulset} may still run an older revision, "
            "of which it is not known whether it sets COUCHDB_SECRET: --via api-proxy, which opens "
            "a session at each node, would change a node that has none"
        )
    if not discovery.sets_secret():
        raise UsageProblem(
            "--via api-proxy opens a session at each node, which would change a node that has no "
            "chttpd_auth secret, and no COUCHDB_SECRET can be read in the StatefulSet: run this "
            "command in a Job in the cluster, look at single nodes with `kubectl port-forward`, or "
            "set COUCHDB_SECRET"
        )
    kube, namespace = discovery.kube, discovery.target.namespace
    return Access(
        access.credentials,
        access.scheme,
        access.verify,
        access.request_timeout,
        lambda pod, port: kube.pod_gateway(namespace, pod, port, access.scheme),
    )
