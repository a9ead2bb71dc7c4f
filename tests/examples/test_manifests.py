"""Every manifest: valid, restricted, of least rights, and consistent with the others."""

import functools
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator

import pytest
import yaml

from couchdiscover import __version__
from tests.examples.conftest import (
    EXAMPLES,
    FOLDERS,
    ROOT,
    STATEFULSETS,
    Document,
    Object,
    canonical,
    container,
    containers,
    documents,
    find,
    hook,
    words,
)

kubernetes_validate = pytest.importorskip(
    "kubernetes_validate", reason="needs kubernetes-validate (pip install '.[dev]')"
)


# It reads megabytes of schemas for each object anew.
for _read_again in ("all_versions", "schema_contents"):
    _once = functools.cache(getattr(kubernetes_validate.utils, _read_again))
    setattr(kubernetes_validate.utils, _read_again, _once)


def minor(version: str) -> int:
    return int(version.split(".")[1])


README = (EXAMPLES / "README.md").read_text()
CLAIM = re.findall(r"Kubernetes (1\.\d+) or newer", README)[0]
ALL = documents()
KNOWN = {re.sub(r"^(\d+\.\d+).*", r"\1", v) for v in kubernetes_validate.utils.all_versions()}
VERSIONS = sorted((v for v in KNOWN if minor(v) >= minor(CLAIM)), key=minor)
PODS = [document for document in ALL if document.pod]


def test_each_folder_is_told_about() -> None:
    assert sorted(re.findall(r"^\| \[(\w+)\]\(\1/\) ", README, re.MULTILINE)) == FOLDERS


@pytest.mark.parametrize("document", ALL, ids=str)
def test_every_object_is_valid_in_every_kubernetes_that_is_claimed(document: Document) -> None:
    told = re.findall(r"Kubernetes\s+(?:#\s+)?(1\.\d+)", document.path.read_text())
    assert set(told) <= {CLAIM}
    if document.content["apiVersion"].startswith("snapshot.storage.k8s.io/"):
        return  # not Kubernetes' own: see test_snapshots_are_of_their_form
    for version in VERSIONS:
        kubernetes_validate.validate(document.content, version, strict=True)


