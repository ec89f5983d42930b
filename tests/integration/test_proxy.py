# SPDX-License-Identifier: Apache-2.0
"""Connections through an HTTP proxy with CONNECT: one that works, and ones that do not."""
import base64
import contextlib
import re
import socket
import subprocess
import threading

import pytest

import harness
from harness import DEADLINE_S, program

# The proxy alone can look it up, so that a connection past the proxy cannot go unnoticed.
NAME = "kms.test"
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n"


def pass_on(source, sink):
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


class Proxy:
    """Listens on loopback and gives each connection, with the head it sent, to `serve`."""

    def __init__(self, target, serve):
        self.target, self.serve = target, serve
        self.heads = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                conn = self.listener.accept()[0]
                threading.Thread(target=self._one, args=(conn,), daemon=True).start()

    def _one(self, conn):
        with conn, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                data = conn.recv(4096)
                if not data:
                    return
                head += data
            self.heads.append(head)
            self.serve(self, conn)

    def join(self, conn):
        conn.sendall(ESTABLISHED)
        with socket.create_connection(self.target) as far:
            threading.Thread(target=pass_on, args=(far, conn), daemon=True).start()
            pass_on(conn, far)
            conn.recv(1)  # Until the other way has ended too.


def whoami(node, *options, server=None, **environment):
    """Exit code, standard output, standard error."""
    command = [program("novakmsctl"), "--server", server or "%s:%d" % (NAME, node.rpc[1]),
               "--server-wallet", node.wallet, "--identity", str(node.dir / "app.key"),
               "--chain-id", str(harness.CHAIN_ID), *options, "whoami"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False,
                          env=harness.plain_environment(environment))
    return done.returncode, done.stdout, done.stderr


def test_a_call_goes_through_the_proxy(node):
    with Proxy(node.rpc, Proxy.join) as proxy:
        code, out, err = whoami(node, https_proxy="http://" + proxy.address)
        assert code == 0, err
        assert "1001" in out
    target = "%s:%d" % (NAME, node.rpc[1])
    assert proxy.heads == [("CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (target, target)).encode()]


def test_credentials_are_sent_and_not_shown(node):
    def check(proxy, conn):
        if b"\r\nProxy-Authorization: Basic %s\r\n" % base64.b64encode(b"me:open sesame") in proxy.heads[-1]:
            proxy.join(conn)
        else:
            conn.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")

    with Proxy(node.rpc, check) as proxy:
        code, _, err = whoami(node, HTTPS_PROXY="http://me:open%20sesame@" + proxy.address)
        assert code == 0, err
        code, _, err = whoami(node, HTTPS_PROXY="http://me:wrong@" + proxy.address)
    assert code == 5
    assert "the proxy at %s: it answers 407: it wants other credentials" % proxy.address in err
    assert "wrong" not in err and "Basic" not in err


def answer(data):
    return lambda _, conn: conn.sendall(data)


def hang(_, conn):
    conn.recv(1)  # The client says nothing more, and leaves at last.


def hang_up(*_):
    pass


def drop_within(proxy, conn):
    """The tunnel stands, and breaks inside the TLS handshake."""
    conn.sendall(ESTABLISHED)
    conn.recv(16)


@pytest.mark.parametrize("serve, text", [
    (answer(b"HTTP/1.1 502 Bad Gateway\r\n\r\n"), "it answers 502: it does not reach the target"),
    (answer(b"HTTP/1.1 200 OK\r\n" + 4096 * b"X: giant\r\n"), "a head of more than 8192 bytes"),
    (answer(b"SSH-2.0-x\r\n\r\n"), "it does not answer in HTTP"),
    (hang_up, "it ended the connection instead of an answer"),
    (drop_within, ""),
    (hang, ""),
], ids=["bad_gateway", "giant_head", "no_http", "hangs_up", "drops_within", "hangs"])
def test_a_proxy_that_fails_is_one_sentence(node, serve, text):
    with Proxy(node.rpc, serve) as proxy:
        code, _, err = whoami(node, "--timeout", "500ms" if serve is hang else "10s",
                              https_proxy="http://" + proxy.address)
    assert code == 5
    assert re.fullmatch(r"novakmsctl: [^\n]+\n", err), err
    assert text in err
    assert proxy.heads


def test_exceptions_and_this_machine_are_reached_directly(node):
    def never(*_):
        raise AssertionError("the proxy was asked")

    here = "127.0.0.1:%d" % node.rpc[1]
    with Proxy(node.rpc, never) as proxy:
        url = "http://" + proxy.address
        code, _, err = whoami(node, server=here, https_proxy=url)
        assert code == 0, err
        # A system without /etc/hosts may have no address for this name.
        code, _, err = whoami(node, server="localhost:%d" % node.rpc[1], https_proxy=url)
        assert code in (0, 5) and "proxy" not in err, err
        code, _, err = whoami(node, https_proxy=url, no_proxy="x, .test:%d" % node.rpc[1])
        assert code == 5 and "proxy" not in err, err  # The name has no address here.
    assert proxy.heads == []


def test_a_proxy_that_is_none_is_named(node):
    code, _, err = whoami(node, https_proxy="socks5://me:secret@127.0.0.1:1")
    assert code == 2, err
    assert "https_proxy of the environment must be http://[USER:PASSWORD@]HOST:PORT" in err
    assert "secret" not in err
    code, _, err = whoami(node, server="127.0.0.1:%d" % node.rpc[1], https_proxy="socks5://p:1")
    assert code == 0, err


def test_a_node_checks_its_proxy(tmp_path):
    def check(**environment):
        return subprocess.run([program("nova-kms"), "--check-config"], capture_output=True,
                              text=True, timeout=DEADLINE_S, check=False, cwd=tmp_path,
                              env=harness.plain_environment(environment))

    done = check(https_proxy="http://me:secret@127.0.0.1:10000", NO_PROXY="localhost,127.0.0.1")
    assert done.returncode == 0
    assert "\nhttps_proxy=http://(hidden)@127.0.0.1:10000\n" in done.stdout
    assert "\nno_proxy=localhost,127.0.0.1\n" in done.stdout
    done = check(HTTPS_PROXY="https://me:secret@127.0.0.1:10000")
    assert done.returncode == 2
    assert "HTTPS_PROXY=(hidden): not allowed; it must be http://" in done.stderr
    assert "secret" not in done.stdout + done.stderr
