# SPDX-License-Identifier: Apache-2.0
"""Every call of the services: what it does, each limit at its value and one past it, each error."""
import os
import time

import pytest

import harness
from harness import (DEADLINE_EXCEEDED, FAILED_PRECONDITION, INVALID_ARGUMENT, NOT_FOUND, OK,
                     RESOURCE_EXHAUSTED, UNAUTHENTICATED, UNIMPLEMENTED, fails, frame_pb, kms_pb)

TTL_MS_MAX = 3653 * 24 * 3600 * 1000
VALUE_BYTES_MAX = 1048576


def stamp_order(stamp):
    return stamp.hlc, stamp.writer


# --- Derive ------------------------------------------------------------------------------------------

def test_derive_defaults_to_32_bytes_of_v1(kms):
    key = kms.call("Derive", path=b"p").key
    assert len(key) == 32
    assert key == kms.call("Derive", path=b"p", length=32, kdf=kms_pb.KDF_NOVA_V1).key
    assert key != kms.call("Derive", path=b"p", kdf=kms_pb.KDF_NOVA_V2).key
    assert key != kms.call("Derive", path=b"q").key


def test_derive_joins_path_and_context_in_v1_only(kms):
    def derive(path, context, kdf):
        return kms.call("Derive", path=path, context=context, kdf=kdf).key
    assert derive(b"a:b", b"", 0) == derive(b"a", b"b", 0)
    assert derive(b"a:b", b"", 1) != derive(b"a", b"b", 1)


def test_derive_differs_between_apps_and_not_within_one(node, kms, app):
    key = kms.call("Derive", path=b"p").key
    other, other_conn = node.new_app()
    with other_conn:
        assert other_conn.call("Derive", path=b"p").key != key
    sibling = harness.Wallet()
    node.enrol(sibling, app_id=app.app_id)
    with node.connect_until_known(sibling) as conn:
        assert conn.call("Derive", path=b"p").key == key


@pytest.mark.parametrize("length", [1, 31, 33, 255, 1024])
def test_derive_lengths(kms, length):
    for kdf in (0, 1):
        key = kms.call("Derive", path=b"p", length=length, kdf=kdf).key
        assert len(key) == length
        assert key == kms.call("Derive", path=b"p", length=1024, kdf=kdf).key[:length]


@pytest.mark.parametrize("arguments,word", [
    ({"path": b""}, "path"),
    ({"path": b" \t\n "}, "path"),
    ({"path": b"x" * 1025}, "path"),
    ({"path": b"\xff\xfe"}, "path"),
    ({"path": b"\xed\xa0\x80"}, "path"),     # A surrogate.
    ({"path": b"\xc0\xaf"}, "path"),         # An overlong slash.
    ({"path": b"p", "context": b"x" * 1025}, "context"),
    ({"path": b"p", "length": 1025}, "length"),
    ({"path": b"p", "length": 2 ** 32 - 1}, "length"),
    ({"path": b"p", "kdf": 2}, "kdf"),
    ({"path": b"p", "kdf": 2 ** 31 - 1}, "kdf"),
    ({"path": b"data_key"}, "data_key"),
    ({"path": b"data_key", "context": b"c"}, "data_key"),
    ({"path": b"data_key", "kdf": 1}, "data_key"),
], ids=str)
def test_derive_refuses(kms, arguments, word):
    with fails(INVALID_ARGUMENT, word):
        kms.call("Derive", **arguments)
    assert len(kms.call("Derive", path=b"p").key) == 32  # And the connection goes on.


def test_derive_accepts_the_limits(kms):
    kms.call("Derive", path=b"x" * 1024, context=b"\xff" * 1024, length=1024)
    kms.call("Derive", path=b" x", context=b"\0")
    kms.call("Derive", path=("ы" * 512).encode())


# --- Put, Get, Delete --------------------------------------------------------------------------------

@pytest.mark.parametrize("key", [b"k", b"\0", b"\xff" * 1024, b"a/b", "ключ".encode(), b"data_key"])
@pytest.mark.parametrize("value", [b"", b"v", b"\0" * 100, os.urandom(70000)], ids=len)
def test_put_get_delete(kms, key, value):
    put = kms.call("Put", key=key, value=value)
    got = kms.call("Get", key=key)
    assert (got.value, got.stamp, got.expires_unix_ms, got.may_miss) == (value, put.stamp, 0, False)
    gone = kms.call("Delete", key=key)
    assert gone.existed and stamp_order(gone.stamp) > stamp_order(put.stamp)
    with pytest.raises(harness.CallError) as error:
        kms.call("Get", key=key)
    assert error.value.code == NOT_FOUND
    assert error.value.details.stamp == gone.stamp


