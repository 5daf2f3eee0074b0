"""Signed links as values: `sign` turns a `Link` into a token, `open_link` turns the token back. Pure.

A token is base64url (without padding) of

    key id (4 bytes) ‖ tag (16 bytes) ‖ ciphertext

The ciphertext is the link as MessagePack, compressed by zlib if that is shorter, then encrypted and authenticated. So
the holder of a link can neither read the page's address nor change a parameter.

The authenticated encryption is SIV (Rogaway and Shrimpton, 2006): the tag is HMAC-SHA256 of the plaintext, truncated to
128 bits, and also the initial counter of AES-256-CTR. There is no nonce. With AES-GCM, two links that share a nonce
would reveal their contents and allow forgeries; a random nonce may repeat in a copied virtual machine, and a counter
would need state that all processes and replicas share. With SIV, two links have the same counter only if they are
equal, and that is all that their tokens reveal; each link has a random `id`. RFC 5297 specifies SIV with CMAC in place
of HMAC, which takes ten times as long in pycryptodomex.

Both keys and their id come from LINK_SECRET by HKDF (RFC 5869). The id only tells which secret signed a token: it is
not secret, and after a rotation only the matching secret is tried. The label of HKDF names the format, so that a later
format has other ids.
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
"""Seconds for which an expired link still opens, because the clocks of two machines may differ."""
DIGEST_BYTES = 8
"""Number of bytes of the issuing key's digest that a link carries: enough to tell a key from another one that was added
later under the same name."""
MAX_TOKEN_CHARACTERS = 16 * 1024
"""Maximum length of a token. Longer request targets fail at many proxies, and beyond 32 KiB at this server."""

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
"""What links usually contain, the most usual last. zlib refers to it, so a change would make another format."""
_IPV6_PREFIX = 64
"""Prefix of the IPv6 addresses of one customer: a device changes the rest of its address every day."""

Network = IPv4Network | IPv6Network
Value = str | int | float | bool


_SHORT = {
    "url": "u", "expires": "e", "id": "i", "route": "r", "params": "p", "key": "k", "digest": "d",
    "by_operator": "o", "packed_network": "n", "uses": "c", "max_bytes": "b",
}  # fmt: skip
"""Names of the fields of a link in its token."""


class Link(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, rename=_SHORT):
    """What a signed link allows: one route with fixed parameters, for some time.

    `params` are the parameters of the route other than `url`, without those that have their default. `expires` is in
    seconds since the epoch. `key` and `digest` name the API key that issued the link, with the first `DIGEST_BYTES` of
    its digest; both are empty if there was none. `by_operator` is whether the operator signed the link on the command
    line. `uses` limits how often the media may be requested from its beginning,
    `max_bytes` the bytes that are sent in all; None means that there is no limit."""

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
        """The network that may use the link; None for all."""
        return unpack_network(self.packed_network) if self.packed_network else None

    @property
    def is_counted(self) -> bool:
        """Whether the uses or the bytes of the link are limited."""
        return self.uses is not None or self.max_bytes is not None

    def admits(self, address: str) -> bool:
        """Return whether a client at `address` may use the link. Only a link without a network admits a client whose
        address is not an IP address."""
        network = self.network
        if network is None:
            return True
        try:
            return _unmapped(ip_address(address)) in network
        except ValueError:
            return False


@dataclass(frozen=True, slots=True)
class LinkKey:
    """The keys that are derived from one LINK_SECRET, and their public id."""

    id: bytes
    mac: bytes = field(repr=False)
    cipher: bytes = field(repr=False)


def derive(secret: str) -> LinkKey:
    """Derive the keys of a LINK_SECRET. The secret must be hard to guess: HKDF does not slow down a search."""
    from Cryptodome.Hash import SHA256  # imported late, as in `_crypt`
    from Cryptodome.Protocol.KDF import HKDF

    derived = HKDF(secret.encode(), 2 * _KEY_BYTES + _ID_BYTES, b"", SHA256, context=_LABEL)
    assert isinstance(derived, bytes)  # a list only if several keys are asked for
    return LinkKey(derived[2 * _KEY_BYTES :], derived[:_KEY_BYTES], derived[_KEY_BYTES : 2 * _KEY_BYTES])


def sign(link: Link, key: LinkKey) -> str:
    """Return the token of `link`. Raises `InvalidParameter` if the token would be too long, or if a parameter cannot be
    encoded."""
    try:
        body = msgspec.msgpack.encode(link)
    except (OverflowError, UnicodeEncodeError) as error:
        raise InvalidParameter("A parameter of the link is too large, or not valid Unicode.") from error
    shorter = _deflate(body)
    plain = _DEFLATED + shorter if len(shorter) < len(body) else _PLAIN + body
    tag = _tag(key, plain)
    token = _encode(key.id + tag + _crypt(key, tag, plain))
    if len(token) > MAX_TOKEN_CHARACTERS or len(body) > _MAX_BODY_BYTES:
        raise InvalidParameter("The parameters are too long for a link.")
    return token


def open_link(token: str, keys: Sequence[LinkKey], now: float) -> Link:
    """Return the link that `token` stands for. `keys` are those of all secrets that may have signed it. Raises
    `LinkInvalid` if none of them did, `LinkExpired` if the link's time is over."""
    data = _decode(token)
    signer, tag, ciphertext = data[:_ID_BYTES], data[_ID_BYTES:][:_TAG_BYTES], data[_ID_BYTES + _TAG_BYTES :]
    for key in keys:
        if key.id == signer and len(tag) == _TAG_BYTES:
            plain = _crypt(key, tag, ciphertext)
            if not hmac.compare_digest(_tag(key, plain), tag):
                continue  # another secret may have the same id
            link = _parse(plain)
            if link.expires + SKEW_SECONDS <= now:
                raise LinkExpired("This link has expired: ask for a new one.")
            return link
    raise _invalid()


