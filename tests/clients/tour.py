"""The client library of Kubernetes for Python, driven against a real server.

It says each step that it has done. At `restart`, whoever started it kills the server, starts it
again, and writes a line.
"""

import json
import sys
import threading
import time
from types import SimpleNamespace

from kubernetes import client, config, dynamic, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic.exceptions import ConflictError, NotFoundError
from kubernetes.informer import ADDED, DELETED, MODIFIED, SharedInformer

GROUP, VERSION = "opendispatch.dev", "v1alpha1"
MERGE = "application/merge-patch+json"
JSON = "application/json-patch+json"
PATIENCE = 60


def agent(name, **labels):
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "Agent",
        "metadata": {"name": name, "labels": labels},
        "spec": {"agent": {"command": {}}, "suspend": True, "idleTimeout": "15m"},
    }


def every_kind():
    """One object of each kind that people declare, which does nothing by itself, with the field of it
    that the tour changes and values for that: plural, document, path of the field, values."""
    idle = {"agent": {"command": {}}, "suspend": True}
    job = {"agent": {"command": {}}, "task": "true"}
    times = ["15m", "20m", "25m", "35m"]
    specs = {
        "agents": ("Agent", {**idle, "idleTimeout": times[0]}, ["idleTimeout"], times),
        "jobs": ("Job", {**job, "ttlAfterFinished": times[0]}, ["ttlAfterFinished"], times),
        "fleets": (
            "Fleet",
            {
                "suspend": True,
                "generate": {"replicas": 2},
                "strategy": {"maxUnavailable": 1},
                "template": {"kind": "Agent", "spec": idle},
            },
            ["strategy", "maxUnavailable"],
            [1, 2, 3, 4],
        ),
        "schedules": (
            "Schedule",
            {
                "suspend": True,
                "schedule": "0 5 * * *",
                "startingDeadline": times[0],
                "jobTemplate": {"spec": job},
            },
            ["startingDeadline"],
            times,
        ),
        "sources": (
            "Source",
            {"suspend": True, "from": {"directory": {"path": "declared"}}, "interval": times[0]},
            ["interval"],
            times,
        ),
        "overrides": (
            "Override",
            {
                "target": {"kind": "Agent", "name": "nobody"},
                "patch": {"idleTimeout": "1h"},
                "expiresAfter": times[0],
            },
            ["expiresAfter"],
            times,
        ),
    }
    for plural, (kind, spec, path, values) in specs.items():
        document = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": kind,
            "metadata": {"name": "tour", "labels": {"app": "tour"}},
            "spec": spec,
        }
        yield plural, document, path, values


def named(document, name, **labels):
    return {**document, "metadata": {"name": name, "labels": labels}}


def changed(path, value):
    """A merge patch that sets a field of the spec."""
    for step in reversed(path):
        value = {step: value}
    return {"spec": value}


def found(item, path):
    item = item["spec"]
    for step in path:
        item = item[step]
    return item


def done(step):
    print(f"done {step}", flush=True)


def refused(code, call):
    """The refusal with which a call has to end."""
    try:
        call()
    except ApiException as error:
        assert error.status == code, error
        return error
    raise AssertionError(f"{code} was expected")