def test_a_put_replaces(kms):
    first = kms.call("Put", key=b"replace", value=b"1").stamp
    second = kms.call("Put", key=b"replace", value=b"2").stamp
    assert stamp_order(second) > stamp_order(first)
    assert kms.call("Get", key=b"replace").value == b"2"


def test_get_of_nothing(kms):
    with pytest.raises(harness.CallError) as error:
        kms.call("Get", key=b"never")
    assert error.value.code == NOT_FOUND
    assert not error.value.details.stamp.writer


def test_delete_of_nothing_succeeds(kms):
    gone = kms.call("Delete", key=b"never there")
    assert not gone.existed and gone.stamp.hlc > 0 and len(gone.stamp.writer) == 16


@pytest.mark.parametrize("method", ["Put", "Get", "Delete"])
@pytest.mark.parametrize("key", [b"", b"x" * 1025], ids=len)
def test_key_limits(kms, method, key):
    with fails(INVALID_ARGUMENT, "key"):
        kms.call(method, key=key)


def test_value_limit(node):
    wallet, kms = node.new_app()
    with kms:
        value = os.urandom(VALUE_BYTES_MAX)
        kms.call("Put", key=b"k", value=value)
        assert kms.call("Get", key=b"k").value == value
        with pytest.raises(harness.CallError) as error:
            kms.call("Put", key=b"k", value=value + b"x")
        assert error.value.code in (INVALID_ARGUMENT, RESOURCE_EXHAUSTED)
        assert "value" in error.value.message and str(VALUE_BYTES_MAX) in error.value.message
        assert kms.call("Get", key=b"k").value == value


def test_ttl_limits(kms):
    before = time.time() * 1000
    kms.call("Put", key=b"ttl", value=b"v", ttl_ms=TTL_MS_MAX)
    expires = kms.call("Get", key=b"ttl").expires_unix_ms
    assert before - 1000 <= expires - TTL_MS_MAX <= time.time() * 1000 + 1000
    for ttl_ms in (TTL_MS_MAX + 1, 2 ** 63, 2 ** 64 - 1):
        with fails(INVALID_ARGUMENT, "ttl"):
            kms.call("Put", key=b"ttl", value=b"w", ttl_ms=ttl_ms)
    assert kms.call("Get", key=b"ttl").value == b"v"


def test_a_value_expires_everywhere_at_once(kms):
    put = kms.call("Put", key=b"brief", value=b"v", ttl_ms=300)
    kms.call("Put", key=b"brief long", value=b"v", ttl_ms=3600000)

    def expired():
        try:
            got = kms.call("Get", key=b"brief")
            assert got.expires_unix_ms == (put.stamp.hlc >> 16) + 300
            return False
        except harness.CallError as error:
            assert error.code == NOT_FOUND
            return True
    harness.eventually("the value expires", expired)
    assert time.time() * 1000 >= (put.stamp.hlc >> 16) + 300
    assert [e.key for e in kms.call("List", prefix=b"brief").entries] == [b"brief long"]
    batch = kms.call("BatchGet", keys=[b"brief", b"brief long"])
    assert [i.status.code for i in batch.items] == [NOT_FOUND, OK]
    assert not kms.call("Delete", key=b"brief").existed


def test_a_value_can_outlive_its_first_ttl(kms):
    kms.call("Put", key=b"renewed", value=b"1", ttl_ms=1)
    kms.call("Put", key=b"renewed", value=b"2")
    got = kms.call("Get", key=b"renewed")
    assert (got.value, got.expires_unix_ms) == (b"2", 0)


def test_durability_of_one_node(kms):
    """A majority of one is the node itself; another member there is none."""
    alone = {"durability": kms_pb.DURABILITY_ONE_PEER}
    with fails(FAILED_PRECONDITION, "no other member"):
        kms.call("Put", key=b"durable", value=b"v", **alone)
    with fails(NOT_FOUND):
        kms.call("Get", key=b"durable")
    kms.call("Put", key=b"durable", value=b"v", durability=kms_pb.DURABILITY_QUORUM)
    with fails(FAILED_PRECONDITION, "no other member"):
        kms.call("Delete", key=b"durable", **alone)
    assert kms.call("Get", key=b"durable").value == b"v"
    with fails(FAILED_PRECONDITION, "no other member"):
        kms.call("BatchPut", entries=[{"key": b"durable", "value": b"w"}], **alone)
    assert kms.call("Get", key=b"durable").value == b"v"
    assert kms.call("Delete", key=b"durable", durability=kms_pb.DURABILITY_QUORUM).existed


