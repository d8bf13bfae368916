"""Which replica gets a request, where the less busy of two (Ray Serve's own answer) is not the one that is asked for.

Ray's prefix-aware router (`ray.serve.llm.request_router.PrefixCacheAffinityRouter`) reads `messages` off the arguments
of a call. Ray Serve's proxies call a replica before they have read the body, so that there are none, and a request
would hang. It is made for an ingress of its own in front of the model's deployment, which costs each token a hop more,
or for HAProxy in place of the proxies, without what serve/proxy.py keeps away from replicas. What a proxy does know is
the session that a client names in a header.
"""

import asyncio
import hashlib
import random
from collections import Counter

from ray.serve.request_router import LocalityMixin, PendingRequest, ReplicaID, RequestRouter, RunningReplica

SLACK = 8
"""How many requests more than the least busy replica a session's own one may have: a client names the session, so that
without a bound it could load one replica alone."""


class SessionRouter(LocalityMixin, RequestRouter):  # type: ignore[misc] # Ray Serve has no types here
    """A session's requests go to one replica, the same from every proxy, whose cache has their beginning.

    Ray's own router for sessions (`ray.serve.experimental.consistent_hash_router`) leaves a replica only when it is
    full, and places requests without a session by chance, whatever the load.
    """

    def initialize_state(self) -> None:
        """Ray Serve calls it before the first request."""
        self._sent = Counter[ReplicaID]()

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Replicas by rank; of those in one rank the less busy gets the request."""
        await asyncio.sleep(0)  # the request that was placed before is sent now, and counted
        near = self.apply_locality_routing(pending_request)
        others = [replica for replica in candidate_replicas if replica.replica_id in near]
        two = random.sample(others, min(2, len(others)))
        session = pending_request.metadata.session_id if pending_request else ""
        if not session or not candidate_replicas:
            return [two]
        own = max(candidate_replicas, key=lambda replica: _weight(session, replica))
        least = min(map(self._ongoing, candidate_replicas))
        return [[own], two] if self._ongoing(own) <= least + SLACK else [two]

    def on_send_request(self, replica_id: ReplicaID) -> None:
        """Ray Serve calls it at each request."""
        super().on_send_request(replica_id)
        self._sent[replica_id] += 1

    def on_request_completed(self, replica_id: ReplicaID, internal_request_id: str) -> None:
        """Ray Serve calls it at each request's end, also where it was never sent."""
        super().on_request_completed(replica_id, internal_request_id)
        self._sent[replica_id] = max(0, self._sent[replica_id] - 1)

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """Ray Serve calls it when replicas come or go."""
        super().update_replicas(replicas)
        self._sent = Counter({replica.replica_id: self._sent[replica.replica_id] for replica in replicas})

    def _ongoing(self, replica: RunningReplica) -> int:
        """Requests of a replica: of this proxy, or of all, as the replica said when it last took one.

        What it says counts those on their way to it as none, and is forgotten after ten seconds.
        """
        return max(self._sent[replica.replica_id], self.replica_queue_len_cache.get(replica.replica_id) or 0)


def _weight(session: str, replica: RunningReplica) -> bytes:
    """The highest of all replicas is a session's own (rendezvous hashing): when others come or go, it stays."""
    return hashlib.blake2b(f"{session} {replica.replica_id.unique_id}".encode(), digest_size=8).digest()
