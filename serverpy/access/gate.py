"""The access check before the routes of the HTTP API, which identifies the client and its API key, and refuses requests
that are not allowed. Each application has one `Gate`."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import UTC, datetime

from serverpy.access.clients import Client, Fields, Network, client_of, names_this_machine, network_of
from serverpy.access.credentials import credentials_of, is_secret
from serverpy.access.grant import Grant
from serverpy.access.key import Key
from serverpy.access.key_file import KeyFile
from serverpy.access.keys import Keys
from serverpy.access.limits import Limits
from serverpy.access.origins import is_of_other_origin
from serverpy.access.rules import THROUGH_PROXY, Caller, Need, Policy, may_come_by_proxy, need_of, refusal
from serverpy.access.sessions import expiry_of, read, sign
from serverpy.access.tries import Tries
from serverpy.errors import HostUnknown, KeyForbids, KeyInvalid, KeyRequired

_SAFE = ("GET", "HEAD")
_AMBIENT = (Need.STREAMS, Need.ADMIN)
_BY_ADDRESS = (Need.STATUS, Need.STREAMS, Need.ADMIN)
"""The rights that a client without a key can have because of its address."""


SessionSecrets = Callable[[], Awaitable[Sequence[bytes]]]


async def _no_secrets() -> Sequence[bytes]:
    return ()


class SessionOver(KeyInvalid):
    """A session cookie that is invalid or expired, or whose API key was revoked or has expired."""


class Gate:
    """The access check of one application. `trusted` are the networks of TRUSTED_PROXIES, `own_hosts` the host names of
    this server, and `origins` the other web origins whose pages may use the credentials of a browser.
    `session_secrets` returns the secrets of session cookies: the first one signs new cookies, and a signature by any of
    them is valid. Without `keys`, no API key is valid, and the credentials in a request have no effect: they may be
    meant for a proxy in front of the server."""

    def __init__(
        self,
        policy: Policy,
        keys: KeyFile | None = None,
        *,
        trusted: Sequence[Network] = (),
        session_secrets: SessionSecrets = _no_secrets,
        own_hosts: Collection[str] = (),
        origins: Collection[str] = (),
    ) -> None:
        self.policy = policy
        self.keys = keys
        self._trusted = trusted
        self._session_secrets = session_secrets
        self._own_hosts = own_hosts
        self._origins = origins
        self._tries = Tries()

    def client_of(self, peer: str, fields: Fields) -> Client:
        return client_of(peer, fields, self._trusted)

    async def admit(self, method: str, path: str, client: Client, fields: Fields) -> Caller:
        """Return the client of an allowed request, with its API key if the request has one. Raises `KeyRequired`,
        `KeyInvalid`, `KeyForbids` or `RateLimited` if the request is not allowed. In a request for a public route or a
        signed link, credentials are ignored. Raises `HostUnknown` if the client has the right only because of its
        address, but the Host field names another server: a page can make a browser send such requests (DNS
        rebinding)."""
        need = need_of(method, path)
        if need is Need.NOTHING or need is Need.SIGNATURE:
            return Caller(client)
        self._check_way(client)
        key, over = None, None
        if self.keys is not None:
            try:
                key = await self._key_of(self.keys, method, client, fields)
            except SessionOver as error:
                over = error  # raise it only if the route needs a key, because browsers send the cookie to all routes
        # without this check, a page of another site could use the rights of the browser's address
        if key is None and need in _AMBIENT:
            self.check_origin(client, fields, by_address=True)
        caller = Caller(client, key)
        refused = refusal(need, caller, self.policy)
        if refused is not None:
            raise over if over is not None and isinstance(refused, KeyRequired) else refused
        if key is None and need in _BY_ADDRESS and not self._is_own(fields):
            raise HostUnknown(
                "This server does not answer this request for the host name in the Host header. Its operator can add "
                "the name to ALLOWED_HOSTS. A request with an admin key may have any host name."
            )
        return caller

    def _is_own(self, fields: Fields) -> bool:
        """Return whether the Host field is an IP literal, `localhost` or a host name of this server, or is absent."""
        host = next((value for name, value in fields if name == b"host"), b"")
        name = host.decode("latin-1").partition(":")[0].removesuffix(".").lower()
        return not host or names_this_machine(host) or name in self._own_hosts

    async def log_in(self, secret: bytes, client: Client, fields: Fields) -> tuple[str, int]:
        """Return the value of the cookie for a new session of the API key `secret`, and the lifetime of the session in
        seconds. Raises `KeyInvalid` if the key is unknown or expired, `RateLimited` if the client's network has sent
        too many invalid keys, `KeyForbids` if the client's address, proxy or origin is not allowed."""
        self._check_way(client)
        self.check_origin(client, fields)
        if self.keys is None:
            raise KeyInvalid("This server has no API keys, so nobody can log in: its operator can set API_KEYS_FILE.")
        keys = await self.keys.current()
        key = self._accept(keys.find(secret) if is_secret(secret) else None, client)
        now = time.time()
        expires = expiry_of(key, now)
        return sign((await self._session_secrets())[0], key, expires), max(1, expires - int(now))

    def check_origin(self, client: Client, fields: Fields, *, by_address: bool = False) -> None:
        """Check that no page of another origin sent the request, unless the operator has allowed that origin.
        `by_address` states that the request uses a right that the browser has because of its address; then no other
        origin is allowed. Raises `KeyForbids` if the check fails."""
        allowed = () if by_address else self._origins
        if is_of_other_origin(fields, self._own_hosts, allowed, by_trusted_proxy=client.is_trusted):
            raise KeyForbids("Cross-origin request refused: send this request from this server's own page.")

    async def living(self, name: str, digest: bytes) -> Key | None:
        """Return the API key with this name whose SHA-256 begins with `digest`. Returns None if the key was revoked or
        replaced, or has expired."""
        return None if self.keys is None else (await self.keys.current()).living(name, digest, datetime.now(UTC))

    def grant_for(self, caller: Caller, limits: Limits) -> Grant:
        """Return the rights and limits of one request of `caller`. `limits` counts the extractions, streams and bytes
        of the request."""
        client = caller.client
        return limits.grant_for(
            network_of(client.address),
            caller.key,
            is_local=client.is_local or not (client.address or client.is_proxied),
            is_admin=self.policy.is_admin(caller),
        )

    def _check_way(self, client: Client) -> None:
        if not may_come_by_proxy(client, self.policy):
            raise KeyForbids(THROUGH_PROXY)

    async def _key_of(self, file: KeyFile, method: str, client: Client, fields: Fields) -> Key | None:
        """Return the API key that the credentials in `fields` belong to. Returns None if there are no credentials.
        Raises `KeyInvalid`, `KeyForbids` or `RateLimited` if the credentials are not accepted."""
        try:
            credentials = credentials_of(fields)
        except KeyInvalid:
            self._count_failure(client)
            raise
        if credentials is None:
            return None
        keys = await file.current()
        if credentials.secret is not None:
            key = self._accept(keys.find(credentials.secret), client)
        else:
            key = await self._key_of_sessions(keys, credentials.sessions)
            _check_address(key, client)
        if credentials.are_ambient and method not in _SAFE:
            self.check_origin(client, fields)
        return key

    async def _key_of_sessions(self, keys: Keys, cookies: Sequence[bytes]) -> Key:
        """Return the API key of the first valid session in `cookies`. Raises `SessionOver` if none is valid."""
        secrets = await self._session_secrets()
        for cookie in cookies:
            session = read(secrets, cookie, time.time())
            key = None if session is None else keys.living(session.name, session.digest, datetime.now(UTC))
            if key is not None:
                return key
        raise SessionOver("The session has ended: log in again.")

    def _accept(self, key: Key | None, client: Client) -> Key:
        """Return `key` if the client may use it. `key` is None if the client has sent an unknown secret. Raises
        `KeyInvalid` if the key is unknown or expired, `RateLimited` if the key is unknown and the client's network has
        already sent too many invalid keys, `KeyForbids` if the key does not allow the client's address."""
        if key is None:
            self._count_failure(client)
            raise KeyInvalid("The API key is unknown or was revoked: check it, or ask the operator for a new key.")
        if key.is_expired(datetime.now(UTC)):
            raise KeyInvalid("The API key has expired: ask the operator for a new key.")
        _check_address(key, client)
        return key

    def _count_failure(self, client: Client) -> None:
        self._tries.fail(network_of(client.address), time.monotonic())


def _check_address(key: Key, client: Client) -> None:
    if key.allows_address(client.address if client.is_known else ""):
        return
    if client.is_proxied and not client.is_known:
        raise KeyForbids(
            "This API key may only be used from certain addresses, and the server does not know the address of the "
            "client behind the proxy: its operator can list the proxy in TRUSTED_PROXIES."
        )
    raise KeyForbids("This API key may not be used from this client address: ask the operator to allow the address.")
