# SPDX-License-Identifier: Apache-2.0
"""A host sets a node's wall clock. Nobody lives longer by that, and nothing ends earlier."""
import time

from cryptography import x509

from chain import WallClock, await_served, derive
from harness import UNAVAILABLE, fails

HOUR_S = 3600
STEPPED = "the clock stepped by more than MAX_CLOCK_SKEW_MS"


def test_set_back_with_the_head_frozen(chain, make_live_node):
    clock = WallClock()
    node = make_live_node(REGISTRY_CACHE_TTL_SECONDS="8", HEAD_STALL_SECONDS="2", **clock.env)
    node.await_ready()
    with node.connect_app() as kms:
        key = derive(kms)
        chain.freeze()
        try:
            clock.set_ahead(-HOUR_S)
            reason = node.await_reason(STEPPED)
            with fails(UNAVAILABLE, reason):
                derive(kms)
            # What was read of the chain grows old by the monotonic clock.
            node.await_log(STEPPED + r"[^$]* state=(NO_MEMBERSHIP)")
            # The clock is right again, and the blocks that might say otherwise stay away.
            clock.set_ahead(0)
            reason = node.await_reason("the head has stalled")
            assert reason.startswith("the node's membership is not known: ")
            with fails(UNAVAILABLE, reason[:40]):
                derive(kms)
            assert node.output().count("node.serving") == 1, node.output()
        finally:
            chain.thaw()
        node.await_ready()
        assert await_served(node, kms) == key


def not_before_unix_s(conn):
    certificate = x509.load_der_x509_certificate(conn.tls.getpeercert(binary_form=True))
    not_before = certificate.not_valid_before
    return (not_before - type(not_before)(1970, 1, 1)).total_seconds()


def test_jumped_forward(chain, make_live_node):
    clock = WallClock()
    node = make_live_node(**clock.env)
    node.await_ready()
    with node.connect_app() as kms:
        key = derive(kms)
        kms.call("Put", key=b"short", value=b"1", ttl_ms=HOUR_S * 500)
        kms.call("Put", key=b"long", value=b"2")
        former = kms.call("Put", key=b"third", value=b"3").stamp
        clock.set_ahead(HOUR_S)
        reason = node.await_reason(STEPPED)
        for call in ("Put", "Get", "Delete"):
            with fails(UNAVAILABLE, reason):
                kms.call(call, key=b"short")
        with fails(UNAVAILABLE, reason):
            derive(kms)
        assert node.page("/status")[1]["reason"] == reason
        with node.connect() as conn:
            assert conn.call("NodeService/GetStatus").reason == reason
        assert "nova_kms_serving 0" in node.metrics()
        clock.set_ahead(0)
        node.await_ready()
        # What would have ended half an hour ago is here, and no stamp is of the time that never was.
        assert kms.call("Get", key=b"short").value == b"1"
        assert kms.call("Get", key=b"long").value == b"2"
        stamp = kms.call("Put", key=b"fourth", value=b"4").stamp
        assert former.hlc < stamp.hlc and stamp.hlc >> 16 < (time.time() + 5) * 1000
        assert derive(kms) == key
        with node.connect(kms.wallet) as again:
            assert not_before_unix_s(again) <= time.time()
            assert derive(again) == key
