# SPDX-License-Identifier: Apache-2.0
"""Frames, limits, and peers that are slow, silent, half-closed, flooding or talking nonsense. After
each of them the node serves others as before."""
import os
import resource
import socket
import ssl
import struct
import threading
import time

import pytest

import harness
from harness import (CANCELLED, DEADLINE_EXCEEDED, INVALID_ARGUMENT, NOT_FOUND, RESOURCE_EXHAUSTED,
                     UNAUTHENTICATED, CallError, Closed, Conn, fails, frame_pb, kms_pb)

HEADER_BYTES_MAX = 512


def is_well(node, wallet):
    with node.connect(wallet) as conn:
        conn.call("Derive", path=b"p")


@pytest.fixture(autouse=True)
def node_stays_well(node, app):
    yield
    is_well(node, app)


@pytest.fixture(scope="module", autouse=True)
def stalled(node, app):
    """Connections that stop at some point, begun first, so that their time is nearly over when the
    last test of this file looks at them: {what: socket}."""
    socks = {}

    def tcp():
        return socket.create_connection(node.rpc, timeout=harness.DEADLINE_S)
    socks["silent"] = tcp()
    socks["one byte of TLS"] = tcp()
    socks["one byte of TLS"].sendall(b"\x16")
    socks["half a ClientHello"] = tcp()
    socks["half a ClientHello"].sendall(client_hello()[:80])
    conn = node.connect(app)
    conn.send(b"\0\0\1\0\0\xf0" + b"\x0a")
    socks["half a frame"] = conn.tls
    conn = node.connect()
    conn.send(b"\0")
    socks["half a length"] = conn.tls
    yield socks
    for sock in socks.values():
        sock.close()


def client_hello():
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = harness.tls_context().wrap_bio(incoming, outgoing)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


# --- Frames ------------------------------------------------------------------------------------------

def request(call_id=1, method="novakms.v1.KmsService/WhoAmI", timeout_ms=0):
    return Conn.request_header(call_id, method, timeout_ms).SerializeToString()


def header(**kind):
    return frame_pb.FrameHeader(**kind).SerializeToString()


