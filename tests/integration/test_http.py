# SPDX-License-Identifier: Apache-2.0
"""The operators' shim, on its own port and on the TLS port."""
import json
import os
import re
import socket
import subprocess

import pytest

import harness

PORTS = pytest.mark.parametrize("port", ["http", "rpc"])


def raw(node, port, data, half_close=False):
    """Everything the server answers to these bytes, until it closes."""
    if port == "rpc":
        conn = harness.Conn(node.rpc, context=harness.tls_context(alpn=("http/1.1",)))
        sock = conn.tls
    else:
        sock = socket.create_connection(node.http, timeout=harness.DEADLINE_S)
    answer = b""
    with sock:
        try:
            sock.sendall(data)
            if half_close and port == "http":
                sock.shutdown(socket.SHUT_WR)
            while True:
                part = sock.recv(65536)
                if not part:
                    break
                answer += part
        except (OSError, harness.ssl.SSLError):
            pass
    return answer


@PORTS
def test_health(node, port):
    status, headers, body = node.get("/health", port)
    assert (status, json.loads(body)) == (200, {"status": "healthy"})
    assert headers["Content-Type"].startswith("application/json")
    assert node.get("/health/live", port)[0] == 200


@PORTS
def test_head(node, port):
    for path in ("/health", "/status", "/metrics"):
        status, headers, body = node.get(path, port, method="HEAD")
        assert status == 200 and body == b"" and int(headers["Content-Length"]) > 0


@PORTS
def test_status(node, port):
    status, _, body = node.get("/status", port)
    page = json.loads(body)
    assert status == 200
    assert page["node"]["tee_wallet"] == node.wallet
    assert page["node"]["is_operator"] is True
    assert page["cluster"]["total_instances"] == 1
    assert page["cluster"]["in_service"] and page["cluster"]["members"] == []
    assert {"namespaces", "total_keys", "total_bytes"} <= set(page["data_store"])
    text = json.dumps(page)
    assert "version" in text and "uptime" in text
    assert harness.MASTER_SECRET not in text


def test_status_counts(node):
    wallet, conn = node.new_app()
    with conn:
        before = json.loads(node.get("/status")[2])["data_store"]
        conn.call("Put", key=b"k", value=b"v" * 1000)
        after = json.loads(node.get("/status")[2])["data_store"]
    assert after["namespaces"] == before["namespaces"] + 1
    assert after["total_keys"] == before["total_keys"] + 1
    assert after["total_bytes"] >= before["total_bytes"] + 1000


@PORTS
def test_metrics(node, port):
    wallet, conn = node.new_app()
    with conn:
        conn.call("Derive", path=b"p")
        conn.call("Put", key=b"k", value=b"v")
    status, headers, body = node.get("/metrics", port)
    assert status == 200 and headers["Content-Type"].startswith("text/plain")
    done = subprocess.run(["promtool", "check", "metrics"], input=body, capture_output=True,
                          timeout=harness.DEADLINE_S, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert re.search(rb'^\w+\{[^}]*Derive[^}]*\} [1-9]', body, re.M)
    assert node.wallet.encode() not in body and wallet.text.encode() not in body


def test_metrics_count(node):
    def figure(name):
        body = node.get("/metrics")[2].decode()
        return sum(float(v) for v in re.findall(
            r"^\w*%s\w*(?:\{[^}]*\})? (\d[\d.e+]*)$" % name, body, re.M))
    before = figure("calls_total")
    wallet, conn = node.new_app()
    with conn:
        for i in range(50):
            conn.call("Derive", path=b"p%d" % i)
    assert figure("calls_total") >= before + 50


@PORTS
@pytest.mark.parametrize("path,want", [
    ("/", 404), ("/health/", 404), ("/healthz", 404), ("/status/..", 404), ("//health", 404),
    ("/%68ealth", 404), ("/health?verbose=1", 200), ("/HEALTH", 404), ("/../etc/passwd", 404)])
def test_paths(node, port, path, want):
    answer = raw(node, port, b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % path.encode())
    assert answer.startswith(b"HTTP/1.1 %d " % want), answer[:200]


@PORTS
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PATCH"])
def test_other_methods_are_refused(node, port, method):
    target = b"x:1" if method == "CONNECT" else b"/health"
    answer = raw(node, port, method.encode() + b" " + target + b" HTTP/1.1\r\nHost: x\r\n"
                 b"Content-Length: 0\r\nConnection: close\r\n\r\n")
    assert re.match(rb"HTTP/1\.1 (405|400|501) ", answer), answer[:200]


@PORTS
def test_keep_alive_and_pipelining(node, port):
    one = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = raw(node, port, one * 20 + last)
    assert answer.count(b"HTTP/1.1 200") == 21


@PORTS
def test_http_1_0(node, port):
    answer = raw(node, port, b"GET /health HTTP/1.0\r\n\r\n")
    assert re.match(rb"HTTP/1\.[01] 200", answer) and b'"healthy"' in answer


@PORTS
@pytest.mark.parametrize("data", [
    b"\r\n\r\n\r\n\r\n", b"GET\r\n\r\n", b"GET /health\r\n\r\n", b"GET /health HTTP/9.9\r\n\r\n",
    b"GET /health HTTP/1.1\r\n" + b"A: b\r\n" * 5000 + b"\r\n",
    b"GET /health HTTP/1.1\r\nHost: " + b"x" * 20000 + b"\r\n\r\n",
    b"GET /" + b"x" * 5000 + b" HTTP/1.1\r\n\r\n",
    b"GET /health HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
    b"GET /health HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    b"GET /health HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
    b"POST /health HTTP/1.1\r\nContent-Length: 4\r\n\r\nabcdGET /health HTTP/1.1\r\n\r\n",
    b"GET /health HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + b"\1" * 508,
    b"GET /hea\0lth HTTP/1.1\r\n\r\n", b"\xff" * 3000, os.urandom(3000)], ids=range(16))
def test_hostile_input(node, port, data):
    answer = raw(node, port, data, half_close=True)
    assert not answer or re.match(rb"HTTP/1\.1 (4\d\d|505|501|200) ", answer), answer[:200]
    assert node.get("/health")[0] == 200


@PORTS
def test_limits_of_a_request(node, port):
    def ask(target=b"/health", extra=b""):
        return raw(node, port, b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n" + extra +
                   b"Connection: close\r\n\r\n")
    assert ask(b"/health?" + b"x" * (1024 - 8)).startswith(b"HTTP/1.1 200")
    assert ask(b"/health?" + b"x" * (1024 - 7)).startswith(b"HTTP/1.1 414")
    assert ask(extra=b"A: " + b"x" * 7900 + b"\r\n").startswith(b"HTTP/1.1 200")
    assert ask(extra=b"A: " + b"x" * 8192 + b"\r\n").startswith(b"HTTP/1.1 431")


def test_silent_and_many_plain_connections(node):
    socks = [socket.create_connection(node.http, timeout=harness.DEADLINE_S) for _ in range(40)]
    try:
        for sock in socks[:20]:
            sock.sendall(b"GET /hea")
        assert node.get("/health")[0] == 200
        for sock in socks:  # All are closed in the end.
            try:
                while sock.recv(65536):
                    pass
            except ConnectionResetError:
                pass
    finally:
        for sock in socks:
            sock.close()


def test_a_client_that_does_not_read(node):
    with socket.create_connection(node.http, timeout=2) as sock:
        try:
            for _ in range(2000):
                sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
        except OSError:
            pass
        assert node.get("/health")[0] == 200