def test_the_validator_would_notice() -> None:
    assert len(VERSIONS) >= 3
    wrong = {**find("job", "Job"), "spec": {"backofLimit": 1, "template": {}}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.31", strict=True)


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_kustomization_lists_every_file(folder: str) -> None:
    path = EXAMPLES / folder / "kustomization.yaml"
    if folder in ("helm", "ci"):
        assert not path.exists()  # one is applied beside a release, the other copied
        return
    listed = yaml.safe_load(path.read_text())["resources"]
    there = {each.name for each in path.parent.glob("*.yaml")} - {"kustomization.yaml"}
    there -= {"snapshots.yaml"}  # of the original's namespace
    assert set(listed) == there


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")
@pytest.mark.parametrize("folder", sorted(set(FOLDERS) - {"helm", "ci"}))
def test_kubectl_builds_it(folder: str) -> None:
    command = ["kubectl", "kustomize", str(EXAMPLES / folder)]
    built = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    here = [each for each in documents(folder) if each.path.name != "snapshots.yaml"]
    assert len(list(yaml.safe_load_all(built))) == len(here)


# --- pods ---


def breaches(pod: Object) -> Iterator[str]:
    """What the pod security standard "restricted" (Kubernetes documentation) objects to."""
    spec = pod["spec"]
    outer = spec.get("securityContext", {})
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(key):
            yield key
    allowed = {"configMap", "emptyDir", "projected", "secret", "downwardAPI"}
    for volume in spec.get("volumes", []):
        if not set(volume) - {"name"} <= allowed:
            yield f"volume {volume['name']}"
    for each in containers(pod):
        own = each.get("securityContext", {})
        merged = {**outer, **own}
        if own.get("allowPrivilegeEscalation") is not False:
            yield f"{each['name']}: allowPrivilegeEscalation"
        if own.get("capabilities") != {"drop": ["ALL"]}:
            yield f"{each['name']}: capabilities"
        if own.get("privileged"):
            yield f"{each['name']}: privileged"
        if merged.get("runAsNonRoot") is not True or not merged.get("runAsUser"):
            yield f"{each['name']}: runAsNonRoot, by number"
        if merged.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            yield f"{each['name']}: seccompProfile"
        if any("hostPort" in port for port in each.get("ports", [])):
            yield f"{each['name']}: hostPort"


@pytest.mark.parametrize("document", PODS, ids=str)
def test_pods_meet_the_restricted_standard(document: Document) -> None:
    assert document.pod
    assert list(breaches(document.pod)) == []
    for each in containers(document.pod):
        if each["name"] != "couchdb":  # the official image's entry point writes
            assert each["securityContext"]["readOnlyRootFilesystem"] is True
        assert set(each["resources"]) == {"requests", "limits"}
        assert "memory" in each["resources"]["limits"]


def test_the_helm_values_meet_it_too() -> None:
    values = yaml.safe_load((EXAMPLES / "helm" / "values.yaml").read_text())
    pod = {
        "spec": {
            "securityContext": values["podSecurityContext"],
            "containers": [
                {"name": "couchdb", "securityContext": values["containerSecurityContext"]}
            ],
        }
    }
    assert list(breaches(pod)) == []


def test_images_are_pinned() -> None:
    for document in PODS:
        assert document.pod
        for each in containers(document.pod):
            name, _, tag = each["image"].rpartition(":")
            assert name.count("/") >= 1, each["image"]
            assert re.fullmatch(r"[0-9]+(\.[0-9]+){1,3}(-couchdb[0-9.]+)?", tag), each["image"]
            if "couchdiscover" in name:
                assert tag.split("-")[0] == __version__
    assert not words(r"image:\s*\S+:latest", sorted(EXAMPLES.rglob("*.yaml")))


def test_one_couchdb_version_everywhere() -> None:
    pattern = r"(?:library/couchdb:|-couchdb)(\d+(?:\.\d+)+)"
    found = words(pattern, [*EXAMPLES.rglob("*.yaml"), ROOT / "Containerfile"])
    release = (ROOT / ".github/workflows/release.yml").read_text()
    found |= set(re.findall(r"COUCHDB_VERSION: (\S+)", release))
    values = yaml.safe_load((EXAMPLES / "helm" / "values.yaml").read_text())
    assert found == {values["image"]["tag"]}


# --- CouchDB ---


@pytest.mark.parametrize("folder", STATEFULSETS[1:])
def test_couchdb_is_set_up_the_same_in_every_way(folder: str) -> None:
    first, this = ({d: find(f, d, "couchdb") for d in KINDS} for f in ("job", folder))
    for kind in ("Service", "PodDisruptionBudget"):
        assert canonical(this[kind]) == canonical(first[kind])
    ours, theirs = (
        container(each["StatefulSet"]["spec"]["template"], "couchdb") for each in (this, first)
    )
    for key in set(theirs) - {"image", "readinessProbe"}:
        assert canonical(ours[key]) == canonical(theirs[key]), key
    held = "exec" if folder == "restore" else "httpGet"  # the others join before they can be Ready
    assert held in ours["readinessProbe"]
    for key in ("serviceName", "replicas", "selector", "volumeClaimTemplates"):
        here, there = (each["StatefulSet"]["spec"][key] for each in (this, first))
        assert canonical(here) == canonical(there), key


KINDS = ("Service", "PodDisruptionBudget", "StatefulSet")


def test_identity_survives_a_restart() -> None:
    service, budget, couchdb = (find("job", kind, "couchdb") for kind in KINDS)
    spec = couchdb["spec"]
    labels = spec["template"]["metadata"]["labels"]
    node = container(spec["template"], "couchdb")
    values = {entry["name"]: entry for entry in node["env"]}
    assert service["metadata"]["name"] == spec["serviceName"]
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert service["spec"]["clusterIP"] == "None"
    assert spec["selector"]["matchLabels"].items() <= labels.items()
    assert service["spec"]["selector"].items() <= labels.items()
    assert budget["spec"]["selector"]["matchLabels"].items() <= labels.items()
    expected = f"$(POD_NAME).{spec['serviceName']}.$(POD_NAMESPACE).svc.cluster.local"
    assert values["NODENAME"]["value"] == expected
    order = list(values)  # $(NAME) is replaced only where NAME stands earlier
    assert order.index("NODENAME") > max(order.index("POD_NAME"), order.index("POD_NAMESPACE"))
    for name in ("COUCHDB_SECRET", "COUCHDB_ERLANG_COOKIE", "COUCHDB_PASSWORD"):
        assert "secretKeyRef" in values[name]["valueFrom"]
    mounts = {mount["name"]: mount["mountPath"] for mount in node["volumeMounts"]}
    assert mounts["uuid"].startswith("/opt/couchdb/etc/default.d/")
    ports = {port["name"]: port["containerPort"] for port in node["ports"]}
    assert ports == {port["name"]: port["port"] for port in service["spec"]["ports"]}


def test_secrets_are_those_that_the_readme_makes() -> None:
    command = re.search(r"```sh\n(.*?)```", README, re.DOTALL)
    assert command
    made = set(re.findall(r"--from-literal=([\w.]+)=", command[1]))
    objects = set(re.findall(r"kubectl create (?:secret generic|configmap) (\S+)", command[1]))
    used, named = set(), set()
    for document in PODS:
        assert document.pod
        for each in containers(document.pod):
            for entry in each.get("env", []):
                if ref := entry.get("valueFrom", {}).get("secretKeyRef"):
                    used.add(ref["key"])
                    named.add(ref["name"])
        for volume in document.pod["spec"].get("volumes", []):
            named |= {volume["configMap"]["name"]} if "configMap" in volume else set()
        for each in containers(document.pod):
            used |= {m["subPath"] for m in each.get("volumeMounts", []) if "subPath" in m}
    assert (used, named) == (made, objects)
    values = yaml.safe_load((EXAMPLES / "helm" / "values.yaml").read_text())
    assert values["extraSecretName"] in objects
    assert {value for key, value in values.items() if key.endswith("Key")} <= made


CHART = "4.6.2"
CHART_VALUES = {
    # what of the chart's values.yaml our values set
    "adminPasswordKey",
    "adminUsernameKey",
    "autoSetup",
    "clusterSize",
    "containerSecurityContext",
    "cookieAuthSecretKey",
    "createAdminSecret",
    "erlangCookieKey",
    "extraSecretName",
    "image",
    "initImage",
    "persistentVolume",
    "podDisruptionBudget",
    "podSecurityContext",
}


def test_the_helm_values_are_the_charts() -> None:
    text = (EXAMPLES / "helm" / "values.yaml").read_text()
    assert set(yaml.safe_load(text)) == CHART_VALUES
    assert f"--version {CHART}" in text
    assert yaml.safe_load(text)["autoSetup"] == {"enabled": False}


# --- rights ---


@pytest.mark.parametrize("folder", FOLDERS)
def test_least_rights(folder: str) -> None:
    role, binding = find(folder, "Role"), find(folder, "RoleBinding")
    name = "couchdb-couchdb" if folder == "helm" else "couchdb"
    assert role["rules"] == [
        {
            "apiGroups": ["apps"],
            "resources": ["statefulsets"],
            "resourceNames": [name],
            "verbs": ["get"],
        },
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list"]},
        {
            "apiGroups": [""],
            "resources": ["endpoints"],
            "resourceNames": [name],
            "verbs": ["get"],
        },
        {
            "apiGroups": [""],
            "resources": ["services"],
            "resourceNames": [name],
            "verbs": ["get"],
        },
    ]
    account = find(folder, "ServiceAccount")["metadata"]["name"]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account}]
    runs_it = [
        document.pod["spec"]["serviceAccountName"]
        for document in documents(folder)
        if document.pod and "serviceAccountName" in document.pod["spec"]
    ]
    assert runs_it == [account]


