"""A cluster made of somebody's manifests: their pods, the CouchDB nodes in them, and its API.

What the StatefulSet controller, the kubelet, the endpoints' controllers and DNS would do with these
objects is done here, as far as it decides over a CouchDB cluster.
"""

import copy
import shutil
import ssl
import tempfile
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from couchdiscover.sandbox import controllers
from couchdiscover.sandbox.companions import in_template, is_own
from couchdiscover.sandbox.couchdb import Network, Node
from couchdiscover.sandbox.couchdb.config import LOOPBACK
from couchdiscover.sandbox.http import Loop, Request, Response, Server, Wire
from couchdiscover.sandbox.image import Boot, boot, parse_image
from couchdiscover.sandbox.kubelet import (
    Mount,
    NotStartedError,
    environment,
    expand,
    mounted_file,
    mounts,
    run_copies,
    volumes,
)
from couchdiscover.sandbox.kubernetes import KubernetesApi, kubeconfig
from couchdiscover.sandbox.loopback import Addresses, is_free
from couchdiscover.sandbox.manifests import HOST_NAME, revision, statefulset_status
from couchdiscover.sandbox.reading import Manifests, mapping, mappings
from couchdiscover.sandbox.scripts import databases_made

Object = dict[str, Any]

Tls = ssl.SSLContext | None

HTTP_PORT, HTTPS_PORT = 5984, 6984
HOST_ADDRESS = "192.0.2.1"
"""That of the Kubernetes node that everything runs on: one for documentation (RFC 5737)."""
CONTROL_SECONDS = 0.2
"""How often the controllers look again."""
SETTLE_ROUNDS = 100
_COOKIE = "the-same-for-all"


class DnsNetwork(Network):
    """Nodes that find one another by DNS, as the Services make it."""

    def __init__(self, pace: float) -> None:
        super().__init__(pace=pace)
        self.hosts: set[str] = set()
        """The names that resolve."""

    def resolves(self, host: str) -> bool:
        """Whether a node's host is an address, or a name that DNS knows."""
        try:
            ip_address(host)
        except ValueError:
            return host in self.hosts
        return True

    def connect(self, a: Any, b: Any) -> bool:
        """As ``Network.connect``; whoever connects must be able to find the other."""
        if not self.linked(a.name, b.name) and not self.resolves(b.host):
            return False
        return super().connect(a, b)

    def find(self, host: str, port: int) -> Any:
        """As ``Network.find``."""
        return super().find(host, port) if self.resolves(host) else "nxdomain"


@dataclass(slots=True)
class Pod:
    """A pod of a StatefulSet. ``trouble`` says why its CouchDB does not run, in words."""

    name: str
    set: "PodSet"
    object: Object = field(repr=False)
    variables: dict[str, str] = field(default_factory=dict, repr=False)
    node: Node | None = None
    boot: Boot | None = None
    port: int = 0
    trouble: str = ""
    ready: bool = False
    unready_because: str = ""
    """What its readinessProbe was answered, in words, where it fails."""
    waits: bool = False
    """Whether something in it has not ended that must end before it can be Ready."""
    tls: Tls = field(default=None, repr=False)
    https_port: int | None = None
    published: bool = True
    """Whether Kubernetes has given out its address."""
    servers: list[Server] = field(default_factory=list, repr=False)

    place: int = 0
    """The port at which CouchDB is reached on this machine."""

    @property
    def address(self) -> str:
        """Its address, or nothing."""
        return str(self.object["status"].get("podIP", ""))


@dataclass(slots=True)
class PodSet:
    """A StatefulSet and its pods. ``container`` is CouchDB's; None where none is known to be."""

    object: Object = field(repr=False)
    container: Object | None = field(repr=False)
    pods: list[Pod] = field(default_factory=list, repr=False)

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.object["metadata"]["name"])

    @property
    def namespace(self) -> str:
        """Its namespace."""
        return str(self.object["metadata"]["namespace"])

    @property
    def service(self) -> str:
        """``spec.serviceName``, which may be empty."""
        return str(self.spec.get("serviceName") or "")

    @property
    def spec(self) -> Object:
        """Its spec."""
        return mapping(self.object.get("spec"))

    @property
    def pod_spec(self) -> Object:
        """The spec of its template."""
        return mapping(mapping(self.spec.get("template")).get("spec"))

    @property
    def others(self) -> list[Object]:
        """The ordinary containers beside CouchDB's."""
        own = (self.container or {}).get("name")
        return [c for c in mappings(self.pod_spec.get("containers")) if c["name"] != own]

    @property
    def is_sidecar(self) -> bool:
        """Whether CouchDB runs in a native sidecar, before the initContainers that follow."""
        return self.container in mappings(self.pod_spec.get("initContainers"))

    @property
    def names(self) -> list[str]:
        """The names of the pods there should be."""
        start = mapping(self.spec.get("ordinals")).get("start", 0)
        return [f"{self.name}-{start + at}" for at in range(self.spec.get("replicas", 1))]