def test_unknown_durability(kms):
    for method, arguments in (("Put", {"key": b"k"}), ("Delete", {"key": b"k"}),
                              ("BatchPut", {"entries": [{"key": b"k"}]})):
        with fails(INVALID_ARGUMENT, "durability"):
            kms.call(method, durability=3, **arguments)


def test_apps_do_not_see_each_other(node, kms):
    kms.call("Put", key=b"mine", value=b"secret")
    other, conn = node.new_app()
    with conn:
        with fails(NOT_FOUND):
            conn.call("Get", key=b"mine")
        assert not conn.call("List").entries
        assert not conn.call("Delete", key=b"mine").existed
    assert kms.call("Get", key=b"mine").value == b"secret"


# --- Stamps ------------------------------------------------------------------------------------------

def future_stamp(ahead_ms):
    return frame_pb.Stamp(hlc=(int(time.time() * 1000) + ahead_ms) << 16, writer=b"\7" * 16)


@pytest.mark.parametrize("field", ["seen", "wrote"])
def test_a_write_is_stamped_after_what_its_caller_shows(kms, field):
    """The first is of a writer that this node never hears of: it waits, and says so."""
    shown, may_miss = future_stamp(2000), True
    for method, arguments in (("Put", {"key": b"s", "value": b"v"}), ("Delete", {"key": b"s"}),
                              ("BatchPut", {"entries": [{"key": b"s"}]})):
        answer = kms.call(method, **arguments, **{field: shown})
        stamp = answer.items[0].stamp if method == "BatchPut" else answer.stamp
        assert stamp_order(stamp) > stamp_order(shown)
        assert answer.may_miss == may_miss
        shown, may_miss = stamp, False


def test_a_read_of_what_this_node_wrote_misses_nothing(kms):
    stamp = kms.call("Put", key=b"own", value=b"v").stamp
    assert not kms.call("Get", key=b"own", seen=stamp).may_miss
    assert not kms.call("List", prefix=b"own", seen=stamp).may_miss
    assert not kms.call("BatchGet", keys=[b"own"], seen=stamp).may_miss


def test_a_read_after_a_lost_write_says_so(kms):
    kms.call("Put", key=b"lost", value=b"v")
    unknown = frame_pb.Stamp(hlc=int(time.time() * 1000) << 16, writer=os.urandom(16))
    assert kms.call("Get", key=b"lost", seen=unknown).may_miss
    assert kms.call("List", prefix=b"lost", seen=unknown).may_miss
    assert kms.call("BatchGet", keys=[b"lost"], seen=unknown).may_miss
    known = kms.call("Put", key=b"other", value=b"v").stamp
    assert kms.call("Get", key=b"lost", seen=known, wrote=unknown).may_miss
    with pytest.raises(harness.CallError) as error:
        kms.call("Get", key=b"lost and never there", seen=unknown)
    assert error.value.code == NOT_FOUND and error.value.details.may_miss


def test_a_waiting_read_does_not_hold_up_the_connection(kms):
    unknown = frame_pb.Stamp(hlc=int(time.time() * 1000) << 16, writer=os.urandom(16))
    request = kms_pb.GetRequest(key=b"w", seen=unknown).SerializeToString()
    waiting = kms.begin("KmsService/Get", request)
    kms.call("WhoAmI")
    assert waiting not in kms.responses, "the later call is answered first"
    assert kms.finish(waiting)[0].status == NOT_FOUND


def test_a_waiting_read_keeps_its_deadline(kms):
    unknown = frame_pb.Stamp(hlc=int(time.time() * 1000) << 16, writer=os.urandom(16))
    with pytest.raises(harness.CallError) as error:
        kms.call("Get", timeout_ms=50, key=b"never", seen=unknown)
    assert error.value.code in (NOT_FOUND, DEADLINE_EXCEEDED)


