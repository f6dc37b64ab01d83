"""WS-Security 1.0 UsernameToken: the name and password that a service wants in the header of each envelope."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

_OASIS = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss"
_EXTENSION = f"{_OASIS}-wssecurity-secext-1.0.xsd"
_UTILITY = f"{_OASIS}-wssecurity-utility-1.0.xsd"
_PROFILE = f"{_OASIS}-username-token-profile-1.0"
_BASE64 = f"{_OASIS}-soap-message-security-1.0#Base64Binary"


@dataclass(frozen=True, slots=True, kw_only=True)
class UsernameToken:
    """
    Args:
        kind: `text` sends the password, which asks for https; `digest` a SHA-1 over it, a nonce and the time, as the profile
            has it: against replay by who sees one, not against who guesses the password from it.
    """

    username: str
    password: str = field(repr=False)
    kind: Literal["text", "digest"] = "text"

    def header(self, now: datetime, nonce: bytes) -> str:
        """The header, as XML.

        Args:
            now: Aware.
            nonce: 16 random bytes.
        """
        created = f"{now:%Y-%m-%dT%H:%M:%S}Z"
        if self.kind == "text":
            told, extra = _escaped(self.password), ""
            name = "PasswordText"
        else:
            # SHA-1 is what the profile of 2004 says, and the only thing servers know.
            digest = hashlib.sha1(nonce + created.encode() + self.password.encode(), usedforsecurity=False).digest()
            told, name = base64.b64encode(digest).decode(), "PasswordDigest"
            extra = f'<w:Nonce EncodingType="{_BASE64}">{base64.b64encode(nonce).decode()}</w:Nonce>'
        return (
            f'<w:Security xmlns:w="{_EXTENSION}" xmlns:u="{_UTILITY}" e:mustUnderstand="1"><w:UsernameToken>'
            f"<w:Username>{_escaped(self.username)}</w:Username>"
            f'<w:Password Type="{_PROFILE}#{name}">{told}</w:Password>{extra}'
            f"<u:Created>{created}</u:Created></w:UsernameToken></w:Security>"
        )


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
