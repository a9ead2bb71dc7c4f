"""A whole sandbox: CouchDB nodes, and the Kubernetes API that presents them as a StatefulSet."""

import base64
import contextlib
import secrets
import shutil
import ssl
import tempfile
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self

from couchdiscover.sandbox import manifests
from couchdiscover.sandbox.couchdb import Network, Node, Volume
from couchdiscover.sandbox.http import Handler, Loop, Request, Response, Server, Wire
from couchdiscover.sandbox.kubernetes import SETUP_USER, KubernetesApi, kubeconfig
from couchdiscover.sandbox.loopback import Addresses
from couchdiscover.sandbox.manifests import Style
from couchdiscover.sandbox.real import RealNetwork, RealNode

API = "kubernetes"
"""What ``Sandbox.intercept`` gets for a pod where the request is for the Kubernetes API."""

SPARE_HOSTS = 32
"""How many names real nodes know beyond those there are: room to scale up."""

AnyNode = Node | RealNode
AnyVolume = Volume | Path
"""A real node's volume is a folder."""
Phase = Literal["pending", "running", "terminating"]


class Proceed(Protocol):
    """Has a request answered as it would have been, or another one in its place."""

    def __call__(self, request: Request | None = None, /) -> Awaitable[Response | Wire]: ...


Intercept = Callable[[str, Request, Proceed], Awaitable[Response | Wire]]


@dataclass(slots=True)
class CouchRequest:
    """One request that came in at a node."""

    pod: str
    request: Request = field(repr=False)
    time: float
    """When it came in, on ``time.monotonic()``'s clock, in seconds."""
    status: int | None = None
    """None as long as it is not answered; 0 where the answer misbehaves."""

    @property
    def method(self) -> str:
        """The method."""
        return self.request.method

    @property
    def path(self) -> str:
        """The path as it stood in the request line, without the query."""
        return self.request.target.partition("?")[0]

    @property
    def is_write(self) -> bool:
        """Whether it could change anything."""
        return self.method not in ("GET", "HEAD")


@dataclass(slots=True)
class _Pod:
    node: AnyNode
    address: str
    port: int
    uid: str = field(default_factory=lambda: str(uuid.uuid4()))
    phase: Phase = "running"
    server: Server | None = None