def test_folders_that_go_together_do_not_overwrite_each_other() -> None:
    """The same object in two folders is the same, except what a person applies only one of."""
    seen: dict[tuple[str, str], str] = {}
    for folder in ("initcontainer", "cronjob", "app", "ci"):
        for document in documents(folder):
            key = (document.content["kind"], document.content["metadata"]["name"])
            assert key not in seen, f"{key} is in {seen.get(key)} and {folder}"
            seen[key] = folder


@pytest.mark.parametrize("folder", ["initcontainer", "app"])
def test_the_token_is_couchdiscovers_alone(folder: str) -> None:
    kind = "StatefulSet" if folder == "initcontainer" else "Deployment"
    pod = find(folder, kind)["spec"]["template"]
    assert pod["spec"]["automountServiceAccountToken"] is False
    for each in containers(pod):
        paths = [mount["mountPath"] for mount in each.get("volumeMounts", [])]
        is_ours = "/couchdiscover:" in each["image"]
        assert ("/var/run/secrets/kubernetes.io/serviceaccount" in paths) is is_ours
    (volume,) = (v for v in pod["spec"]["volumes"] if v["name"] == "kubernetes-api")
    projected = set(re.findall(r"'path': '([\w.]+)'", str(volume)))
    assert projected == {"token", "ca.crt", "namespace"}  # what an in-cluster client looks for


