# SPDX-License-Identifier: Apache-2.0
"""The chain does not answer, or shows no new block: known callers are served until what is known of them
is too old, and nobody after that; nothing that serves waits."""
import signal
import statistics
import time

from chain import (Gate, Odyn, WallClock, Withholder, await_refusal, await_served, derive,
                   derive_or_error)
from harness import DEADLINE_S, UNAVAILABLE, Wallet, eventually, fails

TTL_S, STALL_S, SKEW_S = 8, 2, 5
SHORT = {"REGISTRY_CACHE_TTL_SECONDS": str(TTL_S), "HEAD_STALL_SECONDS": str(STALL_S)}


def last_served_at(kms):
    """Calls until one is refused. When the last one began that was served (0: none), and the error."""
    served_at, end = 0, time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        began_at = time.time()
        _, error = derive_or_error(kms)
        if error:
            return served_at, error
        served_at = began_at
        time.sleep(0.02)
    raise AssertionError("not in time: the caller is refused")


def test_blocks_withheld_from_lookups(chain, make_live_node):
    """A caller whose revocation the node is not shown runs out all the same; the node itself, which
    sees its own membership, goes on."""
    withholder = Withholder(chain)
    try:
        node = make_live_node(HELIOS_RPC_URL=withholder.url, **SHORT)
        node.await_ready()
        with node.connect_app() as kms:
            derive(kms)
            withholder.newest, frozen_at = chain.block()
            chain.stop_instance(kms.wallet.text)

            def stalled():
                stranger = Wallet()
                goaway = node.refusal(stranger)
                assert "wallet %s: " % stranger.text in goaway.reason
                return goaway if "the head has stalled" in goaway.reason else None
            goaway = node.eventually("unknown wallets are refused", stalled)
            assert goaway.status == UNAVAILABLE
            assert ": registry cannot be read: " in goaway.reason
            if time.time() - frozen_at < TTL_S - 3:  # Or this machine is too slow to tell.
                derive(kms)  # A known caller is not.
            served_at, error = last_served_at(kms)
            print("served for %.1f s after the last block shown, at most %d"
                  % (served_at - frozen_at, TTL_S + STALL_S + SKEW_S))
            assert served_at - frozen_at < TTL_S + STALL_S + SKEW_S
            assert error.code == UNAVAILABLE and "the head has stalled" in error.message
            for _ in range(20):
                assert derive_or_error(kms)[1].code == UNAVAILABLE
            assert node.page("/health")[0] == 200
            goaway = node.refusal(kms.wallet)  # Nor by way of a new connection.
            assert goaway.status == UNAVAILABLE and "the head has stalled" in goaway.reason
            withholder.newest = None
            node.eventually("the revocation is seen", lambda: "instance is STOPPED" in
                            derive_or_error(kms)[1].message)
        assert "node.unavailable" not in node.output()[node.output().index("node.serving"):]
    finally:
        withholder.close()


def test_frozen_head(chain, make_live_node):
    """With a wall clock that is set back by less than MAX_CLOCK_SKEW_MS, which is no step: that makes
    nothing younger either."""
    clock = WallClock()
    node = make_live_node(**SHORT, **clock.env)
    node.await_ready()
    with node.connect_app() as kms:
        derive(kms)
        chain.freeze()
        clock.set_ahead(1 - SKEW_S)
        try:
            frozen_at = chain.block()[1]
            served_at, error = last_served_at(kms)
            assert served_at - frozen_at < TTL_S + STALL_S + SKEW_S
            assert error.code == UNAVAILABLE
            reason = node.await_reason("the node's membership is not known: ")
            assert "the head has stalled" in reason
            with fails(UNAVAILABLE, " is not known: "):
                derive(kms)
        finally:
            clock.set_ahead(0)
            chain.thaw()
        node.await_ready()
        await_served(node, kms)


def test_chain_and_odyn_hang(chain, make_live_node):
    """Both take what is asked and do not answer. Whatever waits for one of them waits 5 s at least: the
    bound below is generous, and still tells."""
    gate, odyn = Gate(chain.url), Odyn()
    odyn_gate = Gate(odyn.url)
    try:
        node = make_live_node(odyn=odyn, HELIOS_RPC_URL=gate.url, ODYN_URL=odyn_gate.url, **SHORT)
        node.await_ready()
        with node.connect_app() as kms:
            key = derive(kms)
            gate.is_shut = odyn_gate.is_shut = True
            # Two readers: the callers' and the node's own.
            node.eventually("both of its readers hang", lambda: len(gate.swallowed) >= 2)
            took_s = []
            is_served = True
            while is_served and len(took_s) < 200:
                began_at = time.monotonic()
                is_served = node.page("/health")[0] == 200
                half_at = time.monotonic()
                is_served = is_served and derive_or_error(kms)[0] is not None
                took_s.append((half_at - began_at, time.monotonic() - half_at))
            assert len(took_s) > 20
            for name, spans_s in zip(("/health", "Derive"), zip(*took_s)):
                print("while chain and Odyn hang: %s median %.1f ms, slowest %.1f ms" % (
                    name, statistics.median(spans_s) * 1000, max(spans_s) * 1000))
                assert statistics.median(spans_s) < 0.25 and max(spans_s) < 4
            await_refusal(node, kms)
            reason = node.await_reason(" is not known")
            with fails(UNAVAILABLE, reason[:40]):
                derive(kms)
            gate.is_shut = odyn_gate.is_shut = False
            node.await_ready()
            assert await_served(node, kms) == key
    finally:
        gate.close()
        odyn_gate.close()


def test_stopping_while_the_chain_hangs(chain, make_live_node):
    gate = Gate(chain.url)
    try:
        node = make_live_node(HELIOS_RPC_URL=gate.url)
        node.await_ready()
        gate.is_shut = True
        node.eventually("both of its readers hang", lambda: len(gate.swallowed) >= 2)
        began_at = time.monotonic()
        node.process.send_signal(signal.SIGTERM)
        eventually("the node ends", lambda: node.process.poll() is not None)
        took_s = time.monotonic() - began_at
        print("stopped in %.2f s while the chain hung" % took_s)
        assert took_s < 10, "a read with its retries has 12 s, and there are two"
        node.stop()
    finally:
        gate.close()