MALFORMED = {
    "length 0": b"\0\0\0\0",
    "length 1": b"\0\0\0\1\0",
    "no header": b"\0\0\0\2\0\0",
    "header longer than frame": struct.pack(">IH", 10, 9) + b"x" * 8,
    "header length 65535": struct.pack(">IH", 2 + 65535, 65535) + b"x" * 65535,
    "length 2^32-1": b"\xff\xff\xff\xff",
    "length 2^31": b"\x80\0\0\0",
    "header is noise": Conn.frame(os.urandom(64)),
    "header ends early": Conn.frame(b"\x0a\x50abc"),
    "unknown kind": Conn.frame(b"\x32\x02\x08\x01"),
    "two kinds": Conn.frame(request() + header(cancel={"call_id": 1})),
    "a response": Conn.frame(header(response={"call_id": 1})),
    "call id 0": Conn.frame(request(call_id=0)),
    "method of 97 bytes": Conn.frame(request(method="x" * 97)),
    "method is not UTF-8": Conn.frame(b"\x0a\x06\x08\x01\x12\x02\xff\xfe"),
    "cancel with payload": Conn.frame(header(cancel={"call_id": 1}), b"x"),
    "ping with payload": Conn.frame(header(ping={"token": 1}), b"x"),
    "unknown field beside the kind": Conn.frame(request() + b"\xf8\x7f\1"),
    "TLS in TLS": b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + b"x" * 32,
    "HTTP": b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("who", ["app", "anonymous"])
@pytest.mark.parametrize("what", sorted(MALFORMED))
def test_a_malformed_frame_ends_its_connection_with_a_reason(node, app, who, what):
    with node.connect(app if who == "app" else None) as conn, node.connect(app) as bystander:
        bystander.call("WhoAmI")
        conn.call("NodeService/GetStatus")
        with pytest.raises(Closed) as closed:
            conn.send(MALFORMED[what])
            raise Closed(conn.drain())
        assert closed.value.goaway is not None, "closed without a goaway"
        assert closed.value.goaway.status == INVALID_ARGUMENT
        assert closed.value.goaway.reason
        bystander.call("WhoAmI")


def test_call_ids_must_grow(node, app):
    for first, second in ((5, 5), (5, 4), (2 ** 64 - 1, 1)):
        with node.connect(app) as conn:
            conn.send_frame(request(first))
            conn.finish(first)
            conn.send_frame(request(second))
            assert conn.drain().status == INVALID_ARGUMENT


def test_call_ids_may_have_gaps(kms):
    for call_id in (3, 1000, 2 ** 33, 2 ** 64 - 1):
        kms.send_frame(request(call_id))
        assert kms.finish(call_id)[0].status == 0


def frame_of(length, call_id=1, method="KmsService/Put", key=b"k"):
    """A request frame whose length field says `length`, with a value that fills it."""
    head = request(call_id, "novakms.v1." + method)
    room = length - 2 - len(head)
    value = room
    while True:  # The value's size, less the varints in front of it.
        payload = kms_pb.PutRequest(key=key, value=b"v" * value).SerializeToString()
        if len(payload) <= room:
            break
        value -= len(payload) - room
    payload += b"\xf8\x7f\1" if room - len(payload) == 3 else b"\x78\1" * ((room - len(payload)) // 2)
    frame = Conn.frame(head, payload)
    assert len(frame) == 4 + length, (len(frame), length)
    return frame


def test_frame_limit_of_an_accepted_caller(make_node):
    node = make_node(MAX_VALUE_SIZE=4000000)
    wallet, conn = node.new_app()
    conn.close()
    with node.connect(wallet) as conn:
        conn.next_id = 2
        conn.send(frame_of(harness.FRAME_BYTES_MAX, call_id=1))
        answer, _ = conn.finish(1)  # Read, and judged as a call: the value is over its limit.
        assert answer.status in (INVALID_ARGUMENT, RESOURCE_EXHAUSTED), answer.message
        conn.call("Put", key=b"k", value=b"v" * 4000000)
        assert len(conn.call("Get", key=b"k").value) == 4000000
    with node.connect(wallet) as conn:
        with pytest.raises(Closed) as closed:
            conn.send(struct.pack(">I", harness.FRAME_BYTES_MAX + 1))
            raise Closed(conn.drain())
        assert closed.value.goaway.status == INVALID_ARGUMENT
        assert str(harness.FRAME_BYTES_MAX) in closed.value.goaway.reason


def test_frame_limit_of_an_anonymous_caller(node):
    with node.connect() as conn:
        conn.send(frame_of(harness.FRAME_BYTES_ANONYMOUS))
        assert conn.finish(1)[0].status == UNAUTHENTICATED
        with pytest.raises(Closed) as closed:
            conn.send(struct.pack(">I", harness.FRAME_BYTES_ANONYMOUS + 1))
            raise Closed(conn.drain())
        assert str(harness.FRAME_BYTES_ANONYMOUS) in closed.value.goaway.reason


def test_header_limit(kms):
    def padded(call_id, size):  # With an unknown field in the request, as later versions may send.
        body = frame_pb.FrameHeader.FromString(request(call_id)).request.SerializeToString()
        pad = size - 3 - len(body) - 4
        body += b"\xfa\x7f" + bytes([pad & 127 | 128, pad >> 7]) + b"x" * pad
        return b"\x0a" + bytes([len(body) & 127 | 128, len(body) >> 7]) + body
    assert len(padded(1, HEADER_BYTES_MAX)) == HEADER_BYTES_MAX
    kms.send_frame(padded(1, HEADER_BYTES_MAX))
    assert kms.finish(1)[0].status == 0
    kms.send_frame(padded(2, HEADER_BYTES_MAX + 1))
    assert str(HEADER_BYTES_MAX) in kms.drain().reason


@pytest.mark.parametrize("piece", [1, 7, 100])
def test_frames_in_pieces(kms, piece):
    data = b"".join(kms.request_frame("KmsService/Derive",
                                      kms_pb.DeriveRequest(path=b"p%d" % i).SerializeToString())[0]
                    for i in range(4))
    for at in range(0, len(data), piece):
        kms.send(data[at:at + piece])
    for call_id in range(1, 5):
        assert kms.finish(call_id)[0].status == 0


def test_many_frames_in_one_write(kms):
    frames, ids = zip(*(kms.request_frame("KmsService/WhoAmI") for _ in range(2000)))
    kms.send(b"".join(frames))  # Less than the sockets hold: the answers wait for their reader.
    for call_id in ids:
        assert kms.finish(call_id)[0].status == 0


# --- Calls in flight, deadlines, cancel --------------------------------------------------------------

def waiting_get(conn, timeout_ms=0):
    """Begins a Get that the node holds back: it shows a stamp of a writer that is not known."""
    seen = frame_pb.Stamp(hlc=int(time.time() * 1000) << 16, writer=b"\5" * 16)
    return conn.begin("KmsService/Get", kms_pb.GetRequest(key=b"w", seen=seen).SerializeToString(),
                      timeout_ms)


def test_calls_in_flight_are_bounded_and_none_is_lost(node, app):
    with node.connect(app) as conn:
        ids = [waiting_get(conn) for _ in range(256)]
        extra = conn.begin("KmsService/WhoAmI")  # Is not read until one of the others is answered.
        for call_id in ids + [extra]:
            conn.finish(call_id)
        conn.call("WhoAmI")


def test_up_to_the_limit_other_calls_go_ahead(node, app):
    with node.connect(app) as conn:
        ids = [waiting_get(conn) for _ in range(255)]
        conn.call("WhoAmI")
        assert not any(i in conn.responses for i in ids[-10:])
        for call_id in ids:
            conn.finish(call_id)


def test_deadline(make_node):
    """A wait ends in time for its answer; a node that is late for that says so."""
    node = make_node(READ_WAIT_MS=60000)
    wallet, conn = node.new_app()
    with conn:
        in_time = NOT_FOUND, DEADLINE_EXCEEDED
        call_id = waiting_get(conn, timeout_ms=100)
        assert conn.finish(call_id)[0].status in in_time
        conn.call("WhoAmI")
        # The server's default is 10 s; the longest read wait that is configured is not reached.
        longer = waiting_get(conn, timeout_ms=400)
        shorter = waiting_get(conn, timeout_ms=100)
        assert conn.finish(shorter)[0].status in in_time
        assert longer not in conn.responses
        assert conn.finish(longer)[0].status in in_time


def test_cancel(make_node):
    node = make_node(READ_WAIT_MS=60000)
    wallet, conn = node.new_app()
    with conn:
        for _ in range(600):  # More than may be in flight: a cancelled call gives its place back.
            call_id = waiting_get(conn, timeout_ms=300000)
            conn.send_frame(frame_pb.FrameHeader(cancel={"call_id": call_id}))
        conn.call("WhoAmI")
        assert all(r.status == CANCELLED for r, _ in conn.responses.values())
        for call_id in (1, 2 ** 60):  # Finished, and never begun: ignored.
            conn.send_frame(frame_pb.FrameHeader(cancel={"call_id": call_id}))
        conn.call("WhoAmI")


# --- Ping, goaway ------------------------------------------------------------------------------------

def test_ping(node, app):
    for wallet in (app, None):
        with node.connect(wallet) as conn:
            for token in (0, 1, 2 ** 64 - 1):
                conn.ping(token)


def test_a_ping_answer_nobody_asked_for_is_ignored(kms):
    kms.send_frame(frame_pb.FrameHeader(ping={"token": 5, "ack": True}))
    kms.call("WhoAmI")


def test_ping_limit(node, app):
    with node.connect(app) as conn:
        for token in range(60):
            conn.ping(token)
    with node.connect(app) as conn:
        with pytest.raises(Closed) as closed:
            for token in range(100000):
                conn.ping(token)
        assert token >= 60
        assert closed.value.goaway.status == RESOURCE_EXHAUSTED


def test_ping_flood(node, app):
    ping = Conn.frame(frame_pb.FrameHeader(ping={"token": 1})) * 5000
    for wallet in (app, None):
        with node.connect(wallet) as conn:
            with pytest.raises(Closed) as closed:
                for _ in range(100):
                    conn.send(ping)
                raise Closed(conn.drain())
            assert closed.value.goaway is None or closed.value.goaway.status == RESOURCE_EXHAUSTED


def test_a_client_may_say_goaway(node, app):
    with node.connect(app) as conn:
        call_id = waiting_get(conn)
        conn.send_frame(frame_pb.FrameHeader(goaway={"reason": "done"}))
        # What it had asked is answered, then the connection ends.
        try:
            conn.finish(call_id)
        finally:
            conn.drain()


# --- Rude peers --------------------------------------------------------------------------------------

@pytest.mark.parametrize("garbage", [
    b"\0" * 1000, b"GET / HTTP/1.1\r\n\r\n", os.urandom(5000), b"\x16\x03\x01\xff\xff" + b"\1" * 300,
    b"\x80\x2e\1\3\1", b"SSH-2.0-x\r\n", b"\x15\x03\x03\0\2\2\x28", b"\x17\x03\x03\0\1x"],
    ids=range(8))
def test_garbage_before_the_handshake(node, garbage):
    with socket.create_connection(node.rpc, timeout=harness.DEADLINE_S) as sock:
        try:
            sock.sendall(garbage)
            while sock.recv(65536):
                pass
        except ConnectionResetError:
            pass


def test_garbage_in_the_middle_of_a_handshake(node):
    hello = client_hello()
    with socket.create_connection(node.rpc, timeout=harness.DEADLINE_S) as sock:
        try:
            sock.sendall(hello)
            assert sock.recv(65536)
            sock.sendall(os.urandom(3000))
            while sock.recv(65536):
                pass
        except ConnectionResetError:
            pass


def test_garbage_instead_of_records_after_the_handshake(node, app):
    conn = node.connect(app)
    conn.call("WhoAmI")
    raw = socket.socket(fileno=os.dup(conn.tls.fileno()))
    with raw:
        raw.settimeout(harness.DEADLINE_S)
        try:
            raw.sendall(os.urandom(20000))
            while raw.recv(65536):
                pass
        except OSError:
            pass
    conn.close()


def test_connections_that_vanish(node, app):
    """Reset, at every stage."""
    def reset(sock):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
    for _ in range(20):
        reset(socket.create_connection(node.rpc))
        sock = socket.create_connection(node.rpc)
        sock.sendall(client_hello())
        reset(sock)
        conn = node.connect(app)
        for _ in range(10):
            waiting_get(conn)
        reset(conn.tls)


def test_a_half_closed_connection_is_still_answered(node, app):
    with node.connect(app) as conn:
        call_id = waiting_get(conn)
        raw = socket.socket(fileno=os.dup(conn.tls.fileno()))
        with raw:
            raw.shutdown(socket.SHUT_WR)
            answer = None
            try:
                answer = conn.finish(call_id)
            except Closed:
                pass  # An end without close_notify may also be taken as a broken connection.
            assert answer is None or answer[0].status != 0
            conn.drain()


def test_silent_peers_make_room_for_callers(node, app):
    """More of them than handshakes may be under way at once."""
    socks = []
    try:
        for _ in range(600):
            socks.append(socket.create_connection(node.rpc, timeout=harness.DEADLINE_S))
        for _ in range(3):
            is_well(node, app)
    finally:
        for sock in socks:
            sock.close()


def test_a_client_that_does_not_read_blocks_only_itself(node):
    wallet, greedy = node.new_app()
    value = os.urandom(1000000)
    with greedy:
        greedy.call("Put", key=b"big", value=value)
        get = kms_pb.GetRequest(key=b"big").SerializeToString()
        greedy.tls.settimeout(1)
        asked = 0
        try:
            while asked < 3000:
                greedy.send(greedy.request_frame("KmsService/Get", get)[0])
                asked += 1
        except (socket.timeout, Closed, OSError):
            pass  # The server stopped reading: that is what should happen.
        with node.connect(wallet) as other:
            for _ in range(20):
                other.call("Derive", path=b"p")
        if not harness.sanitized():
            assert node.memory_kib() < 512 * 1024


def test_many_connections_that_flood(node, app):
    """Sixteen clients write as fast as they can and never read."""
    stop = time.monotonic() + 3
    derive = kms_pb.BatchDeriveRequest(items=[{"path": b"p", "length": 1024}] * 256)
    data = derive.SerializeToString()

    def flood():
        try:
            with node.connect(app) as conn:
                conn.tls.settimeout(0.5)
                while time.monotonic() < stop:
                    conn.send(conn.request_frame("KmsService/BatchDerive", data)[0])
        except (OSError, Closed):
            pass
    threads = [threading.Thread(target=flood) for _ in range(16)]
    for thread in threads:
        thread.start()
    with node.connect(app) as conn:
        while time.monotonic() < stop:
            conn.call("WhoAmI")
    for thread in threads:
        thread.join()


def test_a_thousand_idle_connections(node, app):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 4096), hard), hard))
    context = harness.tls_context(app.pem())
    conns = []
    try:
        with Conn(node.rpc, context=context) as conn:
            conn.call("WhoAmI")
        before = node.memory_kib()
        for _ in range(1000):
            conns.append(Conn(node.rpc, context=context))
        for conn in conns[::37] + conns[-1:]:
            conn.call("Derive", path=b"p")
        for conn in conns:
            conn.call("WhoAmI")
        grown = node.memory_kib() - before
        if not harness.sanitized():
            assert grown < 1000 * 48, "%d KiB for 1,000 connections" % grown
        print("memory of an idle connection: %.1f KiB" % (grown / 1000))
        is_well(node, app)
    finally:
        for conn in conns:
            conn.close()