# --- the network ---


@pytest.mark.parametrize("folder", STATEFULSETS)
def test_the_network_policy_lets_in_who_must(folder: str) -> None:
    policy = find(folder, "NetworkPolicy", "couchdb")
    couchdb = find(folder, "StatefulSet")["spec"]["template"]
    assert selects(policy["spec"]["podSelector"], couchdb)
    own = "couchdiscover" if folder in ("job", "restore") else "couchdb"
    clients = {
        "couchdb": couchdb,
        "couchdiscover": find("job", "Job")["spec"]["template"],
        "cronjob": find("cronjob", "CronJob")["spec"]["jobTemplate"]["spec"]["template"],
        "check": find("ci", "Job")["spec"]["template"],
        "app": find("app", "Deployment")["spec"]["template"],
    }
    for who in {own, "couchdiscover", "cronjob", "check", "app"}:
        assert admitted(policy, clients[who]) >= {5984}, who
    assert admitted(policy, couchdb) >= {4369, 9100}
    for who in set(clients) - {"couchdb"}:
        assert not admitted(policy, clients[who]) & {4369, 9100}, who
    ports = {port["containerPort"] for port in container(couchdb, "couchdb")["ports"]}
    assert ports == {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]}
    peers = [peer["podSelector"] for rule in policy["spec"]["ingress"] for peer in rule["from"]]
    assert all(any(selects(peer, pod) for pod in clients.values()) for peer in peers)


def selects(selector: Object, pod: Object) -> bool:
    return bool(selector["matchLabels"].items() <= pod["metadata"]["labels"].items())


def admitted(policy: Object, pod: Object) -> set[int]:
    return {
        port["port"]
        for rule in policy["spec"]["ingress"]
        for port in rule["ports"]
        if any(selects(peer["podSelector"], pod) for peer in rule["from"])
    }


# --- deadlines ---


def test_the_job_outlives_its_runs() -> None:
    job = find("job", "Job")["spec"]
    (each,) = containers(job["template"])
    (timeout,) = (int(a[10:-1]) * 60 for a in each["args"] if a.startswith("--timeout="))
    tries = job["backoffLimit"] + 1
    pauses = sum(10 * 2**n for n in range(job["backoffLimit"]))
    assert job["activeDeadlineSeconds"] > tries * timeout + pauses
    assert job["template"]["spec"]["restartPolicy"] == "Never"
    ignore, fail = job["podFailurePolicy"]["rules"]
    assert ignore["action"] == "Ignore"
    assert [each["type"] for each in ignore["onPodConditions"]] == ["DisruptionTarget"]
    assert fail["onExitCodes"] == {
        "containerName": each["name"],
        "operator": "In",
        "values": [2, 3, 5, 6],
    }