def couchdb_container(statefulset: Mapping[str, Any], named: str | None = None) -> Object | None:
    """The container that runs CouchDB: by its image, of several by name; else by name alone."""
    spec = mapping(mapping(mapping(statefulset.get("spec")).get("template")).get("spec"))
    staying = [dict(container) for container in controllers.containers_of(spec)]
    by_image = [c for c in staying if parse_image(str(c.get("image") or "")).is_couchdb]
    names = [named, "couchdb", statefulset["metadata"]["name"]]
    for candidates in (by_image, staying):
        if len(candidates) == 1:
            return candidates[0]
        for name in names:
            for container in candidates:
                if container["name"] == name:
                    return container
    return None


class Cluster:
    """StatefulSets, Services, Secrets and ConfigMaps brought to life on loopback.

    A context manager. ``chosen`` is the StatefulSet (namespace, name) that is played on; the others
    are there with it, and those that run CouchDB run it, too. ``domain`` is the cluster's DNS
    domain; by default the one that the nodes' names have. ``initially`` prepares each new pod,
    before its node is started. ``pace`` multiplies CouchDB's simulated delays.

    Raises OSError where no address is free.
    """

    def __init__(
        self,
        manifests: Manifests,
        chosen: tuple[str, str],
        *,
        domain: str | None = None,
        container: str | None = None,
        initially: Callable[[Pod], None] | None = None,
        pace: float = 1.0,
    ) -> None:
        self.manifests = manifests
        self.network = DnsNetwork(pace)
        self.api = KubernetesApi()
        self.notes: dict[str, None] = {}
        """What is not certain of what is played, in words, in order and each once."""
        self.log: list[tuple[str, Request, int]] = []
        """The pod, request and status of everything that nodes were asked."""
        self.sets = [
            self._make_set(found, chosen, container) for found in manifests.find("StatefulSet")
        ]
        self.chosen = next(s for s in self.sets if (s.namespace, s.name) == chosen)
        self.domain = domain or self._named_domain() or "cluster.local"
        self._initially = initially or (lambda _: None)
        self._addresses = Addresses()
        self._moved: dict[str, dict[int, int]] = {}
        self._shown: dict[tuple[str, str, str], Object] = {}
        self._lock = threading.RLock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._loop: Loop | None = None
        self._folder: Path | None = None

    def _make_set(self, found: Object, chosen: tuple[str, str], named: str | None) -> PodSet:
        metadata = found["metadata"]
        container = couchdb_container(found, named)
        is_chosen = (metadata["namespace"], metadata["name"]) == chosen
        image = parse_image(str((container or {}).get("image") or ""))
        return PodSet(found, container if is_chosen or image.is_couchdb else None)

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
        self._loop = Loop()
        self._folder = Path(tempfile.mkdtemp(prefix="couchdiscover-rehearsal-"))
        host, port = self._addresses.take()
        self.api.serve(self._loop, host, port)
        text = kubeconfig({"server": self.api.url}, self.chosen.namespace)
        self.kubeconfig.write_text(text)
        self.kubeconfig.chmod(0o600)
        for kind in ("Secret", "ConfigMap"):
            for found in self.manifests.find(kind):
                self.api.put(found)
        for number, service in enumerate(self.manifests.find("Service"), 1):
            self.api.put(_complete_service(service, number))
        self.settle()
        self._thread = threading.Thread(target=self._control, name="controllers", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends everything and leaves nothing behind; a second time it does nothing."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._loop is not None:
            self.api.stop()
            for pod in self.pods:
                for server in pod.servers:
                    self._loop.stop(server)
            self._loop.close()
            self._loop = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    @property
    def kubeconfig(self) -> Path:
        """The kubeconfig file; raises RuntimeError outside of the context."""
        if self._folder is None:
            raise RuntimeError("the cluster is not open")
        return self._folder / "kubeconfig"

    @property
    def pods(self) -> list[Pod]:
        """All pods there are."""
        return [pod for found in self.sets for pod in found.pods]

    def note(self, text: str) -> None:
        """Notes something that is not certain."""
        self.notes[text] = None

    def writes(self) -> list[tuple[str, Request, int]]:
        """What nodes were asked that could change something."""
        return [entry for entry in self.log if entry[1].method not in ("GET", "HEAD")]

    # --- the controllers ---

    def settle(self) -> None:
        """Lets the controllers work until nothing changes any more."""
        for _ in range(SETTLE_ROUNDS):
            if not self.control():
                return

    def _control(self) -> None:
        while not self._ended.wait(CONTROL_SECONDS):
            self.control()

    def control(self) -> bool:
        """One round of the controllers and the kubelet; whether anything has changed."""
        with self._lock:
            before = [(pod.name, pod.ready) for pod in self.pods]
            for found in self.sets:
                self._create_next(found)
            for pod in self.pods:
                pod.ready = self._is_ready(pod)
            self._publish()
            return before != [(pod.name, pod.ready) for pod in self.pods]

    def _create_next(self, found: PodSet) -> None:
        ordered = found.spec.get("podManagementPolicy", "OrderedReady") != "Parallel"
        for name in found.names[len(found.pods) :]:
            if ordered and not all(pod.ready for pod in found.pods):
                return
            found.pods.append(self._create(found, name))
            if ordered:
                return

    def release(self, pod: Pod) -> None:
        """What the pod was waiting for has ended: it may become Ready."""
        with self._lock:
            pod.waits, pod.published = False, True
            if pod.node is not None and not pod.node.running:
                self._start(pod)
            self.settle()

    def _is_ready(self, pod: Pod) -> bool:
        if pod.waits or pod.trouble or not pod.address:
            return False
        if pod.node is None:
            return True
        return pod.node.running and self._probed(pod, pod.node)

    def _probed(self, pod: Pod, node: Node) -> bool:
        """Whether the readinessProbe of CouchDB's container succeeds, as far as it is played."""
        container = pod.set.container or {}
        probe = mapping(container.get("readinessProbe"))
        if "tcpSocket" in probe:
            return bool(pod.servers)
        asked = mapping(probe.get("httpGet"))
        if not asked or self._loop is None:
            if probe:
                what = next(iter(probe))
                self.note(f"the readinessProbe of container {container['name']} ({what}) is not "
                          "played: its pods count as Ready once CouchDB is up")  # fmt: skip
            return True
        headers = {
            str(header.get("name")).lower(): str(header.get("value"))
            for header in mappings(asked.get("httpHeaders"))
        }
        path = str(asked.get("path") or "/")
        bare, _, _query = path.partition("?")
        request = Request("GET", path, bare, {}, headers, b"", client=pod.address)
        answer = self._loop.run(node.handle(request))
        status = answer.status if isinstance(answer, Response) else 0
        succeeds = 200 <= status < 400
        pod.unready_because = (
            "" if succeeds else f"its readinessProbe, GET {path}, is answered {status or 'nothing'}"
        )
        return succeeds

    def _publish(self) -> None:
        """Has the API, and DNS, show what there is now; only what has changed is written."""
        for found in self.sets:
            shown = copy.deepcopy(found.object)
            shown["spec"].setdefault("replicas", 1)
            shown["spec"].setdefault("podManagementPolicy", "OrderedReady")
            shown["spec"].setdefault("updateStrategy", {"type": "RollingUpdate"})
            shown["metadata"]["generation"] = 1
            ready = sum(pod.ready for pod in found.pods)
            shown["status"] = statefulset_status(found.name, len(found.pods), ready, 1)
            self._show(shown)
        pods = []
        for pod in self.pods:
            shown = copy.deepcopy(pod.object)
            state = "True" if pod.ready else "False"
            shown["status"]["conditions"] = [{"type": "Ready", "status": state}]
            if not pod.published:
                shown["status"] = {"phase": "Pending", "conditions": []}
            self._show(shown)
            pods.append(shown)
        names = set()
        current = set()
        for service in self.api_services():
            place = service["metadata"]
            hosts = controllers.dns_hosts(service, pods)
            for host in hosts:
                names |= set(_dns_names(host, place["name"], place["namespace"], self.domain))
            endpoints = controllers.endpoints_object(service, pods, self._moved)
            parts = controllers.endpoint_slices(service, pods, self._moved)
            for part in [*parts, *([endpoints] if endpoints else [])]:
                self._show(part)
                current.add(_key(part))
        for key in [key for key in self._shown if key[0] in ("EndpointSlice", "Endpoints")]:
            if key not in current:
                self.api.remove(*key)
                del self._shown[key]
        with self.network.lock:
            self.network.hosts = names

    def api_services(self) -> list[Object]:
        """The Services as the API has them."""
        spaces = {found["metadata"]["namespace"] for found in self.manifests.find("Service")}
        return [service for space in sorted(spaces) for service in self.api.find("Service", space)]

    def _show(self, obj: Object) -> None:
        key = _key(obj)
        if self._shown.get(key) != obj:
            self._shown[key] = copy.deepcopy(obj)
            self.api.put(obj)

    # --- the kubelet ---

    def _create(self, found: PodSet, name: str) -> Pod:
        host = self._addresses.take_host([HTTP_PORT]) or self._addresses.take()[0]
        pod = Pod(name, found, self._pod_object(found, name, host))
        self._initially(pod)
        if found.container is None:
            if found is self.chosen:
                pod.trouble = "which of its containers runs CouchDB cannot be told"
            return pod
        try:
            self._prepare(pod, found.container)
        except NotStartedError as error:
            pod.trouble = f"its container {found.container['name']} cannot start: {error}"
            return pod
        if pod.node is not None and not (pod.waits and not self._starts_first(pod)):
            self._start(pod)
        return pod

    @staticmethod
    def _starts_first(pod: Pod) -> bool:
        """Whether CouchDB is up before what the pod waits for has ended."""
        return pod.set.is_sidecar or not pod.published

    def _prepare(self, pod: Pod, container: Object) -> None:
        """Makes the pod's node. Raises NotStartedError; what ends at once is the pod's trouble."""
        shown = pod.object
        try:
            filled = volumes(shown, self.manifests)
        except NotStartedError:
            # Without its volumes a pod gets no address either.
            shown["status"] = {"phase": "Pending"}
            raise
        pod.variables = environment(container, shown, self.manifests)
        if HOST_ADDRESS in pod.variables.values():
            self.note("all pods are on one machine here, and have one status.hostIP")
        reads_all = True
        for init in mappings(pod.set.pod_spec.get("initContainers")):
            if init["name"] == container["name"]:
                break
            if init.get("restartPolicy") == "Always" or is_own(init):
                continue
            variables = environment(init, shown, self.manifests)
            if not run_copies(init, filled, variables):
                reads_all = False
                self.note(f"initContainer {init['name']} is not played")
        mounted: list[Mount] = mounts(container, filled, pod.variables)
        arguments = [expand(str(word), pod.variables) for word in container.get("args") or ()]
        hosts = (self._full_host(pod.set, pod.name), pod.name)
        how = boot(container, pod.variables, arguments, mounted, hosts)
        how = pod.boot = replace(how, makes=(*how.makes, *self._made_beside(pod.set, container)))
        for note in how.notes:
            self.note(note)
        if how.crash:
            pod.trouble = how.crash
            return
        pod.port = self._listening_port(container, how, reads_all)
        pod.node = self._make_node(pod, how)
        if (how.settings.get("ssl") or {}).get("enable") == "true":
            given = how.settings["ssl"].get("port", "")
            pod.https_port = int(given) if given.isdigit() else HTTPS_PORT
            pod.tls = self._certified(how.settings["ssl"], mounted)

    def _made_beside(self, found: PodSet, container: Object) -> tuple[str, ...]:
        """System databases that a hook, or another container, makes on each node with curl."""
        hook = mapping(mapping(container.get("lifecycle")).get("postStart"))
        where = f"postStart of container {container['name']}"
        places = [(f"container {other['name']}", other) for other in found.others]
        if hook and where not in {companion.where for companion in in_template(found.object)}:
            places.append((where, mapping(hook.get("exec"))))
        made: dict[str, None] = {}
        for place, script in places:
            names = databases_made(
                [str(word) for key in ("command", "args") for word in script.get(key) or ()]
            )
            made |= dict.fromkeys(names)
            if names:
                self.note(f"{place} is not played, but for what it makes: {', '.join(names)}")
            elif place == where:
                self.note(f"{place} is not played")
        return tuple(made)

    def _make_node(self, pod: Pod, how: Boot) -> Node:
        settings = {section: dict(values) for section, values in how.settings.items()}
        admins = settings.pop("admins", {})
        secret = (settings.get("chttpd_auth") or {}).get("secret")
        secret = secret or (settings.get("couch_httpd_auth") or {}).get("secret")
        seeds = (settings.get("cluster") or {}).get("seedlist", "")
        bind = (settings.get("chttpd") or {}).get("bind_address") or "127.0.0.1"
        if how.cookie is None and how.is_distributed and self._has_several:
            self.note(
                "no Erlang cookie is set: the image then makes a random one in each container, and "
                "such nodes never connect; here all are given the same one (set "
                "COUCHDB_ERLANG_COOKIE)"
            )
        lonely = not how.is_distributed or how.name in self.network.nodes
        if lonely and how.is_distributed:
            self.note(f"the name {how.name} is given to several nodes, which Erlang does not bear")
        # A node without a name of its own is in no distribution, and meets nobody.
        network = DnsNetwork(self.network.pace) if lonely else self.network
        return Node(
            network,
            name=how.name,
            admins=admins,
            secret=secret,
            cookie=how.cookie or _COOKIE,
            bind_address=bind,
            seedlist=tuple(seed.strip() for seed in seeds.split(",") if seed.strip()),
            ini=settings,
            version=how.version,
            zone=how.zone,
            short_names=how.short_names,
            address=pod.address,
            port=pod.port,
            running=False,
        )

    @property
    def _has_several(self) -> bool:
        return sum(len(found.names) for found in self.sets if found.container is not None) > 1

    def _listening_port(self, container: Object, how: Boot, reads_all: bool) -> int:
        """CouchDB's port: by its configuration; where that is not all known, as declared."""
        given = (how.settings.get("chttpd") or {}).get("port", "")
        if given.isdigit() and 0 < int(given) < 65536:
            return int(given)
        declared = _declared(container)
        if HTTP_PORT in declared or not declared:
            return HTTP_PORT
        if how.reads_all and reads_all:
            self.note(
                f"container {container['name']} declares port {declared[0]}, and nothing in the "
                f"manifests has CouchDB listen there ([chttpd] port): it listens at {HTTP_PORT}"
            )
            return HTTP_PORT
        return declared[0]

    def _start(self, pod: Pod) -> None:
        node = pod.node
        if node is None or self._loop is None:
            return
        node.start()
        for name in pod.boot.makes if pod.boot else ():
            node.make_database(name)
        bind = node.config.get("chttpd", "bind_address")
        if bind in (None, *LOOPBACK):
            self.note(
                f"{pod.name} listens at 127.0.0.1 of its own pod only ([chttpd] bind_address): "
                "nobody else reaches it"
            )
            return
        handler = partial(self._answer, pod.name, node)
        for port, tls in ((pod.port, None), (pod.https_port, pod.tls)):
            if port is None or (port == pod.https_port and tls is None):
                continue
            here = self._place(pod, port)
            pod.place = pod.place or here
            try:
                pod.servers.append(self._loop.serve(handler, pod.address, here, tls))
            except OSError:
                pod.trouble = f"port {here} of {pod.address} is taken on this machine"

    def _place(self, pod: Pod, port: int) -> int:
        """The port at which this machine can have that port of the pod."""
        if self._addresses.has_hosts and is_free(pod.address, port):
            return port
        self.note(
            f"port {port} cannot be had on this machine: the nodes listen at others instead, and "
            "what depends on a port's number may come out otherwise"
        )
        here = self._addresses.free_port(pod.address)
        self._moved.setdefault(pod.name, {})[port] = here
        return here

    def _certified(self, values: Mapping[str, str], mounted: Sequence[Mount]) -> Tls:
        """What CouchDB serves https with, where its certificate and key are in the manifests."""
        texts = [mounted_file(mounted, values.get(key, "")) for key in ("cert_file", "key_file")]
        if None in texts or self._folder is None:
            self.note("https is not played: its certificate or key is not in the manifests")
            return None
        paths = [self._folder / name for name in ("certificate.pem", "key.pem")]
        try:
            for path, text in zip(paths, texts, strict=True):
                path.touch(mode=0o600)
                path.write_text(text or "")
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(paths[0], paths[1], password="")  # asks nobody for one
        except (OSError, ValueError):  # ssl.SSLError is an OSError
            self.note("https is not played: its certificate and key cannot be used")
            return None
        finally:
            for path in paths:
                path.unlink(missing_ok=True)
        return context

    def ask(self, pod: Pod, request: Request) -> Response | Wire:
        """Has a pod's node answer a request. Raises ValueError where it has none."""
        if pod.node is None or self._loop is None:
            raise ValueError(f"{pod.name} has no node")
        return self._loop.run(pod.node.handle(request))

    async def _answer(self, pod: str, node: Node, request: Request) -> Response | Wire:
        answer = await node.handle(request)
        self.log.append((pod, request, answer.status if isinstance(answer, Response) else 0))
        return answer

    # --- names and objects ---

    def _full_host(self, found: PodSet, pod: str) -> str:
        """What ``hostname -f`` says: without a Service a pod has its short name only."""
        if not found.service:
            return pod
        return ".".join([pod, found.service, found.namespace, "svc", self.domain])

    def _named_domain(self) -> str | None:
        """The cluster's domain by NODENAME, as far as it is written down."""
        container = self.chosen.container or {}
        for entry in mappings(container.get("env")):
            text = str(entry.get("value") or "")
            if entry.get("name") == "NODENAME" and ".svc." in text:
                domain = text.rpartition(".svc.")[2].strip().rstrip(".")
                if domain and "$" not in domain:
                    return domain
        return None

    def _pod_object(self, found: PodSet, name: str, address: str) -> Object:
        template = mapping(found.spec.get("template"))
        metadata = mapping(template.get("metadata"))
        spec: Object = {**copy.deepcopy(found.pod_spec), "hostname": name, "nodeName": HOST_NAME}
        if found.service:
            spec["subdomain"] = found.service
        claims = [
            str(mapping(claim.get("metadata")).get("name"))
            for claim in mappings(found.spec.get("volumeClaimTemplates"))
        ]
        spec["volumes"] = [
            *(v for v in mappings(spec.get("volumes")) if v.get("name") not in claims),
            *(
                {"name": claim, "persistentVolumeClaim": {"claimName": f"{claim}-{name}"}}
                for claim in claims
            ),
        ]
        return {
            "kind": "Pod",
            "metadata": {
                "name": name,
                "namespace": found.namespace,
                "uid": str(uuid.uuid4()),
                "labels": {
                    **mapping(metadata.get("labels")),
                    "apps.kubernetes.io/pod-index": name.rpartition("-")[2],
                    "controller-revision-hash": revision(found.name),
                    "statefulset.kubernetes.io/pod-name": name,
                },
                "annotations": mapping(metadata.get("annotations")),
            },
            "spec": spec,
            "status": {
                "phase": "Running",
                "podIP": address,
                "podIPs": [{"ip": address}],
                "hostIP": HOST_ADDRESS,
            },
        }


def _declared(container: Mapping[str, Any]) -> list[int]:
    """The container's ports that may be CouchDB's HTTP: neither EPMD's nor the distribution's."""
    return [
        port["containerPort"]
        for port in mappings(container.get("ports"))
        if isinstance(port.get("containerPort"), int)
        and port["containerPort"] not in (4369, 9100)
        and port.get("name") not in ("epmd", "metrics", "prometheus")
    ]


def _complete_service(service: Mapping[str, Any], number: int) -> Object:
    """What the API server fills in."""
    found = copy.deepcopy(dict(service))
    spec = found.setdefault("spec", {})
    for port in mappings(spec.get("ports")):
        port.setdefault("protocol", "TCP")
        port.setdefault("targetPort", port.get("port"))
    if spec.get("type") != "ExternalName":
        spec["clusterIP"] = spec.get("clusterIP") or f"10.96.0.{number}"
        spec.setdefault("clusterIPs", [spec["clusterIP"]])
        spec.setdefault("type", "ClusterIP")
    return found


def _dns_names(host: str, service: str, namespace: str, domain: str) -> tuple[str, ...]:
    """A pod's DNS name, and what the search list of /etc/resolv.conf completes to it."""
    short = f"{host}.{service}"
    return (
        short,
        f"{short}.{namespace}",
        f"{short}.{namespace}.svc",
        f"{short}.{namespace}.svc.{domain}",
    )


def _key(obj: Mapping[str, Any]) -> tuple[str, str, str]:
    return obj["kind"], obj["metadata"]["namespace"], obj["metadata"]["name"]