def fill(node, wallets):
    """Opens a connection for each of the wallets (None: anonymous) until one is refused; gives those
    that are open and the goaway, or None."""
    conns = []
    for wallet in wallets:
        conn = node.connect(wallet)
        try:
            conn.call("NodeService/GetStatus")
        except Closed as closed:
            conn.close()
            return conns, closed.goaway
        conns.append(conn)
    return conns, None


def close(conns):
    for conn in conns:
        conn.close()


def test_connection_limit(make_node):
    """Of the node, and of one wallet: half of it."""
    node = make_node(NODE_CONNECTIONS_MAX=8)
    wallets = node.apps[:2]
    conns, goaway = fill(node, [wallets[0]] * 5)
    assert len(conns) == 4 and goaway.status == RESOURCE_EXHAUSTED
    others, goaway = fill(node, [wallets[1]] * 4)
    assert len(others) == 4 and goaway is None
    assert fill(node, [node.apps[2]])[1].status == RESOURCE_EXHAUSTED
    conns[0].call("WhoAmI")
    close(others)

    def again():
        late, refused = fill(node, [node.apps[2]])
        close(late)
        return refused is None
    harness.eventually("a place is free again", again)
    close(conns)


def test_anonymous_connections_are_fewer(make_node):
    """A quarter of all, so that strangers do not keep callers out."""
    node = make_node(NODE_CONNECTIONS_MAX=8)
    conns, goaway = fill(node, [None] * 3)
    assert len(conns) == 2 and goaway.status == RESOURCE_EXHAUSTED
    callers, goaway = fill(node, [node.apps[0], node.apps[1]] * 3)
    assert len(callers) == 6 and goaway is None
    close(conns + callers)


