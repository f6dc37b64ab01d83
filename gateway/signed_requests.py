"""Requests that their callers signed themselves (`docs/signed-requests.md`), once their body is there."""

from __future__ import annotations

from starlette.types import Scope

from ca_auth import (
    CallerKey,
    NonceStore,
    Principal,
    RequestSignature,
    carries_our_signature,
    signature_of_person,
    verify_request,
)
from exchange import Body
from gateway.attempt import Attempt
from registry import Decision


class SignedRequests:
    """Verifies callers' signatures, and spends their nonces."""

    def __init__(self, nonces: NonceStore, body_rate: int) -> None:
        """
        Args:
            body_rate: Bytes a second at which a large request may come at least.
        """
        self._nonces = nonces
        self._body_rate = body_rate

    async def verify(
        self, attempt: Attempt, decision: Decision, scope: Scope, body: Body, principal: Principal, now: float
    ) -> RequestSignature | None:
        """The caller's own signature, verified and its nonce spent; None if there is none and none is demanded.

        Raises:
            RequestSignatureError: It is missing, or not one of this request.
            InvalidRequestError: It cannot be read.
            NoncesUnavailableError: The nonce could not be made durable.
        """
        headers = scope["headers"]
        if not (decision.grant.signed_requests or carries_our_signature(headers)):
            return None
        if principal.person is not None:
            raise signature_of_person()
        signature = verify_request(
            method=attempt.method,
            path=scope["raw_path"],
            query=scope["query_string"],
            headers=headers,
            body=body,
            caller=CallerKey.of(principal.der),
            # A large body takes its time; what was signed before it left was signed for when it began.
            now=now if isinstance(body, bytes) else attempt.asked_ms / 1000,
            # What a caller signs names its purpose: one that the grant implies would be the gateway's word.
            also_covered=("datong-purpose",),
        )
        if isinstance(body, bytes):
            await self._nonces.spend(signature)
        else:
            await self._nonces.spend(signature, until=now + len(body) / self._body_rate)
        return signature