@pytest.mark.parametrize("field", ["seen", "wrote"])
def test_a_stamp_from_the_future_is_refused(kms, field):
    far = future_stamp(3600000)
    for method, arguments in (("Put", {"key": b"k"}), ("Get", {"key": b"k"}),
                              ("Delete", {"key": b"k"}), ("List", {}),
                              ("BatchGet", {"keys": [b"k"]}),
                              ("BatchPut", {"entries": [{"key": b"k"}]})):
        with fails(INVALID_ARGUMENT, field + ": "):
            kms.call(method, **arguments, **{field: far})


@pytest.mark.parametrize("field", ["seen", "wrote"])
@pytest.mark.parametrize("writer", [b"", b"x" * 15, b"x" * 17], ids=len)
def test_a_malformed_stamp_is_refused(kms, writer, field):
    stamp = frame_pb.Stamp(hlc=int(time.time() * 1000) << 16, writer=writer)
    with fails(INVALID_ARGUMENT, field + ": "):
        kms.call("Get", key=b"k", **{field: stamp})


# --- List --------------------------------------------------------------------------------------------

def listing(conn, **arguments):
    """Pages of keys."""
    pages, token = [], b""
    while True:
        page = conn.call("List", page_token=token, **arguments)
        pages.append([e.key for e in page.entries])
        token = page.next_page_token
        if not token:
            return pages


@pytest.fixture(scope="module")
def shelf(node):
    """An app with 250 keys, in no order."""
    wallet, conn = node.new_app()
    keys = sorted([b"a/%03d" % i for i in range(120)] + [b"b/%03d" % i for i in range(128)] +
                  [b"\xff", b"\xff\xff"])
    with conn:
        for at in range(0, len(keys), 125):
            batch = [{"key": k, "value": k} for k in keys[at:at + 125]]
            conn.call("BatchPut", entries=batch[::-1])
    conn = node.connect(wallet)
    yield conn, keys
    conn.close()


def test_list_is_in_byte_order_and_complete(shelf):
    conn, keys = shelf
    for limit in (0, 1, 7, 99, 100, 125, 250, 1000):
        pages = listing(conn, limit=limit)
        assert [k for page in pages for k in page] == keys, limit
        assert max(map(len, pages)) <= (limit or 100)
    assert len(conn.call("List").entries) == 100


def test_list_with_a_prefix(shelf):
    conn, keys = shelf
    for prefix in (b"a", b"a/", b"a/1", b"b/12", b"\xff", b"\xff\xff", b"\xff\xff\xff", b"c", b"a/0000"):
        want = [k for k in keys if k.startswith(prefix)]
        assert sum(listing(conn, prefix=prefix, limit=3), []) == want


def test_list_says_what_get_says(shelf):
    conn, keys = shelf
    page = conn.call("List", prefix=b"b/", limit=5)
    for entry in page.entries:
        got = conn.call("Get", key=entry.key)
        assert (entry.value_bytes, entry.stamp, entry.expires_unix_ms) == (len(got.value), got.stamp, 0)
    assert page.stamp == max((e.stamp for e in page.entries), key=stamp_order)


def test_list_limits(shelf):
    conn, _ = shelf
    for limit in (1001, 2 ** 32 - 1):
        with fails(INVALID_ARGUMENT, "limit"):
            conn.call("List", limit=limit)
    assert not conn.call("List", prefix=b"x" * 1024).entries
    with fails(INVALID_ARGUMENT, "prefix"):
        conn.call("List", prefix=b"x" * 1025)


def test_list_refuses_foreign_page_tokens(shelf):
    conn, _ = shelf
    token = conn.call("List", prefix=b"a/", limit=1).next_page_token
    assert token
    for bad in (b"x", token[:-1], token + b"x", b"\0" * len(token), os.urandom(5000)):
        with fails(INVALID_ARGUMENT, "page_token"):
            conn.call("List", prefix=b"a/", page_token=bad)
    with fails(INVALID_ARGUMENT, "page_token"):
        conn.call("List", prefix=b"b/", page_token=token)