def pack_network(text: str) -> bytes:
    """Return a network as a link carries it: the length of its prefix, and the bytes of the prefix. `text` is a network
    or the address of a client; an IPv6 address stands for its /64. Raises ValueError if `text` is neither."""
    network = ip_network(text, strict=False)
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is not None:
        network = ip_network((mapped, network.prefixlen - 96), strict=False)
    elif "/" not in text and network.version == 6:
        network = network.supernet(new_prefix=_IPV6_PREFIX)
    version = b"\4" if network.version == 4 else b"\6"
    return version + bytes([network.prefixlen]) + network.network_address.packed[: -(-network.prefixlen // 8)]


def unpack_network(packed: bytes) -> Network:
    """Return the network that `pack_network` has packed. Raises ValueError if `packed` is not a network."""
    kind: type[IPv4Network] | type[IPv6Network] = IPv4Network if packed[:1] == b"\4" else IPv6Network
    width = 4 if kind is IPv4Network else 16
    return kind((packed[2:].ljust(width, b"\0"), packed[1]))


def _unmapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    return getattr(address, "ipv4_mapped", None) or address


def _parse(plain: bytes) -> Link:
    """Return the link in an authentic body. Raises `LinkInvalid` if another version of the server made the body and
    this version does not know all of its fields, because an unknown field may limit the link."""
    try:
        body = plain[1:] if plain[:1] == _PLAIN else _inflate(plain[1:])
        return msgspec.msgpack.decode(body, type=Link)
    except (msgspec.MsgspecError, zlib.error):
        raise _invalid() from None


def _invalid() -> LinkInvalid:
    return LinkInvalid("This link is not valid here: it may be incomplete, or the server's secret has changed.")


def _deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(9, wbits=-15, zdict=_USUAL)
    return packer.compress(data) + packer.flush()


def _inflate(data: bytes) -> bytes:
    return zlib.decompressobj(wbits=-15, zdict=_USUAL).decompress(data, _MAX_BODY_BYTES)


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(token: str) -> bytes:
    """Decode a token that is written exactly as `_encode` writes it, so that no two tokens stand for the same link.
    Raises `LinkInvalid` if the token is written otherwise."""
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
    """Encrypt or decrypt `data` with the counter that begins at `tag`."""
    from Cryptodome.Cipher import AES  # imported late: it takes 5 MB, and few servers issue links

    return bytes(AES.new(key.cipher, AES.MODE_CTR, nonce=b"", initial_value=tag).encrypt(data))
