"""Discovery and observation, put together: one look at the StatefulSet and all of its nodes."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from couchdiscover.couch.client import Access, Fleet
from couchdiscover.couch.memory import Memory
from couchdiscover.couch.observer import Observer
from couchdiscover.decide.membership import Membership
from couchdiscover.errors import NotYet, UsageProblem
from couchdiscover.kube.client import Kube
from couchdiscover.kube.discovery import Discovery, find_target
from couchdiscover.net.deadline import Deadline
from couchdiscover.output.events import Narrator
from couchdiscover.state.nodes import ClusterView
from couchdiscover.state.settings import Settings
from couchdiscover.state.topology import Credentials, Scope, Topology

TOPOLOGY_SECONDS = 1.0
"""The StatefulSet and its endpoints are read again this often, at most: the API server is
everybody's, and an address is published well before CouchDB listens there."""

OnSecret = Callable[[str, str], None]


@dataclass(slots=True)
class Looker:
    """Looks, again and again, at what a command is about.

    ``only_looks`` sends nothing upon which CouchDB changes anything; ``on_secret`` is told the
    credentials before anything is sent. ``memory`` is what is remembered of the nodes.
    """

    settings: Settings
    deadline: Deadline
    narrator: Narrator
    on_secret: OnSecret
    only_looks: bool = False
    memory: Memory = field(default_factory=Memory)
    _discovery: Discovery | None = None
    _observer: Observer | None = None
    _topology: Topology | None = None
    _read_at: float = 0.0
    _unexpected: frozenset[str] = frozenset()
    _logins_refused: int = 0

    def look(self, *, quick: bool = False) -> tuple[Topology, ClusterView]:
        """Reads the StatefulSet, now and then, and asks every node. Raises NotYet."""
        while True:
            topology, view = self._look(quick)
            if not self._has_grown(topology, view):
                return topology, view

    def _look(self, quick: bool) -> tuple[Topology, ClusterView]:
        topology = self._topology
        if topology is None or time.monotonic() - self._read_at >= TOPOLOGY_SECONDS:
            topology = self.read()
        self.narrator.discovered(topology)
        if not topology.expected:
            view = ClusterView(())
        else:
            self._renew_credentials(topology)
            view = self.observer.look(topology, quick=quick)
        self.narrator.seen(view)
        return topology, view

    def _has_grown(self, topology: Topology, view: ClusterView) -> bool:
        """Whether the StatefulSet is another by now, where members appear that are no pod of it.

        One that another run has added in a scale-up would look like one that a scale-down has left.
        Raises NotYet.
        """
        membership = Membership.of(topology, view)
        unexpected = frozenset(membership.unexpected_in(membership.listed))
        if unexpected <= self._unexpected or self.deadline.passed:
            return False
        self._unexpected = unexpected
        return self.read().expected != topology.expected

    def read(self) -> Topology:
        """The StatefulSet and its endpoints as they are now. Raises NotYet."""
        self._topology = self.discovery.topology()
        self._read_at = time.monotonic()
        return self._topology

    @property
    def scope(self) -> Scope:
        """Whose membership this is about."""
        return self.discovery.target.scope

    @property
    def discovery(self) -> Discovery:
        """Who reads the Kubernetes API."""
        if self._discovery is None:
            settings = self.settings
            kube = Kube(
                self.deadline,
                kubeconfig=settings.kubeconfig,
                context=settings.context,
                request_timeout=settings.request_timeout,
            )
            target = find_target(settings, kube)
            self._discovery = Discovery(kube, settings, target)
            own = target.own.pod if target.own else None
            self.narrator.target(target.namespace, target.statefulset, target.scope, own)
        return self._discovery

    @property
    def observer(self) -> Observer:
        """Who asks the nodes."""
        if self._observer is None:
            settings = self.settings
            self._observer = Observer(
                Fleet(self._access(self.discovery.credentials()), self.deadline),
                self.deadline,
                self.scope,
                self.memory,
                settings.databases,
                foresees=settings.dry_run,
                only_looks=self.only_looks,
            )
        return self._observer

    def _access(self, credentials: Credentials) -> Access:
        settings = self.settings
        self.on_secret(credentials.user, credentials.password)
        access = Access(credentials, settings.scheme, settings.verify, settings.request_timeout)
        if settings.via == "api-proxy":
            return _through_the_api(access, self.discovery)
        return access

    def _renew_credentials(self, topology: Topology) -> None:
        """Reads the credentials anew where some node has refused them while a rollout goes on."""
        refused = self.memory.logins_refused
        if not topology.rollout or refused == self._logins_refused:
            return
        self._logins_refused = refused
        credentials = self.discovery.credentials(anew=True)
        if credentials != self.observer.fleet.access.credentials:
            self.narrator.note("the credentials have changed, and are taken anew")
            self.observer.fleet = Fleet(self._access(credentials), self.deadline)
            for watch in self.memory.watches.values():
                watch.ask_again_at = 0.0 if not watch.refused else watch.ask_again_at


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
    return replace(
        access, door=lambda pod, port: kube.pod_gateway(namespace, pod, port, access.scheme)
    )
