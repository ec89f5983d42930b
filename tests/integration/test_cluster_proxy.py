# SPDX-License-Identifier: Apache-2.0
"""Two nodes that reach each other only through a CONNECT proxy, which alone can look them up, and
which drops what it carries."""
import contextlib
import re
import socket
import threading

import chain as chains
from chain import KMS_APP, SAMPLE_APP, LiveNode, Odyn
from harness import CallError, Wallet, eventually, kms_pb


def pass_on(source, sink):
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    for sock in (source, sink):
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


class Proxy:
    """Takes any name to loopback."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = "http://127.0.0.1:%d" % self.listener.getsockname()[1]
        self.names, self.tunnels = set(), []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self.listener.close()

    def drop(self):
        tunnels, self.tunnels = self.tunnels, []
        for sock in tunnels:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        return len(tunnels)

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self.listener.accept()
                threading.Thread(target=self._one, args=(sock,), daemon=True).start()

    def _one(self, sock):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            data = sock.recv(1)
            if not data:
                sock.close()
                return
            head += data
        name, port = re.match(rb"CONNECT ([^ :]+):(\d+) HTTP/1\.1\r\n", head).groups()
        self.names.add(name.decode())
        try:
            target = socket.create_connection(("127.0.0.1", int(port)))
        except OSError:
            sock.sendall(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
            sock.close()
            return
        self.tunnels += [sock, target]
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        threading.Thread(target=pass_on, args=(target, sock), daemon=True).start()
        pass_on(sock, target)


def value(kms, key):
    try:
        return kms.call("Get", key=key).value
    except CallError:
        return None


def test_members_behind_a_proxy(chain):
    proxy, nodes, caller = Proxy(), [], Wallet()
    ports = [chains.free_port() for _ in range(2)]
    odyns = [Odyn() for _ in ports]
    try:
        for i, (odyn, port) in enumerate(zip(odyns, ports)):
            chain.fund(odyn.wallet)
            chain.register(odyn.wallet, KMS_APP, "https://node%d.test:%d" % (i, port),
                           odyn.tee_pubkey())
        chain.register(caller.text, SAMPLE_APP)
        for i, (odyn, port) in enumerate(zip(odyns, ports)):
            nodes.append(LiveNode(chain, odyn, {
                "NODE_URL": "https://node%d.test:%d" % (i, port),
                "NODE_RPC_LISTEN": "127.0.0.1:%d" % port, "https_proxy": proxy.url,
                "DATA_SYNC_INTERVAL_SECONDS": "1", "START_WAIT_SECONDS": "3"}))
        for node in nodes:
            node.await_ready()
        assert proxy.names == {"node0.test", "node1.test"}
        with nodes[0].connect_known(caller) as one, nodes[1].connect_known(caller) as other:
            one.call("Put", key=b"k", value=b"1", durability=kms_pb.DURABILITY_QUORUM)
            assert value(other, b"k") == b"1"
            for i in range(3):
                assert proxy.drop() > 0
                other.call("Put", 20000, key=b"k", value=b"%d" % i,
                           durability=kms_pb.DURABILITY_QUORUM)
                eventually("it is there", lambda i=i: value(one, b"k") == b"%d" % i)
    finally:
        for node in nodes:
            node.close()
        proxy.close()