def until(holds, what):
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def custom_objects(api):
    """All that can be done to one object, to one of each kind."""
    for plural, document, path, values in every_kind():
        at = (GROUP, VERSION, plural)
        made = api.create_cluster_custom_object(*at, document)
        assert made["metadata"]["generation"] == 1, made
        read = lambda: api.get_cluster_custom_object(*at, "tour")
        assert found(read(), path) == values[0]
        listed = api.list_cluster_custom_object(*at, label_selector="app=tour")
        assert [item["metadata"]["name"] for item in listed["items"]] == ["tour"], listed
        assert not api.list_cluster_custom_object(*at, label_selector="app=other")["items"]
        chosen = api.list_cluster_custom_object(*at, field_selector="metadata.name=tour")
        assert len(chosen["items"]) == 1, chosen
        refused(409, lambda: api.create_cluster_custom_object(*at, document))
        refused(404, lambda: api.get_cluster_custom_object(*at, "none"))
        bad = named(document, "bad")
        bad["spec"] = {**document["spec"], "nothing": True}
        refusal = refused(422, lambda: api.create_cluster_custom_object(*at, bad))
        assert "spec.nothing" in refusal.body, refusal
        tried = api.create_cluster_custom_object(*at, named(document, "tried"), dry_run="All")
        assert tried["metadata"]["name"] == "tried"
        refused(404, lambda: api.get_cluster_custom_object(*at, "tried"))

        set_to = lambda body, sort: api.patch_cluster_custom_object(
            *at, "tour", body, _content_type=sort
        )
        merged = set_to(changed(path, values[1]), MERGE)
        assert found(merged, path) == values[1] and merged["metadata"]["generation"] == 2, merged
        pointer = "/".join(["", "spec", *path])
        operation = {"op": "replace", "path": pointer, "value": values[2]}
        assert found(set_to([operation], JSON), path) == values[2]
        refused(415, lambda: set_to({}, "application/strategic-merge-patch+json"))

        stale = read()
        set_to({"metadata": {"labels": {"more": "yes"}}}, MERGE)
        stale["metadata"]["labels"]["late"] = "yes"
        refused(409, lambda: api.replace_cluster_custom_object(*at, "tour", stale))
        # What a client does about that: it reads again and makes its change to what is there. The
        # controller may write between the two, so once may not do.
        def put():
            fresh = read()
            fresh["metadata"]["labels"]["late"] = "yes"
            try:
                return api.replace_cluster_custom_object(*at, "tour", fresh)
            except ApiException as error:
                assert error.status == 409, error

        written = []
        until(lambda: written.append(put()) or written[-1], "a change on top of what is there")
        labels = written[-1]["metadata"]["labels"]
        assert labels == {"app": "tour", "more": "yes", "late": "yes"}, labels

        precise = client.V1DeleteOptions(preconditions=client.V1Preconditions(uid="another"))
        refused(409, lambda: api.delete_cluster_custom_object(*at, "tour", body=precise))
        tried = api.delete_cluster_custom_object(*at, "tour", dry_run="All")
        assert "deletionTimestamp" not in read()["metadata"], tried
        api.delete_cluster_custom_object(*at, "tour", propagation_policy="Foreground")
        until(lambda: gone(api, at, "tour"), f"{plural}: it is gone")
    done("custom objects")


def gone(api, at, name):
    try:
        api.get_cluster_custom_object(*at, name)
    except ApiException as error:
        assert error.status == 404, error
        return True
    return False


def pages(api):
    """Lists in pages that are true of one moment, and the end of a collection."""
    for plural, document, _, _ in every_kind():
        at = (GROUP, VERSION, plural)
        for n in range(7):
            label = "even" if n % 2 == 0 else "odd"
            api.create_cluster_custom_object(*at, named(document, f"page-{n}", half=label))

        def names(limit, **words):
            names, token = [], None
            while True:
                page = api.list_cluster_custom_object(*at, limit=limit, _continue=token, **words)
                assert len(page["items"]) <= limit, page
                names += [item["metadata"]["name"] for item in page["items"]]
                token = page["metadata"].get("continue")
                if not token:
                    return names
                if len(names) == limit:
                    # What comes and goes between pages is not seen.
                    other = named(document, "page-0a", half="even")
                    api.create_cluster_custom_object(*at, other)

        assert names(3) == [f"page-{n}" for n in range(7)], plural
        api.delete_cluster_custom_object(*at, "page-0a")
        until(lambda: gone(api, at, "page-0a"), f"{plural}: what came between is gone")
        assert names(2, label_selector="half=even") == ["page-0", "page-2", "page-4", "page-6"]
        api.delete_cluster_custom_object(*at, "page-0a")
        token = "bm8gdG9rZW4gb2Ygb3Vycw"
        refused(400, lambda: api.list_cluster_custom_object(*at, limit=3, _continue=token))
        api.delete_collection_cluster_custom_object(*at, label_selector="half=odd")
        left = lambda: len(api.list_cluster_custom_object(*at)["items"])
        until(lambda: left() == 4, f"{plural}: half of the collection is gone")
        api.delete_collection_cluster_custom_object(*at)
        until(lambda: left() == 0, f"{plural}: the collection is gone")
    done("pages")


