"""``couchdiscover demo --manifest``: ``run`` and ``check`` on one's own manifests, on loopback."""

import base64
import json
import os
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from couchdiscover.sandbox import command, companions
from couchdiscover.sandbox.cluster import Cluster, Pod, PodSet, couchdb_container
from couchdiscover.sandbox.companions import Companion
from couchdiscover.sandbox.controllers import is_headless, is_ipv6_only
from couchdiscover.sandbox.couchdb import Node
from couchdiscover.sandbox.http import Request, Response
from couchdiscover.sandbox.image import parse_image
from couchdiscover.sandbox.kubelet import NotStartedError, environment, expand
from couchdiscover.sandbox.reading import WORKLOADS, Manifests, read

Say = Callable[[str], None]

DEFAULT_TIMEOUT = 60.0
"""How long ``run`` may try, in seconds."""

_NEVER = (
    "storage, NetworkPolicies, RBAC, admission, resources, DNS caches, and what a restart changes"
)
_OWN = ("COUCHDISCOVER_STATEFULSET", "COUCHDISCOVER_NAMESPACE", "COUCHDISCOVER_SCOPE")
"""Of the caller's own settings these are the rehearsal's to make."""

_CREDENTIALS = ("COUCHDB_ADMIN_USER", "COUCHDB_ADMIN_PASS", "COUCHDB_USER", "COUCHDB_PASSWORD")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


class ChoiceError(Exception):
    """Which StatefulSet is meant cannot be told. The text is one whole sentence."""


@dataclass(frozen=True, slots=True)
class Played:
    """One couchdiscover process that has ended."""

    pod: str
    code: int
    output: str = field(default="", repr=False)


def rehearse(
    files: Sequence[str],
    say: Say,
    *,
    statefulset: str | None = None,
    namespace: str | None = None,
    timeout: float = DEFAULT_TIMEOUT,
    fresh: bool = False,
    pace: float = 1.0,
) -> int:
    """Plays ``run``, then ``check``, on the StatefulSet of these manifests; returns the exit code.

    It is that of ``run`` where that is not 0, else that of ``check``. ``namespace`` is that of
    objects which name none; ``timeout``, in seconds, is how long ``run`` may try. ``fresh`` has
    nodes of several StatefulSets under one Service begin apart. Raises ManifestError and
    ChoiceError for what cannot be played, OSError where no address is free.
    """
    manifests = read(files, namespace or "default")
    chosen, why = choose(manifests, statefulset, namespace)
    where, name = chosen["metadata"]["namespace"], chosen["metadata"]["name"]
    played = companions.in_template(chosen)[:1] or companions.in_jobs(manifests, where, name)[:1]
    companion = played[0] if played else None
    cluster = Cluster(
        manifests,
        (where, name),
        domain=os.environ.get("COUCHDISCOVER_CLUSTER_DOMAIN") or None,
        container=os.environ.get("COUCHDISCOVER_CONTAINER") or None,
        initially=lambda pod: _hold(pod, companion, cluster.chosen),
        pace=pace,
    )
    with cluster:
        stage = Stage(cluster, say, companion, timeout)
        say(f"A rehearsal of StatefulSet {name} in namespace {where}{why}, on loopback:")
        if not fresh:
            stage.join_by_hand()
        stage.show()
        code = stage.play()
        stage.tell_writes()
        if code == 0:
            code = stage.check()
        say(f"The rehearsal ends with exit code {code}.")
        return code


