# SPDX-License-Identifier: Apache-2.0
"""The bench runs and reports; what it measures is nobody's pass or fail here."""

import contextlib
import json
import os
import pathlib
import socket
import struct
import subprocess
import threading

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("NOVA_BUILD_DIR", ROOT / "build")).resolve()


def test_bench_reports_every_call(tmp_path):
    report = tmp_path / "report.json"
    done = subprocess.run(
        [BUILD / "tools/bench/novakms-bench", "--node", BUILD / "src/nova-kms", "--only", "calls",
         "--only", "soak", "--only", "bulk", "--bytes", "1000000",
         "--window-ms", "100", "--rounds", "1", "--json", report],
        capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(report.read_text())
    for shape in ("1x1", "50x1", "50x16"):
        for call in ("Derive", "Get", "Put"):
            row = figures["calls"][f"{call}_{shape}"]
            assert row["call"]["requests_per_second"] > 0
            assert row["echo"]["server_cpu_us"] > 0
            assert row["cpu_ratio"] > 0
    assert len(figures["soak"]["resident_mib"]) == 10
    assert figures["bulk"]["seconds"] > 0


def test_bench_names_a_wrong_option():
    done = subprocess.run([BUILD / "tools/bench/novakms-bench", "--rounds", "21"],
                          capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert "--rounds: 21 is not allowed" in done.stderr


# --- a node with too much to do resets connections in their handshake --------------------------------

class Records:
    """Finds TLS records in a stream."""

    HEADER_BYTES = 5
    APPLICATION_DATA = 0x17

    def __init__(self):
        self.stream = b""

    def has_data(self, piece):
        """Whether a record of application data has begun."""
        self.stream += piece
        while len(self.stream) >= self.HEADER_BYTES:
            if self.stream[0] == self.APPLICATION_DATA:
                return True
            end = self.HEADER_BYTES + int.from_bytes(self.stream[3:5], "big")
            if len(self.stream) < end:
                return False
            self.stream = self.stream[end:]
        return False


class ResettingProxy:
    """In front of a node: resets the first `count` connections, at their first bytes, or with
    `at_data` at their first encrypted ones: the client of TLS 1.2 has then finished its handshake,
    and that of TLS 1.3 is about to, and takes it for done."""

    def __init__(self, target, count, at_data=False):
        self.target, self.left, self.at_data = target, count, at_data
        self.resets = []  # Appended to by several threads.
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.threads = []
        self.is_closing = False
        self._begin(self._accept)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.is_closing = True
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
        for thread in self.threads:
            thread.join(60)
        self.listener.close()

    def _begin(self, run, *args):
        thread = threading.Thread(target=run, args=args, daemon=True)
        self.threads.append(thread)
        thread.start()

    def _accept(self):
        while True:
            client, _ = self.listener.accept()
            if self.is_closing:
                client.close()
                return
            resets = self.left > 0
            self.left -= 1
            server = socket.create_connection(self.target)
            self._begin(self._up, client, server, resets)
            if not resets or self.at_data:
                self._begin(self._down, client, server)

    def _up(self, client, server, resets):
        records = Records()
        with client, server, contextlib.suppress(OSError):
            while data := client.recv(65536):
                if resets and (not self.at_data or records.has_data(data)):
                    self.resets.append(client)
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                      struct.pack("ii", 1, 0))
                    client.shutdown(socket.SHUT_RD)  # Wakes the other thread's send, if it blocks.
                    server.shutdown(socket.SHUT_RDWR)
                    return
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)

    @staticmethod
    def _down(client, server):
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                client.sendall(data)


def remote(node, port, connections):
    return subprocess.run(
        [BUILD / "tools/bench/novakms-bench", "--only", "remote", "--port", str(port),
         "--identity", node.dir / "app.key", "--connections", str(connections), "--rate", "200",
         "--window-ms", "100"], capture_output=True, text=True, timeout=300, check=False)


# With several connections some may be answered before others have sent anything.
@pytest.mark.parametrize("connections, at_data", [(4, False), (1, True)])
def test_bench_connects_again_after_a_reset(node, connections, at_data):
    with ResettingProxy(node.rpc, 6, at_data) as proxy:
        done = remote(node, proxy.port, connections)
        assert done.returncode == 0, done.stderr
        assert len(proxy.resets) == 6


def test_bench_does_not_connect_for_ever(node):
    with ResettingProxy(node.rpc, 10**9) as proxy:
        done = remote(node, proxy.port, 4)
        assert done.returncode == 1
        assert len(proxy.resets) <= 4 * 17