def test_a_listing_is_stable_while_keys_change(node):
    wallet, conn = node.new_app()
    with conn:
        stay = [b"k%03d" % i for i in range(0, 200, 2)]
        conn.call("BatchPut", entries=[{"key": k} for k in stay])
        seen, token, turn = [], b"", 0
        while True:
            page = conn.call("List", limit=7, page_token=token)
            seen += [e.key for e in page.entries]
            token = page.next_page_token
            if not token:
                break
            # Keys come and go before and after the position, the position itself among them.
            conn.call("BatchPut", entries=[{"key": b"k%03d" % i, "ttl_ms": 3600000}
                                           for i in range(1 + turn % 2 * 2, 200, 4)])
            conn.call("Delete", key=b"k%03d" % (1 + turn * 4 % 199 // 2 * 2))
            conn.call("Put", key=stay[turn % len(stay)], value=b"changed")
            turn += 1
        assert [k for k in seen if k in set(stay)] == stay
        assert seen == sorted(set(seen))


def test_a_listing_steps_over_many_expired_keys(node):
    wallet, conn = node.new_app()
    with conn:
        for at in range(0, 1500, 250):
            conn.call("BatchPut", entries=[{"key": b"m%04d" % i, "ttl_ms": 1}
                                           for i in range(at, at + 250)])
        conn.call("Put", key=b"z", value=b"v")
        harness.eventually("the keys expire", lambda: not conn.call(
            "List", prefix=b"m149", limit=10).entries)
        assert sum(listing(conn, limit=10), []) == [b"z"]


# --- Batches -----------------------------------------------------------------------------------------

def test_batch_derive(kms):
    items = [{"path": b"p%d" % i, "context": b"c", "length": 1 + i} for i in range(256)]
    answer = kms.call("BatchDerive", items=items)
    assert [len(i.key) for i in answer.items] == list(range(1, 257))
    assert answer.items[7].key == kms.call("Derive", **items[7]).key
    mixed = kms.call("BatchDerive", items=[{"path": b"ok"}, {"path": b""}, {"path": b"data_key"},
                                           {"path": b"ok", "length": 1025}, {"path": b"ok"}])
    assert [i.status.code for i in mixed.items] == [OK] + [INVALID_ARGUMENT] * 3 + [OK]
    assert all(bool(i.key) == (i.status.code == OK) for i in mixed.items)
    assert all(bool(i.status.message) == (i.status.code != OK) for i in mixed.items)


def test_batch_put_and_get(kms):
    entries = [{"key": b"b%03d" % i, "value": b"v%d" % i} for i in range(256)]
    stamps = [i.stamp for i in kms.call("BatchPut", entries=entries).items]
    assert [stamp_order(s) for s in stamps] == sorted(stamp_order(s) for s in stamps)
    answer = kms.call("BatchGet", keys=[e["key"] for e in entries])
    assert [i.value for i in answer.items] == [e["value"] for e in entries]
    assert [i.stamp for i in answer.items] == stamps
    mixed = kms.call("BatchPut", entries=[{"key": b"good"}, {"key": b""}, {"key": b"x" * 1025},
                                          {"key": b"good", "ttl_ms": 2 ** 64 - 1}, {"key": b"last"}])
    assert [i.status.code for i in mixed.items] == [OK] + [INVALID_ARGUMENT] * 3 + [OK]
    mixed = kms.call("BatchGet", keys=[b"good", b"", b"not there", b"x" * 1025, b"last"])
    assert [i.status.code for i in mixed.items] == [
        OK, INVALID_ARGUMENT, NOT_FOUND, INVALID_ARGUMENT, OK]


def test_the_last_of_equal_keys_in_a_batch_wins(kms):
    kms.call("BatchPut", entries=[{"key": b"same", "value": b"%d" % i} for i in range(10)])
    assert kms.call("Get", key=b"same").value == b"9"


@pytest.mark.parametrize("method,field,item", [
    ("BatchDerive", "items", {"path": b"p"}), ("BatchGet", "keys", b"k"),
    ("BatchPut", "entries", {"key": b"k"})])
@pytest.mark.parametrize("count", [0, 257, 5000])
def test_batch_limits(kms, method, field, item, count):
    with fails(INVALID_ARGUMENT, field):
        kms.call(method, **{field: [item] * count})


def test_a_batch_get_that_does_not_fit(node):
    wallet, conn = node.new_app()
    with conn:
        value = os.urandom(900000)
        for i in range(6):
            conn.call("Put", key=b"big%d" % i, value=value)
        keys = [b"big%d" % i for i in range(6)] + [b"never"]
        answer = conn.call("BatchGet", keys=keys)
        codes = [i.status.code for i in answer.items]
        fit = codes.count(OK)
        assert 3 <= fit <= 4
        assert codes.count(RESOURCE_EXHAUSTED) == 6 - fit and codes[6] == NOT_FOUND
        assert all(i.value == value for i in answer.items if i.status.code == OK)
        rest = [k for k, c in zip(keys, codes) if c == RESOURCE_EXHAUSTED]
        assert [i.status.code for i in conn.call("BatchGet", keys=rest).items] == [OK] * len(rest)


# --- WhoAmI, NodeService -----------------------------------------------------------------------------

def test_who_am_i(node, kms, app):
    answer = kms.call("WhoAmI")
    assert answer.wallet == app.address
    assert answer.app_id == app.app_id
    assert not answer.is_kms_member
    registered = next(i for i in node.registry()["instances"]
                      if i["teeWalletAddress"] == app.text)
    assert answer.instance_id == int(registered["id"])
    assert answer.version_id == int(registered["versionId"])


def test_a_member_is_told_so(node):
    wallet = harness.Wallet()
    node.enrol(wallet, app_id=int(node.registry()["kms_app_id"]))
    with node.connect_until_known(wallet) as conn:
        assert conn.call("WhoAmI").is_kms_member
    with node.edit() as registry:
        registry["instances"] = [i for i in registry["instances"]
                                 if i["teeWalletAddress"] != wallet.text]


def test_node_service_without_a_certificate(node):
    with node.connect() as conn:
        status = conn.call("NodeService/GetStatus")
        assert status.serving and status.reason == ""
        assert "0x" + status.wallet.hex() == node.wallet
        assert status.chain_id == harness.CHAIN_ID
        assert status.kms_app_id == int(node.registry()["kms_app_id"])
        assert status.version and len(status.master_secret_hash) == 32
        assert status.writers and all(len(w) == 16 for w in status.writers)

        def only_itself():  # Another test's member is forgotten after a while.
            try:
                nodes = conn.call("NodeService/ListNodes").nodes
            except harness.CallError as error:  # Callers without a certificate have 20 calls a second.
                assert error.code == RESOURCE_EXHAUSTED
                return None
            return nodes if [n.is_self for n in nodes] == [True] else None
        nodes = harness.eventually("it lists itself alone", only_itself)
        assert nodes[0].wallet == status.wallet and nodes[0].instance_id and nodes[0].version_id


def test_status_counts(node):
    wallet, conn = node.new_app()
    with conn:
        before = conn.call("NodeService/GetStatus").data_store
        conn.call("Put", key=b"k" * 100, value=b"v" * 1000)
        after = conn.call("NodeService/GetStatus").data_store
        assert after.namespaces == before.namespaces + 1
        assert after.total_keys == before.total_keys + 1
        assert after.total_bytes >= before.total_bytes + 1100
        conn.call("Delete", key=b"k" * 100)
        last = conn.call("NodeService/GetStatus").data_store
        assert last.total_keys == before.total_keys
        assert last.tombstones == before.tombstones + 1


@pytest.mark.parametrize("method", [m.name for m in kms_pb.DESCRIPTOR.services_by_name[
    "KmsService"].methods])
def test_kms_service_needs_a_certificate(node, method):
    with node.connect() as conn:
        with fails(UNAUTHENTICATED, "certificate"):
            conn.call(method)
        conn.call("NodeService/GetStatus")


# --- Quotas ------------------------------------------------------------------------------------------

def test_app_storage_is_bounded_and_nothing_is_evicted(make_node):
    node = make_node(MAX_APP_STORAGE=262144, MAX_VALUE_SIZE=20000)
    wallet, conn = node.new_app()
    stored = []
    with conn:
        with fails(RESOURCE_EXHAUSTED):
            for i in range(100):
                conn.call("Put", key=b"k%d" % i, value=b"v" * 10000)
                stored.append(b"k%d" % i)
        assert 20 <= len(stored) <= 26
        for key in stored:
            assert conn.call("Get", key=key).value == b"v" * 10000
        conn.call("Put", key=stored[0], value=b"smaller")
        other, other_conn = node.new_app()  # Another app has room of its own.
        with other_conn:
            other_conn.call("Put", key=b"k", value=b"v" * 10000)


def test_key_names_count_for_the_quota(make_node):
    node = make_node(MAX_APP_STORAGE=262144, MAX_VALUE_SIZE=20000)
    wallet, conn = node.new_app()
    with conn:
        stored = 0
        with fails(RESOURCE_EXHAUSTED):
            for i in range(1000):
                conn.call("Put", key=b"%01024d" % i)
                stored += 1
        assert stored * 1024 <= 262144


def test_the_node_is_bounded_too(make_node):
    node = make_node(MAX_APP_STORAGE=1048576, MAX_STORE_BYTES=1572864)
    refused = 0
    for _ in range(2):
        wallet, conn = node.new_app()
        with conn:
            try:
                for i in range(9):
                    conn.call("Put", key=b"%d" % i, value=b"v" * 100000)
            except harness.CallError as error:
                assert error.code == RESOURCE_EXHAUSTED
                refused += 1
    assert refused == 1


def test_deletes_are_bounded(make_node):
    node = make_node(MAX_TOMBSTONES_PER_APP=10)
    wallet, conn = node.new_app()
    with conn:
        for i in range(10):
            conn.call("Delete", key=b"%d" % i)
        conn.call("Put", key=b"stays", value=b"v")
        with fails(RESOURCE_EXHAUSTED):
            conn.call("Delete", key=b"stays")
        assert conn.call("Get", key=b"stays").value == b"v"


def test_tombstones_are_collected(make_node):
    node = make_node(TOMBSTONE_RETENTION_MS=2001, REGISTRY_CACHE_TTL_SECONDS=2,
                     REGISTRY_REFRESH_SECONDS=1)
    wallet, conn = node.new_app()
    with conn:
        for i in range(50):
            conn.call("Put", key=b"%d" % i, value=b"v")
            conn.call("Delete", key=b"%d" % i)
        harness.eventually("the tombstones are collected", lambda: conn.call(
            "NodeService/GetStatus").data_store.tombstones == 0, every_s=0.2)
        assert conn.call("NodeService/GetStatus").data_store.total_keys == 0


def test_a_configured_value_limit(make_node):
    node = make_node(MAX_VALUE_SIZE=1000)
    wallet, conn = node.new_app()
    with conn:
        conn.call("Put", key=b"k", value=b"v" * 1000)
        with pytest.raises(harness.CallError) as error:
            conn.call("Put", key=b"k", value=b"v" * 1001)
        assert "1000" in error.value.message


# --- Unknown and malformed ---------------------------------------------------------------------------

@pytest.mark.parametrize("method", [
    "novakms.v1.KmsService/derive", "novakms.v1.KmsService/", "novakms.v1.KmsService", "/",
    "novakms.v2.KmsService/Derive", "KmsService/Derive", "novakms.v1.KmsService/Derive ",
    "novakms.v1.PeerService/Push", "x" * 96])
def test_unknown_methods(kms, method):
    call_id, kms.next_id = kms.next_id, kms.next_id + 1
    kms.send_frame(kms.request_header(call_id, method))
    header, _ = kms.finish(call_id)
    assert header.status == UNIMPLEMENTED and header.message
    kms.call("WhoAmI")


@pytest.mark.parametrize("payload", [
    b"\xff", b"\x0a\x05abc", b"\x0a", b"\x08" + b"\xff" * 11, b"\x0b" * 1000, os.urandom(1000)],
    ids=range(6))
def test_a_payload_that_does_not_decode(kms, payload):
    with fails(INVALID_ARGUMENT):
        kms.call_raw("KmsService/Put", payload)
    kms.call("WhoAmI")


@pytest.mark.parametrize("method,item", [
    ("BatchGet", b"\x0a\0"), ("BatchDerive", b"\x0a\0"), ("BatchPut", b"\x0a\0"),
    ("BatchPut", b"\x1a\0")], ids=str)
def test_a_small_frame_does_not_unfold_into_much_memory(node, kms, method, item):
    """4 MB of empty items would be a hundred times that in memory."""
    with pytest.raises(harness.CallError) as error:
        kms.call_raw("KmsService/" + method, item * 2000000)
    assert error.value.code in (INVALID_ARGUMENT, RESOURCE_EXHAUSTED)
    kms.call("WhoAmI")
    if not harness.sanitized():
        assert node.memory_kib() < 256 * 1024


def test_unknown_fields_are_ignored(kms):
    payload = kms_pb.DeriveRequest(path=b"p").SerializeToString() + b"\xf2\x7f\x03abc\xe8\x7f\x05"
    assert kms.call_raw("KmsService/Derive", payload) == kms.call_raw(
        "KmsService/Derive", kms_pb.DeriveRequest(path=b"p").SerializeToString())


def test_no_secret_in_the_log(node, app):
    output = node.output()
    assert harness.MASTER_SECRET not in output
    assert app.key.hex() not in output