def dynamic_client():
    """The client that finds its way by discovery, and applies on the server."""
    finder = dynamic.DynamicClient(client.ApiClient())
    for plural, document, path, values in every_kind():
        kind = document["kind"]
        resource = finder.resources.get(api_version=f"{GROUP}/{VERSION}", kind=kind)
        assert not resource.namespaced and resource.name == plural
        resource.create(body=document)
        read = lambda: resource.get(name="tour").to_dict()
        assert found(read(), path) == values[0]
        resource.patch(name="tour", body=changed(path, values[1]), content_type=MERGE)

        def apply(value, force=False):
            spec = {**document["spec"]}
            if len(path) == 1:
                spec[path[0]] = value
            else:
                spec[path[0]] = {**spec[path[0]], path[1]: value}
            applied = resource.server_side_apply(
                body={**document, "spec": spec},
                name="tour",
                field_manager="tour",
                force_conflicts=force,
            )
            return found(applied.to_dict(), path)

        try:
            apply(values[2])
            raise AssertionError(f"{kind}: a conflict was expected")
        except ConflictError as error:
            assert path[-1] in str(error.body), error
        assert found(read(), path) == values[1]
        assert apply(values[2], force=True) == values[2]
        assert apply(values[3]) == values[3], "it has the field now"
        for event in resource.watch(name="tour", timeout=5):
            assert event["type"] == "ADDED" and event["object"].metadata.name == "tour", event
            break
        resource.delete(name="tour")
        try:
            until(lambda: resource.get(name="tour") is None, f"{kind}: it is gone")
        except NotFoundError:
            pass
    # Sprites are read, and made by nobody but the server.
    sprites = finder.resources.get(api_version=f"{GROUP}/{VERSION}", kind="Sprite")
    assert "create" not in sprites.verbs and sprites.get().items == []
    done("dynamic client")


def scale():
    """The number of a Fleet's members, under the name that all clients know."""
    api = client.CustomObjectsApi()
    fleet = next(document for plural, document, _, _ in every_kind() if plural == "fleets")
    at = (GROUP, VERSION, "fleets")
    spec = {**fleet["spec"], "suspend": False}
    api.create_cluster_custom_object(*at, {**fleet, "spec": spec})
    read = api.get_cluster_custom_object_scale(*at, "tour")
    assert read["kind"] == "Scale" and read["spec"]["replicas"] == 2, read
    patch = {"spec": {"replicas": 3}}
    api.patch_cluster_custom_object_scale(*at, "tour", patch, _content_type=MERGE)
    here = lambda: api.get_cluster_custom_object_scale(*at, "tour")["status"]["replicas"]
    until(lambda: here() == 3, "three members")
    agents = api.list_cluster_custom_object(GROUP, VERSION, "agents")["items"]
    assert len(agents) == 3, agents
    # On top of what was read, and of nothing else.
    stale = {**read, "spec": {"replicas": 9}}
    refused(409, lambda: api.replace_cluster_custom_object_scale(*at, "tour", stale))

    def down():
        fresh = api.get_cluster_custom_object_scale(*at, "tour")
        fresh["spec"]["replicas"] = 1
        try:
            return api.replace_cluster_custom_object_scale(*at, "tour", fresh)
        except ApiException as error:
            assert error.status == 409, error

    until(down, "a write on top of what is there")
    until(lambda: here() == 1, "one member")
    agents = (GROUP, VERSION, "agents")
    refused(404, lambda: api.get_cluster_custom_object_scale(*agents, "tour-1"))
    # What it made goes with it.
    api.delete_cluster_custom_object(*at, "tour", propagation_policy="Background")
    until(lambda: gone(api, at, "tour"), "the fleet is gone")
    until(lambda: not api.list_cluster_custom_object(*agents)["items"], "its members went")
    done("scale")


def expired(api):
    """A place in the history that is not there is told as 410, and a list helps."""
    at = (GROUP, VERSION, "agents")
    stream = lambda version: watch.Watch().stream(
        api.list_cluster_custom_object, *at, resource_version=version, timeout_seconds=1
    )
    newest = lambda: int(api.list_cluster_custom_object(*at)["metadata"]["resourceVersion"])
    # As after a restore of an older copy: what the client has seen has not come to be yet.
    lost = str(newest() + 1_000_000)
    gone = refused(410, lambda: list(stream(lost)))
    assert "list anew" in str(gone), gone
    exact = lambda: api.list_cluster_custom_object(
        *at, resource_version="1", resource_version_match="Exact"
    )
    refused(410, exact)
    # What a client does then: it lists, and goes on from there without a gap.
    listed = api.list_cluster_custom_object(*at)
    assert listed["items"] == [], listed
    api.create_cluster_custom_object(*at, agent("after"))
    events = list(stream(listed["metadata"]["resourceVersion"]))
    assert [event["type"] for event in events][:1] == ["ADDED"], events
    assert {event["object"]["metadata"]["name"] for event in events} == {"after"}, events
    api.delete_cluster_custom_object(*at, "after")
    until(lambda: not api.list_cluster_custom_object(*at)["items"], "the agent is gone")
    done("expired")