def test_the_cron_jobs_run_ends_by_itself() -> None:
    job = find("cronjob", "CronJob")["spec"]["jobTemplate"]["spec"]
    (each,) = containers(job["template"])
    assert "--timeout=3m" in each["args"]
    assert job["activeDeadlineSeconds"] > 180


def test_other_jobs_end_as_the_job_does() -> None:
    """Only a deadline (4), a bug (1) and an interruption are worth another try."""
    first = find("job", "Job")["spec"]
    for folder in ("helm", "restore"):
        other = find(folder, "Job")["spec"]
        for key in ("backoffLimit", "activeDeadlineSeconds", "podFailurePolicy"):
            assert canonical(other[key]) == canonical(first[key]), (folder, key)


@pytest.mark.parametrize("folder", ["job", "helm"])
def test_the_job_that_is_run_again_is_told_that_the_cluster_exists(folder: str) -> None:
    """The command in the file's own comment, on the file: nothing else is applied with it."""
    path = EXAMPLES / folder / "couchdiscover.yaml"
    (command,) = re.findall(r"^#   (sed .*) \| kubectl apply -f -$", path.read_text(), re.MULTILINE)
    built = subprocess.run(
        ["sh", "-c", command], cwd=path.parent, capture_output=True, text=True, check=True
    ).stdout
    (job,) = (each for each in yaml.safe_load_all(built) if each["kind"] == "Job")
    (ours,) = containers(job["spec"]["template"])
    (before,) = containers(find(folder, "Job")["spec"]["template"])
    assert ours["args"] == ["run", "--cluster-state=existing", *before["args"][1:]]
    assert "--cluster-state=existing" not in before["args"]
    kinds = {each["kind"] for each in yaml.safe_load_all(built)}
    assert kinds == {"ServiceAccount", "Role", "RoleBinding", "Job"}


def test_the_hook_does_not_wait_for_copies_and_is_not_the_only_one_to_start() -> None:
    spec = find("poststart", "StatefulSet")["spec"]["template"]["spec"]
    (first,) = spec["initContainers"]
    (couchdb,) = spec["containers"]
    assert (first["command"], first["image"]) == (["true"], couchdb["image"])
    assert "restartPolicy" not in first
    assert "--no-wait-for-copies" in shlex.split(hook(couchdb)[2])


# --- restoring ---


def test_snapshots_are_of_their_form() -> None:
    """Each claim of the StatefulSet is kept, imported and made again; pods get what they had."""
    name = find("restore", "StatefulSet")["metadata"]["name"]
    found: dict[str, dict[str, Object]] = {}
    for document in documents("restore"):
        content = document.content
        if "napshot" in content["kind"] or content["kind"] == "PersistentVolumeClaim":
            found.setdefault(f"{document.path.stem}/{content['kind']}", {})[
                content["metadata"]["name"]
            ] = content["spec"]
    numbers = range(find("restore", "StatefulSet")["spec"]["replicas"])
    assert found == {
        "snapshots/VolumeSnapshot": {
            f"{name}-{n}": {"source": {"persistentVolumeClaimName": f"data-{name}-{n}"}}
            for n in numbers
        },
        "import/VolumeSnapshotContent": {
            f"NAMESPACE-{name}-{n}": {
                "deletionPolicy": "Retain",
                "driver": "DRIVER",
                "source": {"snapshotHandle": f"HANDLE-OF-COUCHDB-{n}"},
                "volumeSnapshotRef": {"name": f"{name}-{n}", "namespace": "NAMESPACE"},
            }
            for n in numbers
        },
        "import/VolumeSnapshot": {
            f"{name}-{n}": {"source": {"volumeSnapshotContentName": f"NAMESPACE-{name}-{n}"}}
            for n in numbers
        },
        "volumes/PersistentVolumeClaim": {
            f"data-{name}-{n}": {
                "accessModes": ["ReadWriteOnce"],
                "dataSource": {
                    "apiGroup": "snapshot.storage.k8s.io",
                    "kind": "VolumeSnapshot",
                    "name": f"{name}-{n}",
                },
                "resources": {"requests": {"storage": "10Gi"}},
            }
            for n in numbers
        },
    }


