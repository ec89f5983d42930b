# SPDX-License-Identifier: Apache-2.0
"""How long a caller that was revoked on chain is still served, with the defaults of a node."""
import re
import threading
import time

from chain import derive_or_error
from harness import DEADLINE_S, PERMISSION_DENIED

CALLER_COUNT, ROUND_COUNT = 4, 3
BOUND_S = 15
DEFAULTS = {"KMS_NODE_TICK_SECONDS": None, "REGISTRY_REFRESH_SECONDS": None,
            "REGISTRY_CACHE_TTL_SECONDS": None, "HEAD_STALL_SECONDS": None,
            "HASH_CONFIRMATIONS": None}


class Caller(threading.Thread):
    """Calls again and again on one connection until it is refused."""

    def __init__(self, conn):
        super().__init__(daemon=True)
        self.conn = conn
        self.served_at = self.error = None

    def run(self):
        while self.error is None:
            began_at = time.time()
            _, self.error = derive_or_error(self.conn)
            if self.error is None:
                self.served_at = began_at
                time.sleep(0.02)


def revoke_some(chain, node):
    """For each caller the seconds from the block that revoked it to the last call that was served."""
    callers = [Caller(node.connect_app()) for _ in range(CALLER_COUNT)]
    for caller in callers:
        caller.start()
    node.eventually("all are served", lambda: all(caller.served_at for caller in callers))
    receipt = chain.stop_instance(*[caller.conn.wallet.text for caller in callers])
    revoked_at = chain.block(receipt["blockNumber"])[1]
    for caller in callers:
        caller.join(DEADLINE_S)
        assert caller.error, "the caller is still served"
        caller.conn.close()
        assert caller.error.code == PERMISSION_DENIED and "STOPPED" in caller.error.message
    return [caller.served_at - revoked_at for caller in callers]


def histogram(node):
    return {bound: int(count) for bound, count in re.findall(
        r'nova_kms_revocation_seconds_bucket\{le="([^"]+)"\} (\d+)', node.metrics())}


def test_revoked_callers_are_cut_off(chain, make_live_node):
    """Whole rounds: a machine that stands still for seconds shows a bound missed that the node keeps."""
    node = make_live_node(**DEFAULTS)
    node.await_ready()
    for number in range(1, ROUND_COUNT + 1):
        lasted_s = revoke_some(chain, node)
        print("served after the revoking block for %s s"
              % ", ".join("%.1f" % span_s for span_s in sorted(lasted_s)))
        if max(lasted_s) < BOUND_S:
            break
    assert max(lasted_s) < BOUND_S
    count = number * CALLER_COUNT
    node.eventually("the metric", lambda: histogram(node).get("+Inf") == count)
    print("nova_kms_revocation_seconds: %s" % histogram(node))