def test_anonymous_calls_are_limited(node):
    """20 a second on a connection; the answer says when to try again."""
    with node.connect() as conn:
        ids = [conn.begin("NodeService/GetStatus") for _ in range(500)]
        answers = [conn.finish(i)[0] for i in ids]
        codes = [a.status for a in answers]
        assert codes[:20] == [0] * 20
        assert RESOURCE_EXHAUSTED in codes and set(codes) <= {0, RESOURCE_EXHAUSTED}
        refused = next(a for a in answers if a.status != 0)
        assert 0 < refused.details.retry_after_ms <= 1000
        harness.eventually("the limit lets it through", lambda: conn.finish(
            conn.begin("NodeService/GetStatus"))[0].status == 0)


def test_idle_is_no_reason_to_be_slow(kms):
    """A ping and a call after a while of silence."""
    kms.call("WhoAmI")
    kms.ping(9)


# --- Last: those that were begun first ---------------------------------------------------------------

def test_stalled_connections_are_closed(stalled):
    for what, sock in stalled.items():
        try:
            while sock.recv(65536):
                pass
        except socket.timeout:
            raise AssertionError("%s: still open" % what) from None
        except OSError:
            pass


def test_errors_have_a_code_a_sentence_and_no_payload(kms):
    with fails(INVALID_ARGUMENT):
        kms.call("Derive", path=b"")
    try:
        kms.call("Derive", path=b"")
    except CallError as error:
        assert error.message[-1] != "\n" and len(error.message.encode()) <= 256