class Sandbox:
    """CouchDB nodes of a StatefulSet and their Kubernetes API, on loopback; a context manager.

    ``nodes`` are the pods there are, ``replicas`` those there should be. ``service=""`` leaves
    ``spec.serviceName`` empty; the Service is then called like the StatefulSet. ``cookie=None`` and
    ``secret=False`` leave COUCHDB_ERLANG_COOKIE and COUCHDB_SECRET out. ``slices=False`` is a
    Kubernetes without EndpointSlices. ``pace`` multiplies CouchDB's simulated delays. ``running``
    says whether the nodes are up from the start. ``tls`` has the nodes serve https, ``api_tls`` the
    API; ``token`` makes the API ask for one, which the kubeconfig then has. ``node_options`` are
    further arguments of every node, ``pod_options`` of single ones, by pod. ``version`` is the
    release that simulated nodes are of. With ``real``, a folder that holds a CouchDB release, the
    nodes are real (single ones of another release by a ``home`` among the ``pod_options``), and
    whoever asks them asks them directly: ``intercept`` is then for the API only. With ``front`` the
    sandbox listens in their place and passes on what comes, so that their requests are intercepted
    and recorded too. ``volumes`` are what pods start on, by pod: those of another set, say.
    With ``beside`` it is another StatefulSet on the network and the Kubernetes API of that sandbox,
    which ends it as well. ``certificates`` has real nodes serve https themselves: it gives the PEM
    file of a host name, key and chain. ``addresses`` are others than this machine's loopback ones.

    All methods may be called from any thread but the sandbox's own (see ``intercept``).

    Raises ValueError for what cannot be had together, OSError where no address is free.
    """

    def __init__(
        self,
        nodes: int = 3,
        *,
        statefulset: str = "couchdb",
        namespace: str = "default",
        service: str | None = None,
        domain: str = "cluster.local",
        ordinals_start: int = 0,
        replicas: int | None = None,
        user: str = "admin",
        password: str = "sandbox password",  # noqa: S107
        style: Style = "official",
        publish_not_ready: bool = True,
        slices: bool = True,
        pace: float = 1.0,
        secret: bool = True,
        cookie: str | None = "sandbox-cookie",
        running: bool = True,
        tls: ssl.SSLContext | None = None,
        real: Path | None = None,
        version: str | None = None,
        front: bool = False,
        api_tls: ssl.SSLContext | None = None,
        token: str | None = None,
        node_options: Mapping[str, Any] | None = None,
        pod_options: Mapping[str, Mapping[str, Any]] | None = None,
        volumes: Mapping[str, AnyVolume] | None = None,
        beside: "Sandbox | None" = None,
        certificates: Callable[[str], Path] | None = None,
        addresses: Addresses | None = None,
    ) -> None:
        self._beside = beside
        self._addresses: Addresses = addresses or (
            Addresses() if beside is None else beside._addresses
        )
        if real is not None and tls is not None and not front:
            raise ValueError("real nodes serve https by certificates of their own, or by a front")
        if certificates is not None and (real is None or front):
            raise ValueError("only real nodes without a front have certificates of their own")
        if beside is not None and real != beside._real_home:
            raise ValueError("real nodes and simulated ones cannot be beside each other")
        if real is not None and not self._addresses.has_hosts:
            raise OSError("real nodes need a loopback address each, and here is only 127.0.0.1")
        self.deployment = manifests.Deployment(
            statefulset=statefulset,
            namespace=namespace,
            service=service or statefulset,
            service_name=statefulset if service is None else service,
            domain=domain,
            port=self._addresses.port,
            ordinals_start=ordinals_start,
            user=user,
            password=password,
            secret=secrets.token_hex(16) if secret else None,
            cookie=cookie,
            style=style,
            publish_not_ready=publish_not_ready,
            family="IPv6" if self._addresses.is_ipv6 else "IPv4",
        )
        self.replicas = nodes if replicas is None else replicas
        self.network: Network = Network(pace=pace) if beside is None else beside.network
        """What connects the simulated nodes."""
        self.nodes: dict[str, AnyNode] = {}
        """The nodes of the pods there are, by the pod's name."""
        self.api: KubernetesApi = KubernetesApi() if beside is None else beside.api
        if not slices:
            self.api.unserved.add("discovery.k8s.io")
        self.intercept: Intercept | None = None
        """Called on the sandbox's own thread for every request, with a pod's name (or API). It must
        not block: to stop or start nodes it awaits ``asyncio.to_thread(box.stop, pod)``."""
        self._count = nodes
        self._running = running
        self._tls, self._api_tls = tls, api_tls
        self._certificates = certificates
        self._token = token
        self._real_home: Path | None = real
        self._real: RealNetwork | None = None
        self._front = front or real is None
        self._real_port = self._addresses.port
        self._node_options = dict(node_options or {})
        if version is not None and real is None:
            self._node_options.setdefault("version", version)
        self._pod_options = dict(pod_options or {})
        self._volumes: dict[str, AnyVolume] = dict(volumes or {})
        self._pods: dict[str, _Pod] = {}
        self._others: list[Sandbox] = []
        self._log: list[CouchRequest] = []
        self._generation = 1
        self._published: set[manifests.Pod] = set()
        self._lock = threading.RLock()
        self._folder: Path | None = None
        self._loop: Loop | None = None

    # --- life ---

    def __enter__(self) -> Self:
        try:
            self._open()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _open(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="couchdiscover-sandbox-"))
        if self._beside is None:
            self._loop = Loop()
            host, port = self._addresses.take()
            self.api.intercept = self._answer_api
            self.api.serve(self._loop, host, port, self._api_tls)
        else:
            self._loop = self._beside._loop
            self._beside._others.append(self)
        self.write_kubeconfig(token=self._token)
        if self._beside is not None and self._beside._real is not None:
            self._real, self._real_port = self._beside._real, self._beside._real_port
            self._real.add_hosts(self._new_hosts())
        elif self._real_home is not None:
            hosts = self._new_hosts()
            self._real = RealNetwork(self._real_home, self._folder, hosts, self._addresses)
            if self._front:
                self._real_port = self._addresses.free_port(next(iter(hosts.values())))
        self._volumes = {pod: self._copied(volume) for pod, volume in self._volumes.items()}
        for index in range(self._count):
            self._create(self._pod_name(index))
        if self._running:
            self._start(list(self._pods))
        self._publish_fixed()
        self._publish(spec=True)

    def close(self) -> None:
        """Ends everything and leaves nothing behind; a second time it does nothing."""
        for other in self._others:
            other.close()
        for pod in self._pods.values():
            if isinstance(pod.node, RealNode):
                pod.node.stop(kill=True)
        if self._loop is not None:
            if self._beside is None:
                self.api.stop()
            for pod in self._pods.values():
                self._refuse(pod)
                if self._beside is not None and isinstance(pod.node, Node):
                    pod.node.stop()
                    self.network.leave(pod.node)
            if self._beside is None:
                self._loop.close()
            self._loop = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    # --- what there is ---

    @property
    def kubeconfig(self) -> Path:
        """The kubeconfig file; raises RuntimeError outside of the context."""
        if self._folder is None:
            raise RuntimeError("the sandbox is not open")
        return self._folder / "kubeconfig"

    @property
    def is_real(self) -> bool:
        """Whether the nodes are real ones."""
        return self._real_home is not None

    @property
    def pods(self) -> list[str]:
        """The names of the expected pods, whether they exist or not."""
        return [self._pod_name(index) for index in range(self.replicas)]

    def node(self, pod: str) -> Node:
        """The simulated node of a pod. Raises TypeError for a real one, KeyError without a pod."""
        node = self.nodes[pod]
        if isinstance(node, Node):
            return node
        raise TypeError(f"{pod} is a real node")

    def address(self, pod: str) -> tuple[str, int]:
        """Host and port of a pod's node. Raises KeyError where there is no such pod."""
        found = self._pods[pod]
        return found.address, found.port

    def environment(self, pod: str | None = None) -> dict[str, str]:
        """What a couchdiscover process needs to find its way; never credentials.

        With a pod it is what the downward API tells there, too. Raises KeyError without that pod.
        """
        deployment = self.deployment
        found = {
            "KUBECONFIG": str(self.kubeconfig),
            "COUCHDISCOVER_STATEFULSET": deployment.statefulset,
            "COUCHDISCOVER_NAMESPACE": deployment.namespace,
        }
        if deployment.domain != "cluster.local":
            found["COUCHDISCOVER_CLUSTER_DOMAIN"] = deployment.domain
        if self._tls is not None or self._certificates is not None:
            found["COUCHDISCOVER_SCHEME"] = "https"
        if pod is not None:
            found |= {"POD_NAME": pod, "POD_NAMESPACE": deployment.namespace}
            if self._pods[pod].phase != "pending":
                found["POD_IP"] = self._pods[pod].address
        return found

    def requests(self) -> list[CouchRequest]:
        """All requests to the nodes in the order they came in, intercepted ones too.

        Raises RuntimeError where nobody stands between real nodes and who asks them.
        """
        if not self._front:
            raise RuntimeError("requests of real nodes are not recorded")
        return list(self._log)

    def writes(self) -> list[CouchRequest]:
        """Those requests that could change something; raises RuntimeError as ``requests``."""
        return [request for request in self.requests() if request.is_write]

    # --- what can happen ---

    def start(self, pod: str) -> None:
        """Starts a pod's node, and creates the pod first if there is none."""
        with self._lock:
            if pod not in self._pods:
                self._create(pod)
            self._start([pod])
            self._publish()

    def stop(self, pod: str, *, kill: bool = False) -> None:
        """Ends a pod's node: connections refused, distribution gone; the pod stays."""
        with self._lock:
            self._stop(pod, kill=kill)
            self._publish()

    def restart(self, pod: str) -> None:
        """Restarts the container, of the official image: data kept, configuration made anew."""
        with self._lock:
            self._stop(pod)
            self._pods[pod].node.restart_as_official_image()
            self._start([pod])
            self._publish()

    def rotate(
        self,
        *,
        password: str | None = None,
        secret: str | None = None,
        cookie: str | None = None,
    ) -> None:
        """Changes the Secret; each pod has the new values when it is restarted, and not before."""
        with self._lock:
            was = self.deployment
            self.deployment = replace(
                was,
                password=password or was.password,
                secret=secret or was.secret,
                cookie=cookie or was.cookie,
            )
            sections = {
                "admins": {} if password is None else {was.user: password},
                "chttpd_auth": {} if secret is None else {"secret": secret},
            }
            for pod in self._pods.values():
                pod.node.rotate(sections, cookie)
            self.api.put(self.deployment.secret_object())

    def upgrade(self, pod: str, release: str | Path) -> None:
        """Replaces a pod by one of another release, its volume kept; a running one runs again.

        ``release`` is a version, or, where nodes are real, the folder that holds it. Raises
        TypeError where it is the other one of these.
        """
        with self._lock:
            node = self._pods[pod].node
            was_running = node.running
            self._stop(pod)
            match node, release:
                case RealNode(), Path():
                    node.upgrade(release)
                case Node(), str():
                    node.upgrade(release)
                case _:
                    raise TypeError(f"{release!r} is no release for {pod}")
            if was_running:
                self._start([pod])
            self._publish()

    def wipe(self, pod: str, *, data: bool = True, config: bool = True) -> None:
        """Has a node lose what it stored; it is running again afterwards if it was."""
        with self._lock:
            was_running = self._pods[pod].node.running
            self._stop(pod)
            self._pods[pod].node.wipe(data=data, config=config)
            if was_running:
                self._start([pod])
            self._publish()

    def replace(self, pod: str, *, data: bool = True) -> None:
        """Deletes a pod and has it created anew; its volume is kept or, without ``data``, empty.

        It has another uid and, unless the node is real, another address.
        """
        with self._lock:
            self._stop(pod)
            found = self._pods[pod]
            found.node.wipe(data=not data, config=True)
            if isinstance(found.node, Node) and self._addresses.has_hosts:
                found.address, found.port = self._addresses.take()
                found.node.address = found.address
            found.uid, found.phase = str(uuid.uuid4()), "running"
            self._start([pod])
            self._publish()

    # --- volumes ---

    def volume(self, pod: str) -> AnyVolume:
        """A snapshot of a pod's volume, also while its node runs. Raises KeyError without one."""
        with self._lock:
            return self._copied(self._own_volume(pod))

    def restore(self, pod: str, volume: AnyVolume) -> None:
        """Starts a pod anew on a copy of a volume.

        Raises KeyError without the pod, TypeError for a volume that is not of its kind.
        """
        with self._lock:
            self._restart_on({pod: self._copied(volume)})
            self._publish()

    def lose_volume(self, pod: str) -> None:
        """Has a pod come back with an empty volume; the peers then fill it.

        ``hold_filling`` before, and what is lost stays so until ``release_filling``.
        """
        self.wipe(pod)

    def shuffle_volumes(self, order: Mapping[str, str] | None = None) -> None:
        """Starts pods anew, each on another one's volume: that of the pod it is given.

        Without an order each takes the next pod's.
        """
        with self._lock:
            pods = list(self._pods)
            chosen = order or dict(zip(pods, [*pods[1:], *pods[:1]], strict=True))
            running = [pod for pod in chosen if self._pods[pod].node.running]
            for pod in chosen:
                self._stop(pod)
            taken = {pod: self._taken(pod) for pod in chosen.values()}
            self._restart_on({pod: taken[other] for pod, other in chosen.items()})
            self._start(running)
            self._publish()

    def rename(
        self,
        *,
        statefulset: str | None = None,
        namespace: str | None = None,
        service: str | None = None,
        domain: str | None = None,
    ) -> None:
        """Has the StatefulSet deployed under other names, its pods on the volumes there are.

        Of the former names nothing is left, neither nodes nor Kubernetes objects. The kubeconfig is
        written anew.
        """
        with self._lock:
            running = any(pod.node.running for pod in self._pods.values())
            kept: dict[str, AnyVolume] = {}
            for pod in list(self._pods):
                node = self._pods[pod].node
                self._stop(pod)
                kept[pod.rpartition("-")[2]] = self._taken(pod)
                self._delete(pod)
                if isinstance(node, Node):
                    self.network.leave(node)
            self._unpublish()
            was = self.deployment
            self.deployment = replace(
                was,
                statefulset=statefulset or was.statefulset,
                namespace=namespace or was.namespace,
                service=service or was.service,
                service_name=(service or was.service_name) if was.service_name else "",
                domain=domain or was.domain,
            )
            if self._real is not None:
                self._real.add_hosts(self._new_hosts())
            for index in range(self.replicas):
                pod = self._pod_name(index)
                volume = kept.get(pod.rpartition("-")[2])
                if volume is not None:
                    self._volumes[pod] = volume
                    self._create(pod)
            if running:
                self._start(list(self._pods))
            self._publish_fixed()
            self._publish(spec=True)
            self.write_kubeconfig(token=self._token)

    def clone_into(
        self, namespace: str, *, cookie: str | None = None, wall: bool = False, running: bool = True
    ) -> "Sandbox":
        """Starts the same StatefulSet in another namespace, on copies of the volumes as they are.

        Without another ``cookie`` or a ``wall`` (see there) the clone meets its original. What it
        returns is open, and is closed with this one. Raises TypeError for a wall of real nodes.
        """
        with self._lock:
            twin = Sandbox(
                self.replicas,
                running=running,
                tls=self._tls,
                real=self._real_home,
                certificates=self._certificates,
                front=self._front and self._real_home is not None,
                api_tls=self._api_tls,
                token=self._token,
                node_options=self._node_options,
                pod_options=self._pod_options,
                volumes={pod: self._own_volume(pod) for pod in self._pods},
                beside=self,
            )
            twin.deployment = replace(
                self.deployment, namespace=namespace, cookie=cookie or self.deployment.cookie
            )
        if wall:
            self.wall(twin)
        return twin.__enter__()

    def wall(self, other: "Sandbox") -> None:
        """Parts the nodes of this set from those of another on the same network.

        As a NetworkPolicy does for the ports 4369 and 9100. Raises TypeError for real nodes.
        """
        if self.is_real:
            raise TypeError("between real nodes is no wall: give them another cookie")
        self.network.raise_wall(self._suffix, other._suffix)

    def open_wall(self, other: "Sandbox") -> None:
        """Takes the wall down again."""
        self.network.open_wall(self._suffix, other._suffix)

    def hold_filling(self, pod: str, documents: int = 0) -> None:
        """Has internal replication stop before a pod's copies, after so many documents a copy.

        Raises TypeError for a real node, KeyError without a pod.
        """
        with self.network.lock:
            self.network.replication.hold(self.node(pod).name, documents)

    def release_filling(self, pod: str) -> None:
        """Has it go on."""
        with self.network.lock:
            self.network.replication.release(self.node(pod).name)

    def delete(self, pod: str) -> None:
        """Takes a pod away, as if it were not created yet; ``start`` creates it anew, and fresh."""
        with self._lock:
            self._delete(pod)
            self._publish()

    def scale(self, replicas: int, *, running: bool = True) -> None:
        """Changes ``spec.replicas``: new nodes are fresh, those beyond are stopped and gone."""
        with self._lock:
            self.replicas = replicas
            self._generation += 1
            expected = self.pods
            for pod in [pod for pod in self._pods if pod not in expected]:
                self._delete(pod)
            new = [pod for pod in expected if pod not in self._pods]
            for pod in new:
                self._create(pod)
            if running:
                self._start(new)
            self._publish(spec=True)

    def set_phase(self, pod: str, phase: Phase) -> None:
        """``pending`` pods have no address yet, as during postStart; ``terminating`` ones leave.

        The node goes on as it is.
        """
        with self._lock:
            self._pods[pod].phase = phase
            self._publish()

    def stop_api(self) -> None:
        """Has the Kubernetes API refuse connections."""
        self.api.stop()

    def start_api(self) -> None:
        """Has the Kubernetes API listen again, at the same address."""
        self.api.start()

    def write_kubeconfig(self, *, token: str | None = None, ca_file: Path | None = None) -> None:
        """Writes the kubeconfig anew. A token is accepted from now on, besides earlier ones."""
        cluster: dict[str, Any] = {"server": self.api.url}
        if ca_file is not None:
            content = ca_file.read_bytes()
            cluster["certificate-authority-data"] = base64.b64encode(content).decode()
        elif self._api_tls is not None:
            cluster["insecure-skip-tls-verify"] = True
        if token is not None:
            self.api.tokens[token] = SETUP_USER
        self.kubeconfig.write_text(kubeconfig(cluster, self.deployment.namespace, token))
        self.kubeconfig.chmod(0o600)

    # --- nodes ---

    def _pod_name(self, index: int) -> str:
        return f"{self.deployment.statefulset}-{self.deployment.ordinals_start + index}"

    @property
    def _suffix(self) -> str:
        deployment = self.deployment
        return f".{deployment.service}.{deployment.namespace}.svc.{deployment.domain}"

    def _host(self, pod: str) -> str:
        return f"{pod}{self._suffix}"

    def _create(self, pod: str) -> None:
        deployment = self.deployment
        host = self._host(pod)
        if self._real is not None:
            address, port = self._real.hosts[host], self._addresses.port
        else:
            address, port = self._addresses.take()
        options: dict[str, Any] = {
            "name": f"couchdb@{host}",
            "user": deployment.user,
            "password": deployment.password,
            "secret": deployment.secret,
            "address": address,
            "port": port,
        }
        if deployment.cookie is not None:
            options["cookie"] = deployment.cookie
        if self._certificates is not None:
            options["certificate"] = self._certificates(host)
        options |= {**self._node_options, **self._pod_options.get(pod, {})}
        node: AnyNode
        if self._real is not None:
            node = RealNode(self._real, **{**options, "port": self._real_port})
        else:
            node = Node(self.network, **{**options, "running": False})
        if pod in self._volumes:
            self._give(node, self._volumes.pop(pod))
        self._pods[pod] = _Pod(node, address, port)
        self.nodes[pod] = node

    def _start(self, pods: list[str]) -> None:
        real = [node for pod in pods if isinstance(node := self._pods[pod].node, RealNode)]
        for node in real:
            node.start(wait=False)
        for node in real:
            node.wait()
        for pod in pods:
            found = self._pods[pod]
            if isinstance(found.node, Node):
                found.node.start()
            if self._front:
                self._listen(pod, found)

    def _listen(self, pod: str, found: _Pod) -> None:
        if found.server is None and self._loop is not None:
            handler = partial(self._answer_couchdb, pod, found.node)
            found.server = self._loop.serve(handler, found.address, found.port, self._tls)

    def _refuse(self, found: _Pod) -> None:
        if found.server is not None and self._loop is not None:
            self._loop.stop(found.server)
            found.server = None

    def _stop(self, pod: str, *, kill: bool = False) -> None:
        found = self._pods[pod]
        found.node.stop(kill=kill)
        self._refuse(found)

    def _new_hosts(self) -> dict[str, str]:
        """An address for each pod that real nodes are to know by name."""
        count = max(self._count, self.replicas) + SPARE_HOSTS
        names = [self._host(self._pod_name(index)) for index in range(count)]
        return {name: self._addresses.take()[0] for name in names}

    def _restart_on(self, volumes: Mapping[str, AnyVolume]) -> None:
        running = [pod for pod in volumes if self._pods[pod].node.running]
        for pod in volumes:
            self._stop(pod)
        for pod, volume in volumes.items():
            node = self._pods[pod].node
            node.wipe(data=False, config=True)
            self._give(node, volume)
        self._start(running)

    def _own_volume(self, pod: str) -> AnyVolume:
        node = self._pods[pod].node
        return node.data if isinstance(node, RealNode) else node.volume

    def _taken(self, pod: str) -> AnyVolume:
        """The volume of a pod that is stopped; it has none then."""
        node = self._pods[pod].node
        if isinstance(node, Node):
            return node.volume
        folder = self._new_folder()
        node.take_volume(folder)
        return folder

    def _copied(self, volume: AnyVolume) -> AnyVolume:
        if isinstance(volume, Volume):
            with self.network.lock:
                self.network.settle()
                return volume.copy()
        return Path(shutil.copytree(volume, self._new_folder()))

    @staticmethod
    def _give(node: AnyNode, volume: AnyVolume) -> None:
        if isinstance(node, Node) and isinstance(volume, Volume):
            node.volume = volume
        elif isinstance(node, RealNode) and isinstance(volume, Path):
            node.put_volume(volume)
        else:
            raise TypeError("a real node's volume is a folder, a simulated one's is a Volume")

    def _new_folder(self) -> Path:
        if self._folder is None:
            raise RuntimeError("the sandbox is not open")
        return self._folder / f"volume-{uuid.uuid4().hex}"

    def _delete(self, pod: str) -> None:
        self._stop(pod)
        del self._pods[pod]
        del self.nodes[pod]

    # --- requests ---

    async def _answer_couchdb(self, pod: str, node: AnyNode, request: Request) -> Response | Wire:
        request = replace(request, node=pod)
        entry = CouchRequest(pod, request, time.monotonic())
        self._log.append(entry)
        answer = await self._answer(pod, request, node.handle)
        entry.status = answer.status if isinstance(answer, Response) else 0
        return answer

    async def _answer_api(self, request: Request, handler: Handler) -> Response | Wire:
        return await self._answer(API, request, handler)

    async def _answer(self, pod: str, request: Request, handler: Handler) -> Response | Wire:
        if self.intercept is None:
            return await handler(request)

        async def proceed(changed: Request | None = None, /) -> Response | Wire:
            return await handler(changed or request)

        return await self.intercept(pod, request, proceed)

    # --- Kubernetes ---

    def _publish_fixed(self) -> None:
        """Has the API show what does not change with the pods."""
        deployment = self.deployment
        self.api.put(deployment.secret_object())
        self.api.put(deployment.config_map_object())
        self.api.put(deployment.service_object())

    def _unpublish(self) -> None:
        """Has the API show nothing of this StatefulSet any more."""
        deployment = self.deployment
        self._sweep("Pod", set())
        self._sweep("EndpointSlice", set())
        objects = (
            deployment.secret_object(),
            deployment.config_map_object(),
            deployment.service_object(),
            deployment.endpoints_object([]),
            deployment.statefulset_object(0, [], 0),
        )
        for found in objects:
            with contextlib.suppress(KeyError):
                self.api.remove(found["kind"], deployment.namespace, found["metadata"]["name"])
        self._published = set()

    def _publish(self, *, spec: bool = False) -> None:
        """Has the API show what there is now.

        What a test has changed or removed stays so, but for the endpoints, the pods and the
        status; only ``spec`` writes the StatefulSet as a whole.
        """
        deployment = self.deployment
        pods = [self._shown(name, pod) for name, pod in self._pods.items()]
        self._publish_set(pods, spec=spec)
        self.api.put(deployment.endpoints_object(pods))
        service = self.api.get("Service", deployment.namespace, deployment.service)
        slices = deployment.endpoint_slices(pods, service["metadata"]["uid"])
        for part in slices:
            self.api.put(part)
        for pod in pods:
            if pod not in self._published:
                self.api.put(deployment.pod_object(pod, self.replicas))
        self._published = set(pods)
        self._sweep("EndpointSlice", {part["metadata"]["name"] for part in slices})
        self._sweep("Pod", set(self._pods))

    @staticmethod
    def _shown(name: str, pod: _Pod) -> manifests.Pod:
        return manifests.Pod(
            name=name,
            uid=pod.uid,
            address=None if pod.phase == "pending" else pod.address,
            port=pod.port,
            ready=pod.node.running and pod.phase != "pending",
            terminating=pod.phase == "terminating",
        )

    def _publish_set(self, pods: list[manifests.Pod], *, spec: bool) -> None:
        deployment = self.deployment
        new = deployment.statefulset_object(self.replicas, pods, self._generation)
        if not spec:
            try:
                old = self.api.get("StatefulSet", deployment.namespace, deployment.statefulset)
            except KeyError:
                return
            new = {**old, "status": new["status"]}
        self.api.put(new)

    def _sweep(self, kind: str, names: set[str]) -> None:
        """Removes all objects of a kind, of this StatefulSet, but these."""
        owner = self.deployment.service if kind == "EndpointSlice" else self.deployment.statefulset
        for found in self.api.find(kind, self.deployment.namespace):
            metadata = found["metadata"]
            ours = metadata.get("generateName") in (None, f"{owner}-")
            if ours and metadata["name"] not in names:
                self.api.remove(kind, metadata["namespace"], metadata["name"])