def test_a_restored_set_is_walled_off_before_it_starts() -> None:
    listed = yaml.safe_load((EXAMPLES / "restore" / "kustomization.yaml").read_text())["resources"]
    assert listed[0] == "networkpolicy.yaml"
    policy = find("restore", "NetworkPolicy", "couchdb")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    peers = [p for rule in policy["ingress"] for p in rule["from"]]
    inside, names = policy["egress"]
    assert all(set(peer) == {"podSelector"} for peer in [*peers, *inside["to"]])
    assert {port["port"] for port in names["ports"]} == {53}


def test_couchdb_is_a_native_sidecar_before_couchdiscover() -> None:
    first, second = find("initcontainer", "StatefulSet")["spec"]["template"]["spec"][
        "initContainers"
    ]
    assert (first["name"], first["restartPolicy"]) == ("couchdb", "Always")
    assert "startupProbe" in first
    assert second["name"] == "couchdiscover"
    assert "restartPolicy" not in second


# --- a StatefulSet, or a Service, that is called otherwise -----------------------------------

ROWS = {
    "`resourceNames` of `statefulsets`": [r"Role rules\.\d+\.resourceNames\."],
    "`resourceNames` of `endpoints`": [r"Role rules\.\d+\.resourceNames\."],
    "`--statefulset=`": [r"\.args\."],
    "`NODENAME`": [r"\.NODENAME$"],
    "the selectors": [r"(selector|Selector)(\.matchLabels)?\.app"],
    "`secretKeyRef`": [r"\.secretKeyRef\.name$", r"volumes\.\d+\.configMap\.name$"],
    "`COUCHDB_URL`": [r"\.COUCHDB_URL$"],
    "`data-couchdb-0`": [
        r"^PersistentVolumeClaim metadata\.name$",
        r"^VolumeSnapshot",
        r"dataSource\.name$",
    ],
}
"""The table's rows, by what their first cell says, and the places that each is about."""

THEIR_OWN = [
    r" metadata\.(name|labels\.)",
    r"\.template\.metadata\.",
    r" spec\.serviceName$",
    r"(subjects\.\d+|roleRef)\.name$",
    r"\.serviceAccountName$",
    r"\.(image|mountPath|port)$",
    r"(ontainers|ports)\.\d+\.name$",
]
"""Where a set that comes along is called what it is, and what does not go by its name."""


def mentions(value: object, path: str) -> Iterator[tuple[str, str]]:
    """Each text in an object, by its path; a variable's by the variable's name."""
    if isinstance(value, dict):
        for key, each in value.items():
            named = "value" in value and key == "value"
            yield from mentions(each, f"{path}.{value.get('name') if named else key}")
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from mentions(each, f"{path}.{number}")
    elif isinstance(value, str):
        yield path, value


def test_the_table_for_other_names_is_complete() -> None:
    table = README.partition("## Another name")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (.+?) \|", table, re.MULTILINE)[1:]
    used = set()
    for document in ALL:
        kind = document.content["kind"]
        for path, text in mentions(dict(document.content), ""):
            place = f"{kind} {path.removeprefix('.')}"
            if not re.search(r"(?<!\w)couchdb(?!iscover)", text):
                continue
            rows = [row for row, places in ROWS.items() if any(re.search(p, place) for p in places)]
            used.update(rows)
            own = any(re.search(each, place) for each in THEIR_OWN)
            assert rows or own, f"{document}: no row of the table is about {place} ({text})"
    assert used == ROWS.keys()
    for row in ROWS:
        assert any(row in cell for cell in cells), row
    rows = [cell for cell in cells if not set(cell) <= {"-", " "} and cell != "where"]
    assert len(rows) == len(ROWS), rows