def bookmarks(api):
    """A watch says at its end how far it came, whatever else there was."""
    for plural, document, _, _ in every_kind():
        at = (GROUP, VERSION, plural)
        listed = api.list_cluster_custom_object(*at)["metadata"]["resourceVersion"]
        other = (GROUP, VERSION, "jobs" if plural != "jobs" else "agents")
        name = "jobs" if plural != "jobs" else "agents"
        busy = next(document for kind, document, _, _ in every_kind() if kind == name)
        api.create_cluster_custom_object(*other, named(busy, "busy"))
        # The library takes bookmarks for itself, so they are read as they come.
        answer = api.list_cluster_custom_object(
            *at,
            resource_version=listed,
            allow_watch_bookmarks=True,
            timeout_seconds=1,
            watch=True,
            _preload_content=False,
        )
        lines = [json.loads(line) for line in answer.data.decode().splitlines()]
        assert [line["type"] for line in lines] == ["BOOKMARK"], lines
        came = int(lines[-1]["object"]["metadata"]["resourceVersion"])
        assert came > int(listed), (came, listed)
        api.delete_cluster_custom_object(*other, "busy")
        until(lambda: gone(api, other, "busy"), "what was busy is gone")
    done("bookmarks")


class Followed:
    """An informer of a kind, and what it heard."""

    def __init__(self, api, plural, document, path, values):
        self.api, self.at, self.path, self.values = api, (GROUP, VERSION, plural), path, values
        self.document, self.seen, self.lock = document, [], threading.Lock()

        # The informer knows lists that are typed; those of custom objects are plain.
        def listing(**words):
            answer = api.list_cluster_custom_object(*self.at, **words)
            if not isinstance(answer, dict):
                return answer
            version = answer["metadata"]["resourceVersion"]
            metadata = SimpleNamespace(resource_version=version)
            return SimpleNamespace(items=answer["items"], metadata=metadata)

        listing.__doc__ = api.list_cluster_custom_object.__doc__
        self.shared = SharedInformer(listing, key_func=lambda item: item["metadata"]["name"])
        for event in (ADDED, MODIFIED, DELETED):
            self.shared.add_event_handler(event, self.note(event))

    def note(self, event):
        def take(item):
            with self.lock:
                self.seen.append((event, item["metadata"]["name"], found(item, self.path)))

        return take

    def heard(self, holds, what):
        until(lambda: any(holds(*one) for one in list(self.seen)), f"{self.at[2]}: {what}: {self.seen}")

    def create(self, name):
        self.api.create_cluster_custom_object(*self.at, named(self.document, name))

    def set(self, name, value):
        body = changed(self.path, value)
        self.api.patch_cluster_custom_object(*self.at, name, body, _content_type=MERGE)


def informers(api):
    """An informer of each kind, all at once, over a crash of the server."""
    followed = [Followed(api, *one) for one in every_kind()]
    for it in followed:
        it.create("first")
        it.shared.start()
        it.heard(lambda event, name, _: (event, name) == (ADDED, "first"), "the first object")
        it.set("first", it.values[1])
        it.heard(lambda event, _, value: (event, value) == (MODIFIED, it.values[1]), "a change")
    print("restart", flush=True)
    sys.stdin.readline()
    for it in followed:
        it.set("first", it.values[2])
        it.create("second")
    for it in followed:
        it.heard(lambda _, name, __: name == "second", "what came behind")
        it.heard(lambda _, __, value: value == it.values[2], "what changed behind")
        it.api.delete_cluster_custom_object(*it.at, "first")
        it.heard(lambda event, name, _: (event, name) == (DELETED, "first"), "what went")
        names = lambda: [item["metadata"]["name"] for item in it.shared.cache.list()]
        until(lambda: names() == ["second"], f"{it.at[2]}: the cache: {names()}")
        it.shared.stop()
    done("informers")


def main():
    config.load_kube_config()
    api = client.CustomObjectsApi()
    custom_objects(api)
    pages(api)
    dynamic_client()
    scale()
    expired(api)
    bookmarks(api)
    informers(api)
    done("all")


main()