def choose(
    manifests: Manifests, name: str | None, namespace: str | None
) -> tuple[dict[str, Any], str]:
    """The StatefulSet to play on, and why where that was not said. Raises ChoiceError."""
    there = manifests.find("StatefulSet", namespace)
    if not there:
        others = [aside for aside in manifests.aside if aside.startswith("Deployment ")]
        hint = (
            f" ({', '.join(others)}: couchdiscover is for StatefulSets, one a cluster)"
            if others
            else ""
        )
        place = f" in namespace {namespace}" if namespace else ""
        raise ChoiceError(f"the manifests hold no StatefulSet{place}{hint}")
    named = [found for found in there if name in (None, found["metadata"]["name"])]
    listed = ", ".join(
        f"{found['metadata']['name']} in {found['metadata']['namespace']}" for found in there
    )
    if not named:
        raise ChoiceError(f"the manifests hold no StatefulSet {name}, only {listed}")
    if len(named) == 1:
        return named[0], ""
    if name is not None:
        raise ChoiceError(
            f"StatefulSet {name} is there more than once ({listed}): choose with --namespace"
        )
    couches = [found for found in named if _runs_couchdb(found)]
    if len(couches) == 1:
        return couches[0], " (the one that runs CouchDB)"
    raise ChoiceError(f"there are several StatefulSets: choose one with --statefulset ({listed})")


def _runs_couchdb(statefulset: Mapping[str, Any]) -> bool:
    container = couchdb_container(statefulset)
    return container is not None and parse_image(str(container.get("image") or "")).is_couchdb


def _hold(pod: Pod, companion: Companion | None, chosen: PodSet) -> None:
    """Has a pod wait for the couchdiscover that it cannot become Ready without."""
    if pod.set is not chosen or companion is None:
        return
    if companion.way in ("initContainer", "postStart"):
        pod.waits = True
        pod.published = companion.way != "postStart"


