"""The format of signed links: `sign` encodes a `Link` as a token, and `open_link` decodes the token. Pure.

A token is the base64url encoding (without padding) of

    key id (4 bytes) ‖ tag (16 bytes) ‖ ciphertext

The plaintext is the link as MessagePack, compressed by zlib if that makes it shorter. It is encrypted and
authenticated, so the holder of a link can neither read the URL of the page nor change a parameter.

The authenticated encryption is SIV (Rogaway and Shrimpton, 2006): the tag is HMAC-SHA256 of the plaintext, truncated to
128 bits, and also the initial counter of AES-256-CTR. There is no nonce. With AES-GCM, two links with the same nonce
would reveal their contents and allow forgeries: a random nonce may repeat in a copied virtual machine, and a counter as
nonce would need state that all processes and replicas share. With SIV, only equal links have the same initial counter,
and their tokens reveal only that the links are equal. Each link has a random `id`, so that no two links are equal. RFC
5297 specifies SIV with CMAC in place of HMAC, but in pycryptodomex CMAC takes ten times as long as HMAC.

The encryption key, the authentication key and the key id are derived from LINK_SECRET by HKDF (RFC 5869). The key id is
not secret. It tells which secret signed a token, so that `open_link` tries only that secret after a rotation. The HKDF
label names the version of the format, so that keys of a later format have different ids.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import msgspec

from serverpy.errors import InvalidParameter, LinkExpired, LinkInvalid

SKEW_SECONDS = 60
"""Seconds for which a link stays valid after it has expired, because the clocks of two machines may differ."""
DIGEST_BYTES = 8
"""Number of bytes of a key's SHA-256 that a link contains: enough to tell the API key that issued the link from a later
key with the same name."""
MAX_TOKEN_CHARACTERS = 16 * 1024
"""Maximum length of a token in characters. Many proxies refuse longer URLs, and this server refuses URLs over 32
KiB."""

_LABEL = b"serverpy signed link 1"
_ID_BYTES = 4
_TAG_BYTES = 16
_KEY_BYTES = 32
_MAX_BODY_BYTES = 64 * 1024
_PLAIN, _DEFLATED = b"\0", b"\1"
_USUAL = (
    b"subsabrmax_sizecodecheightstartendfeedarchivestream.m3u8itemmethodembeddedrelayfilename.mp3.mp4bestvideobestaudio"
    b"[height<=720][height<=1080][ext=mp4][ext=m4a]bv*+ba/bformatdownload\xc3tomp4tom4atomp3.html.m3u8.com/.org/.net/"
    b"/video//videos/playlist?list=/watch?v=https://youtu.be/https://www.tiktok.com/@https://www.youtube.com/watch?v="
)
"""The preset dictionary for zlib: texts that links often contain, the most frequent ones last. A change of the
dictionary would make existing links invalid."""
_IPV6_PREFIX = 64
"""Prefix length, in bits, of the IPv6 network of one customer. A device may change the other bits of its address every
day."""

Network = IPv4Network | IPv6Network
Value = str | int | float | bool


_SHORT = {
    "url": "u", "expires": "e", "id": "i", "route": "r", "params": "p", "key": "k", "digest": "d",
    "by_operator": "o", "packed_network": "n", "uses": "c", "max_bytes": "b",
}  # fmt: skip
"""Short names of the fields of a `Link` in a token."""


class Link(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, rename=_SHORT):
    """What a signed link allows: requests to one route of the HTTP API with fixed parameters, until the link expires.

    `params` are the parameters of the route other than `url`, without those that have their default value. `expires` is
    in seconds since 1970. `key` is the name of the API key that issued the link, and `digest` the first `DIGEST_BYTES`
    of the key's SHA-256; both are empty if the link was issued without a key. `by_operator` states whether the operator
    signed the link on the command line. `uses` limits how often clients may request the media from its beginning, and
    `max_bytes` the total number of bytes that the server sends. None means no limit."""

    url: str
    expires: int
    id: bytes
    route: str = "stream"
    params: dict[str, Value] = {}
    key: str = ""
    digest: bytes = b""
    by_operator: bool = False
    packed_network: bytes = b""
    uses: int | None = None
    max_bytes: int | None = None

    @property
    def network(self) -> Network | None:
        """The network whose clients may use the link. None if all clients may use it."""
        return unpack_network(self.packed_network) if self.packed_network else None

    @property
    def is_counted(self) -> bool:
        """Whether the link limits its uses or the bytes that are sent."""
        return self.uses is not None or self.max_bytes is not None

    def admits(self, address: str) -> bool:
        """Return whether a client at `address` may use the link. If `address` is not an IP address, returns True only
        for a link without a network."""
        network = self.network
        if network is None:
            return True
        try:
            return _unmapped(ip_address(address)) in network
        except ValueError:
            return False


@dataclass(frozen=True, slots=True)
class LinkKey:
    """The keys that are derived from one secret: `mac` for HMAC, `cipher` for AES. `id` identifies them in a token."""

    id: bytes
    mac: bytes = field(repr=False)
    cipher: bytes = field(repr=False)


def derive(secret: str) -> LinkKey:
    """Derive the keys for signed links from a secret of LINK_SECRET. The secret must be hard to guess, because HKDF
    does not slow down an attacker who tries many secrets."""
    # Late imports, for the reason given in `_crypt`. This function also imports AES, which only `_crypt` uses: the
    # import takes 40 ms, and `_crypt` runs in the event loop. The server calls this function in a thread, and before
    # `_crypt`, which needs its result.
    from Cryptodome.Cipher import AES  # noqa: F401
    from Cryptodome.Hash import SHA256
    from Cryptodome.Protocol.KDF import HKDF

    derived = HKDF(secret.encode(), 2 * _KEY_BYTES + _ID_BYTES, b"", SHA256, context=_LABEL)
    assert isinstance(derived, bytes)  # HKDF returns a list only if it derives several keys
    return LinkKey(derived[2 * _KEY_BYTES :], derived[:_KEY_BYTES], derived[_KEY_BYTES : 2 * _KEY_BYTES])


def sign(link: Link, key: LinkKey) -> str:
    """Return the token of `link`, encrypted and authenticated with `key`. Raises `InvalidParameter` if the token would
    be too long, or if a parameter cannot be encoded."""
    try:
        body = msgspec.msgpack.encode(link)
    except (OverflowError, UnicodeEncodeError) as error:
        raise InvalidParameter(
            "A parameter of the link is a number that is too large, or text that is not valid Unicode."
        ) from error
    shorter = _deflate(body)
    plain = _DEFLATED + shorter if len(shorter) < len(body) else _PLAIN + body
    tag = _tag(key, plain)
    token = _encode(key.id + tag + _crypt(key, tag, plain))
    if len(token) > MAX_TOKEN_CHARACTERS or len(body) > _MAX_BODY_BYTES:
        raise InvalidParameter("The parameters are too long for a signed link: shorten `url`, `format` or `filename`.")
    return token


def open_link(token: str, keys: Sequence[LinkKey], now: float) -> Link:
    """Return the link in `token`. `keys` are the keys of all secrets of the server. Raises `LinkInvalid` if `token` is
    malformed or none of the secrets signed it, `LinkExpired` if the link has expired at `now`."""
    data = _decode(token)
    signer, tag, ciphertext = data[:_ID_BYTES], data[_ID_BYTES:][:_TAG_BYTES], data[_ID_BYTES + _TAG_BYTES :]
    for key in keys:
        if key.id == signer and len(tag) == _TAG_BYTES:
            plain = _crypt(key, tag, ciphertext)
            if not hmac.compare_digest(_tag(key, plain), tag):
                continue  # try the next key, because two secrets may have the same key id
            link = _parse(plain)
            if link.expires + SKEW_SECONDS <= now:
                raise LinkExpired("This link has expired: ask for a new link.")
            return link
    raise _invalid()


def pack_network(text: str) -> bytes:
    """Encode a network for a token: one byte each for the IP version and the prefix length, then the bytes of the
    prefix. `text` is an IP address, or a network in CIDR notation; an IPv6 address stands for its /64. Raises
    ValueError if `text` is neither."""
    network = ip_network(text, strict=False)
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is not None:
        network = ip_network((mapped, network.prefixlen - 96), strict=False)
    elif "/" not in text and network.version == 6:
        network = network.supernet(new_prefix=_IPV6_PREFIX)
    version = b"\4" if network.version == 4 else b"\6"
    return version + bytes([network.prefixlen]) + network.network_address.packed[: -(-network.prefixlen // 8)]


def unpack_network(packed: bytes) -> Network:
    """Return the network that `pack_network` has encoded as `packed`. Raises ValueError if the network is invalid."""
    kind: type[IPv4Network] | type[IPv6Network] = IPv4Network if packed[:1] == b"\4" else IPv6Network
    width = 4 if kind is IPv4Network else 16
    return kind((packed[2:].ljust(width, b"\0"), packed[1]))


def _unmapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    return getattr(address, "ipv4_mapped", None) or address


def _parse(plain: bytes) -> Link:
    """Decode the plaintext of an authentic token. Raises `LinkInvalid` if the link has a field that this version of the
    server does not know, because the field may limit the link."""
    try:
        body = plain[1:] if plain[:1] == _PLAIN else _inflate(plain[1:])
        return msgspec.msgpack.decode(body, type=Link)
    except (msgspec.MsgspecError, zlib.error):
        raise _invalid() from None


def _invalid() -> LinkInvalid:
    return LinkInvalid(
        "Invalid link: the URL may be incomplete, or the secret of the server has changed. Ask for a new link."
    )


def _deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(9, wbits=-15, zdict=_USUAL)
    return packer.compress(data) + packer.flush()


def _inflate(data: bytes) -> bytes:
    return zlib.decompressobj(wbits=-15, zdict=_USUAL).decompress(data, _MAX_BODY_BYTES)


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(token: str) -> bytes:
    """Decode a token from base64url. Raises `LinkInvalid` if `_encode` would encode the same bytes as a different text,
    so that no two tokens contain the same link."""
    if len(token) <= MAX_TOKEN_CHARACTERS and token.isascii():
        try:
            data = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        except binascii.Error:
            raise _invalid() from None
        if _encode(data) == token:
            return data
    raise _invalid()


def _tag(key: LinkKey, plain: bytes) -> bytes:
    return hmac.digest(key.mac, plain, "sha256")[:_TAG_BYTES]


def _crypt(key: LinkKey, tag: bytes, data: bytes) -> bytes:
    """Encrypt or decrypt `data` with AES-CTR and the initial counter `tag`."""
    from Cryptodome.Cipher import AES  # a late import, because it takes 5 MB of memory, and few servers issue links

    return bytes(AES.new(key.cipher, AES.MODE_CTR, nonce=b"", initial_value=tag).encrypt(data))
