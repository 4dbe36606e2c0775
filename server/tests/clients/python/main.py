"""What a Python program does with etcd3. ../README.md says how the test talks to it."""

import hashlib
import io
import queue
import sys
import time

import etcd3

PATIENCE = 60


def ask(what):
    """Has the test do something and waits until it is done."""
    print("?", what, flush=True)
    if not sys.stdin.readline():
        raise SystemExit("the test is gone")


def pair(value, meta):
    return (meta.key, value, meta.create_revision, meta.mod_revision, meta.version)


def kv(client):
    for number in range(5):
        print("put", client.put(f"kv/{number}", f"value {number}").header.revision)
    print("put over", client.put("kv/1", "other", prev_kv=True).prev_kv.value)
    print("get", pair(*client.get("kv/1")), client.get("none"))
    for found in [
        client.get_prefix("kv/"),
        client.get_prefix("kv/", sort_order="descend", sort_target="mod"),
        client.get_prefix("kv/", keys_only=True),
        client.get_range("kv/1", "kv/3"),
        client.get("kv/1", serializable=True) and client.get_all(),
    ]:
        print("range", [pair(*one) for one in found])
    print("replace", client.replace("kv/1", "other", "new"), client.replace("kv/1", "other", "newer"))
    print("create", client.put_if_not_exists("kv/1", "x"), client.put_if_not_exists("kv/9", "x"))
    print("delete", client.delete("kv/4"), client.delete("kv/4"), client.delete_prefix("kv/2").deleted)
    try:
        client.put("", "no key")
    except Exception as refused:  # the library lets gRPC's own error through
        print("refused", type(refused).__name__, refused.code(), refused.details())


def txn(client):
    transactions = client.transactions
    for expected in ["new", "something else"]:
        done, answers = client.transaction(
            compare=[transactions.value("kv/1") == expected, transactions.version("none") == 0],
            success=[transactions.put("txn/a", "then"), transactions.get("kv/1"), transactions.delete("kv/0")],
            failure=[transactions.get("txn/a"), transactions.put("txn/b", "else")],
        )
        print("txn", done, [type(answer).__name__ for answer in answers])


def describe(event):
    return (type(event).__name__, event.key, event.value, event.prev_value, event.mod_revision)


def watch(client):
    events, cancel = client.watch_prefix("watch/", prev_kv=True)
    first = client.put("watch/a", "1").header.revision
    client.put("watch/a", "2")
    client.delete("watch/a")
    for _ in range(3):
        print("event", describe(next(events)))
    cancel()
    print("after cancel", [describe(event) for event in events])
    past, cancel = client.watch_prefix("watch/", start_revision=first)
    for _ in range(3):
        print("event", describe(next(past)))
    cancel()
    seen = queue.Queue()
    number = client.add_watch_callback("watch/b", seen.put)
    client.put("watch/b", "called")
    print("callback", [describe(event) for event in seen.get(timeout=PATIENCE).events])
    client.cancel_watch(number)


def resume(address):
    """The library ends a watch with its connection: the program goes on where it was."""
    revision = connect(address).put("resume/0", "").header.revision
    ask("restart")
    client = connect(address)
    for number in range(1, 4):
        # Channels to one address share a connection, which may not know of its end yet. Such a put was not sent.
        while True:
            try:
                client.put(f"resume/{number}", "")
                break
            except etcd3.exceptions.ConnectionFailedError:
                time.sleep(0.02)
    events, cancel = client.watch_prefix("resume/", start_revision=revision + 1)
    for _ in range(3):
        print("event", describe(next(events)))
    cancel()


def compaction(client):
    revision = client.put("compaction", "").header.revision
    client.compact(revision, physical=True)
    try:
        client.compact(revision)
    except Exception as refused:
        print("refused", type(refused).__name__, refused.code(), refused.details())
    events, _ = client.watch("compaction", start_revision=2)
    try:
        next(events)
    except etcd3.exceptions.RevisionCompactedError as late:
        print("late", late.compacted_revision == revision)


def maintenance(client):
    status = client.status()
    print("status", status.version, status.db_size > 0, status.leader.name, status.raft_term >= 2)
    print("hash", client.hash() != 0)
    print("defragment", client.defragment())
    print("alarms", list(client.list_alarms()), [member.name for member in client.members])


def snapshot(client):
    file = io.BytesIO()
    client.snapshot(file)
    taken = file.getvalue()
    print("snapshot", hashlib.sha256(taken[:-32]).digest() == taken[-32:])


def connect(address):
    host, port = address.split(":")
    # A connection that broke is tried again soon.
    options = {"grpc.initial_reconnect_backoff_ms": 100, "grpc.max_reconnect_backoff_ms": 100}.items()
    return etcd3.client(host=host, port=int(port), timeout=PATIENCE, grpc_options=options)


def main():
    address = sys.argv[1]
    client = connect(address)
    for step in [kv, txn, watch, compaction, maintenance, snapshot]:
        print("==", step.__name__)
        step(client)
    print("== resume")
    resume(address)
    print("== done", flush=True)


main()