@dataclass(slots=True)
class Stage:
    """A cluster, and how couchdiscover is let loose on it."""

    cluster: Cluster
    say: Say
    companion: Companion | None
    seconds: float
    by_hand: tuple[str, ...] = ()
    """The other StatefulSets whose nodes were joined before, as by hand."""

    @property
    def timeout(self) -> str:
        """How long ``run`` may try, as its option takes it."""
        return f"{self.seconds:g}s"

    # --- telling ---

    def show(self) -> None:
        """Tells what there is, and what of it is not certain."""
        cluster, say = self.cluster, self.say
        for found in cluster.sets:
            if found.container is None and found is not cluster.chosen:
                continue
            for pod in found.pods:
                say(f"  {pod.name}  {_described(pod)}")
            missing = found.names[len(found.pods) :]
            if missing:
                waiting = "not created yet: OrderedReady waits for the one before to be Ready"
                say(f"  {', '.join(missing)}  {waiting}")
        for line in self._services():
            say(f"  {line}")
        if self.by_hand:
            say(
                f"  The nodes of StatefulSets {', '.join(self.by_hand)} are under the same "
                "Service: all begin as one cluster, joined by hand (--fresh: apart)."
            )
        apart = [found.name for found in cluster.sets if found.container is not None]
        apart = [name for name in apart if name not in (cluster.chosen.name, *self.by_hand)]
        if apart:
            say(f"  StatefulSets with CouchDB that begin apart from it: {', '.join(apart)}.")
        say("What is not known here, or taken for granted:")
        say(f"  - {_NEVER}")
        for note in [*cluster.notes, *self._hints()]:
            say(f"  - {note}")

    def _services(self) -> list[str]:
        lines = []
        there = set()
        for service in self.cluster.api_services():
            name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
            there.add((namespace, name))
            try:
                endpoints = self.cluster.api.get("Endpoints", namespace, name)
            except KeyError:
                lines.append(f"Service {name} has no selector, and publishes nothing")
                continue
            pods = sorted(
                address["targetRef"]["name"]
                for subset in endpoints.get("subsets", ())
                for address in subset.get("addresses", ())
            )
            kind = "headless" if is_headless(service) else "with an address of its own"
            lines.append(f"Service {name} ({kind}) publishes {', '.join(pods) or 'no pod'}")
        chosen = self.cluster.chosen
        if not chosen.service:
            lines.append(f"StatefulSet {chosen.name} names no Service (spec.serviceName)")
        elif (chosen.namespace, chosen.service) not in there:
            lines.append(f"Service {chosen.service} (spec.serviceName) is not among the manifests")
        return lines

    def _hints(self) -> list[str]:
        cluster = self.cluster
        chosen = cluster.chosen
        hints = []
        if cluster.domain != "cluster.local":
            hints.append(
                f"the cluster's DNS domain: taken for {cluster.domain} "
                "(COUCHDISCOVER_CLUSTER_DOMAIN says another)"
            )
        suffix = f".{chosen.namespace}.svc"
        for pod in chosen.pods[:1]:
            host = pod.boot.name.partition("@")[2] if pod.boot else ""
            if ".svc" in host and f"{suffix}." not in f"{host}.":
                hints.append(
                    f"{pod.name} is called {host}, and the manifests are of namespace "
                    f"{chosen.namespace}: give the namespace they are meant for with --namespace"
                )
        for service in cluster.api_services():
            metadata = service["metadata"]
            named = (metadata["namespace"], metadata["name"])
            if named == (chosen.namespace, chosen.service) and not is_headless(service):
                hints.append(
                    f"DNS: Service {chosen.service} has an address of its own, and by Kubernetes' "
                    "specification its pods then have no names; so it is played (CoreDNS knows the "
                    "names of Ready pods all the same)"
                )
            if named == (chosen.namespace, chosen.service) and is_ipv6_only(service):
                hints.append(
                    "IPv6: the pods have IPv4 addresses here (Erlang's distribution goes by IPv6 "
                    "only with -proto_dist inet6_tcp in ERL_FLAGS)"
                )
        if chosen.pod_spec.get("hostNetwork"):
            hints.append("hostNetwork: each pod has an address of its own here")
        idle = [c["name"] for c in chosen.others if not companions.is_own(c)]
        if idle:
            hints.append(f"what the other containers do ({', '.join(idle)})")
        aside = [*self._idle_jobs(), *self.cluster.manifests.aside]
        if aside:
            hints.append(f"what else the manifests hold: {', '.join(aside)}")
        return hints

    def _idle_jobs(self) -> list[str]:
        """The Jobs and CronJobs that are not played."""
        there = [
            f"{kind} {job['metadata']['name']}"
            for kind in WORKLOADS
            for job in self.cluster.manifests.find(kind)
        ]
        played = self.companion.where if self.companion is not None else ""
        return [job for job in there if job != played]

    def tell_writes(self) -> None:
        """Tells what was written to CouchDB."""
        kinds = Counter(
            kind for _, request, status in self.cluster.writes() if (kind := _kind(request, status))
        )
        told = ", ".join(f"{kind} ({count})" for kind, count in sorted(kinds.items()))
        self.say(f"Written to CouchDB: {told or 'nothing'}.")
        for pod in self.cluster.chosen.pods:
            if pod.unready_because and not pod.ready:
                self.say(f"{pod.name} is not Ready: {pod.unready_because}.")
        self.say("")

    # --- playing ---

    def play(self) -> int:
        """Plays ``run`` the way in which the manifests run it; else from outside."""
        companion = self.companion
        if companion is None:
            return self._outside()
        if companion.way == "Job":
            return self._job(companion)
        return self._in_pods(companion)

    def check(self) -> int:
        """Plays ``check``, with the credentials that the manifests' own couchdiscover has."""
        own = {}
        if self.companion is not None:
            pods = self.cluster.chosen.pods
            with_job = self.companion.way == "Job"
            pod = None if with_job or not pods else pods[0]
            given = self._variables(self.companion, pod)
            own = {key: given[key] for key in _CREDENTIALS if key in given}
        return self._command(["check", *self._target()], own)

    def _outside(self) -> int:
        return self._command(["run", *self._target(), "--timeout", self.timeout], {})

    def _job(self, companion: Companion) -> int:
        try:
            variables = self._variables(companion, None)
        except NotStartedError as error:
            return self._not_started(companion.where, error)
        words = [expand(word, variables) for word in companion.words] or ["run"]
        words = [*words, "--timeout", self.timeout]
        return self._command(words, variables, f"as {companion.where} does", companion.words)

    def _not_started(self, where: str, error: NotStartedError) -> int:
        self.say(f"{where} cannot start: {error}.")
        return 4

    def _in_pods(self, companion: Companion) -> int:
        """Plays what each pod runs; pods that are created meanwhile run theirs, too."""
        shown = " ".join(["couchdiscover", *companion.words])
        self.say(f"$ {shown}    # {companion.where}, in each pod; --timeout {self.timeout}")
        started = time.monotonic()
        chosen = self.cluster.chosen
        results: dict[str, Played] = {}
        processes: list[subprocess.Popen[str]] = []

        def run(pod: Pod) -> None:
            played = results[pod.name] = self._in_pod(companion, pod, processes)
            if played.code == 0:
                self.cluster.release(pod)

        begun: dict[str, threading.Thread] = {}
        # A pod may take a while to be Ready, and only then is the next one created.
        until = started + self.seconds
        try:
            while True:
                for pod in list(chosen.pods):
                    if pod.name not in begun:
                        begun[pod.name] = threading.Thread(target=run, args=(pod,), daemon=True)
                        begun[pod.name].start()
                idle = not any(thread.is_alive() for thread in begun.values())
                failed = any(played.code for played in results.values())
                whole = len(begun) == len(chosen.names)
                if idle and (failed or whole or time.monotonic() > until):
                    break
                time.sleep(0.05)
        finally:
            for process in processes:
                if process.poll() is None:
                    process.kill()
        code = 0
        for name in begun:
            played = results.get(name, Played(name, 1))
            code = code or played.code
            self.say(f"--- {name}: exit code {played.code}")
            for line in played.output.splitlines():
                self.say(f"    {line}")
        missing = [name for name in chosen.names if name not in begun]
        if missing:
            self.say(f"{', '.join(missing)}: never created, since the pod before is not Ready")
            code = code or 4
        self.say(f"exit code {code}, after {time.monotonic() - started:.1f} s")
        self.say("")
        return code

    def _in_pod(
        self, companion: Companion, pod: Pod, processes: list["subprocess.Popen[str]"]
    ) -> Played:
        try:
            variables = self._variables(companion, pod)
        except NotStartedError as error:
            return Played(pod.name, 4, f"it cannot start: {error}")
        own = {
            "POD_NAME": pod.name,
            "POD_NAMESPACE": pod.set.namespace,
            **({"POD_IP": pod.address} if pod.address else {}),
        }
        words = [expand(word, variables) for word in companion.words] or ["run"]
        process = command.start(
            [*words, "--timeout", self.timeout],
            {**self._surroundings(), **variables, **own},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        processes.append(process)
        _, output = process.communicate()
        return Played(pod.name, _exit_code(process.returncode), output)

    def _command(
        self,
        words: Sequence[str],
        variables: Mapping[str, str],
        how: str = "",
        shown: Sequence[str] | None = None,
    ) -> int:
        """Runs couchdiscover in a process of its own; its output is ours."""
        text = " ".join(["couchdiscover", *(words if shown is None else shown)])
        self.say(f"$ {text}" + (f"    # {how}; --timeout {self.timeout}" if how else ""))
        started = time.monotonic()
        code = _exit_code(command.run(words, {**self._surroundings(), **variables}))
        self.say(f"exit code {code}, after {time.monotonic() - started:.1f} s")
        self.say("")
        return code

    def _target(self) -> list[str]:
        chosen = self.cluster.chosen
        return ["--statefulset", chosen.name, "--namespace", chosen.namespace]

    def _surroundings(self) -> dict[str, str]:
        """Our environment without what would lead astray, and with what leads to the sandbox."""
        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("COUCHDB_", "POD_", "KUBERNETES_"))
            and key not in _OWN
            and key.lower() not in _PROXIES
        }
        found = {
            **kept,
            "KUBECONFIG": str(self.cluster.kubeconfig),
            "COUCHDISCOVER_NAMESPACE": self.cluster.chosen.namespace,
            "COUCHDISCOVER_TERMINATION_LOG": os.devnull,
        }
        found.pop("COUCHDISCOVER_CONTEXT", None)
        if self.cluster.domain != "cluster.local":
            found["COUCHDISCOVER_CLUSTER_DOMAIN"] = self.cluster.domain
        return found

    def _variables(self, companion: Companion, pod: Pod | None) -> dict[str, str]:
        """The environment of couchdiscover's own container. Raises NotStartedError."""
        chosen = self.cluster.chosen
        if pod is None:
            shown = {
                "metadata": {"name": "couchdiscover", "namespace": chosen.namespace, "uid": ""},
                "spec": {},
                "status": {},
            }
        else:
            shown = pod.object
        return environment(companion.container, shown, self.cluster.manifests)

    # --- before ---

    def join_by_hand(self) -> None:
        """Makes one cluster of the nodes of all StatefulSets under the chosen one's Service.

        couchdiscover is for one StatefulSet a cluster; who has several has joined them otherwise.
        """
        chosen = self.cluster.chosen
        others = [
            found
            for found in self.cluster.sets
            if found is not chosen
            and found.container is not None
            and found.service
            and (found.namespace, found.service) == (chosen.namespace, chosen.service)
        ]
        pods = [pod for found in [chosen, *others] for pod in found.pods]
        nodes = [pod.node for pod in pods if pod.node is not None and pod.servers]
        if not others or len(nodes) != len(pods) or self.companion is not None:
            return
        hand = _Hand(pods, self.cluster)
        if hand.join():
            self.by_hand = tuple(found.name for found in others)
            self.cluster.log.clear()
        else:
            self.cluster.note("the nodes of the StatefulSets could not be joined by hand")


@dataclass(slots=True)
class _Hand:
    """Joins nodes as CouchDB's manual says, with the administrator that each has."""

    pods: Sequence[Pod]
    cluster: Cluster

    def join(self) -> bool:
        """Whether all nodes are members of one finished cluster then."""
        first = self._node(self.pods[0])
        names = {self._node(pod).name for pod in self.pods}
        if len(names) != len(self.pods):
            return False
        for pod in self.pods[1:]:
            if not self._ask(pod, "PUT", f"/_node/_local/_nodes/{first.name}", {}):
                return False
        end = time.monotonic() + 10
        while any(set(self._node(pod).connected) != names for pod in self.pods):
            if time.monotonic() > end:
                return False
            self.cluster.network.settle()
            time.sleep(0.02)
        secret = first.config.secret or "made by hand"
        path = "/_node/_local/_config/chttpd_auth/secret"
        if not self._ask(self.pods[0], "PUT", path, secret):
            return False
        return self._ask(self.pods[0], "POST", "/_cluster_setup", {"action": "finish_cluster"})

    @staticmethod
    def _node(pod: Pod) -> Node:
        if pod.node is None:
            raise ValueError(f"{pod.name} has no node")
        return pod.node

    def _ask(self, pod: Pod, method: str, path: str, body: object) -> bool:
        login = f"{pod.variables.get('COUCHDB_USER')}:{pod.variables.get('COUCHDB_PASSWORD')}"
        headers = {
            "authorization": "Basic " + base64.b64encode(login.encode()).decode(),
            "content-type": "application/json",
        }
        content = json.dumps(body).encode()
        request = Request(method, path, unquote(path), {}, headers, content, client=pod.address)
        answer = self.cluster.ask(pod, request)
        return isinstance(answer, Response) and answer.status in (200, 201, 409)


def _described(pod: Pod) -> str:
    if pod.trouble:
        return f"does not run: {pod.trouble}"
    if pod.node is None or pod.boot is None:
        return "runs no CouchDB"
    where = f"http://{pod.address}:{pod.place}" if pod.servers else "not listening"
    return f"{pod.boot.name}  {where}  CouchDB {pod.boot.version}"


def _kind(request: Request, status: int) -> str:
    """What a request has changed, in a word; nothing where it has changed nothing."""
    path = request.path.rstrip("/")
    if not 200 <= status < 300 or path == "/_session":
        return ""
    if "/_nodes/" in path:
        return "member" if request.method == "PUT" else "member removed"
    if path == "/_cluster_setup":
        try:
            return f"{request.json()['action']}"
        except (ValueError, KeyError, TypeError):
            return "set-up"
    if "/_config/" in path:
        return "setting"
    if "/_local/" in path:
        return "mark"
    return "database" if path.count("/") == 1 and request.method == "PUT" else "other"


def _exit_code(code: int) -> int:
    return code if code >= 0 else 128 - code
